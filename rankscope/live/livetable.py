"""The table of a run that is followed: as many columns as fit, and each matrix's course."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from rankscope.live.picture import Line, Measurements
from rankscope.text import inert, shortened_names
from rankscope.trajectory import EXACT, VACUOUS
from rankscope.views.cells import cell, split_key
from rankscope.views.curves import Steps, sparkline
from rankscope.views.layout import FILLER
from rankscope.views.numbers import number

GAP = 2  # blanks between columns

LEAST_NAME = 18  # characters of a matrix's name that stay before columns are left out
LEAST_CURVE = 10  # characters in which a course can be seen
FAIR_CURVE = 16  # before there is room for less needed columns
MOST_CURVE = 40


@dataclass(frozen=True, slots=True)
class Frame:
    """What the table has to fit.

    Attributes:
        width: in characters.
        steps: the first and the last of all curves.
        blocks: whether block characters can be shown.
    """

    width: int
    steps: Steps
    blocks: bool


@dataclass(frozen=True, slots=True)
class _Column:
    """One column: its heading, in lines, and its cells."""

    heading: str
    cells: Sequence[Text]
    left: bool = False

    @property
    def width(self) -> int:
        words = [len(word) for word in self.heading.split("\n")]
        return max([*words, *(len(one) for one in self.cells)])


def live_table(found: Measurements, lines: Sequence[Line], frame: Frame) -> tuple[Table, str]:
    """The lines of a run as a table, and what a wider one would show.

    Two lines of headings and a rule stand above them.
    """
    first, *numbers = [
        _Column(heading.replace(" ", "\n", 1), [_value(line, key) for line in lines])
        for key, heading in zip(found.keys, found.headings, strict=True)
    ]
    changes = [Text(_change(line)) for line in lines]
    front = [first, _Column(f"since\nstep {found.steps[0]}", changes)]
    if any(line.count > 1 for line in lines[:-1]):
        front.insert(0, _Column("n", [Text(str(line.count)) for line in lines]))
    least = LEAST_NAME + LEAST_CURVE + GAP + _wide(front)
    back = _fitting(numbers, frame.width - least)
    spare = frame.width - least - _wide(back)
    names = _names(lines, LEAST_NAME + spare)
    spare -= max(0, names.width - LEAST_NAME)
    shapes = _Column("shape", [Text(line.shape) for line in lines], left=True)
    if spare >= shapes.width + GAP + FAIR_CURVE - LEAST_CURVE:
        front.insert(0, shapes)
        spare -= shapes.width + GAP
    width = max(LEAST_CURVE, min(MOST_CURVE, LEAST_CURVE + spare))
    courses = _Column("over\nsteps", [_course(line, frame, width) for line in lines], left=True)
    styles = ["bold" if line is found.mean else "" for line in lines]
    left_out = ", ".join(found.headings[1 + len(back) :])
    note = f"a wider window shows {left_out}" if left_out else ""
    return _assembled([names, *front, courses, *back], styles), note


def _names(lines: Sequence[Line], width: int) -> _Column:
    """The labels in at most so many characters each."""
    whole = [inert(line.label) for line in lines]
    if max(map(len, whole)) > width:
        whole = [label.replace(FILLER, "", 1) for label in whole]
    shown = shortened_names(whole, max(LEAST_NAME, width))
    return _Column("matrix", [Text(label) for label in shown], left=True)


def _assembled(shown: Sequence[_Column], styles: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for column in shown:
        # Two lines always: how high the table is must be known.
        heading = column.heading if "\n" in column.heading else f"\n{column.heading}"
        head = Text(heading, style="bold")
        table.add_column(head, justify="left" if column.left else "right", no_wrap=True)
    for index, style in enumerate(styles):
        table.add_row(*(column.cells[index] for column in shown), style=style)
    return table


def _fitting(columns: Sequence[_Column], room: int) -> Sequence[_Column]:
    """The first columns, as many as there is room for."""
    count = len(columns)
    while count and _wide(columns[:count]) > room:
        count -= 1
    return columns[:count]


def _wide(columns: Sequence[_Column]) -> int:
    return sum(column.width + GAP for column in columns)


def _value(line: Line, key: str) -> Text:
    """A value; a bound that says nothing stands back, and what has none tells why."""
    if line.status:
        return Text("")
    name, rest = split_key(key)
    vacuous = name == EXACT and line.row.get(f"{VACUOUS}{rest}") in (True, 1.0)
    return Text(cell(line.row, key), style="dim" if vacuous else "")


def _change(line: Line) -> str:
    change = line.change
    if change is None or change == 0:
        return "" if change is None else "0"
    return ("+" if change > 0 else "-") + number(abs(change))


def _course(line: Line, frame: Frame, width: int) -> Text:
    if line.status:
        return Text(line.status[:width], style="bold yellow")
    drawing = sparkline(line.points, frame.steps, width, blocks=frame.blocks)
    return Text(drawing, style="cyan")
