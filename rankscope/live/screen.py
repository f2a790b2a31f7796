"""A picture as it is drawn on a screen of a given size: what does not fit is left out, and said."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from rankscope.live.livetable import Frame, live_table
from rankscope.live.picture import Line, Logged, Measurements, Picture
from rankscope.text import inert
from rankscope.views.curves import Steps, axis_of, plot, sparkline
from rankscope.views.numbers import number

GAP = 2  # blanks between columns
SMALL = 30  # lines; fewer have no room for more curves below the table than `FEW`
FEW = 2
MOST_HEIGHT = 5  # lines of such a curve
REMARK_LINES = 2  # of one remark
REMARK_SHARE = 6  # of the lines one in so many may be of remarks

HEADINGS = 3  # lines of the table's own: two of headings and a rule


@dataclass(frozen=True, slots=True)
class Screen:
    """Where it is drawn.

    Attributes:
        width: in columns.
        height: in lines.
        blocks: whether it can show block characters.
    """

    width: int
    height: int
    blocks: bool = True


def drawn(picture: Picture, screen: Screen, now: float) -> RenderableType:
    """The picture, in at most as many lines as the screen has, but for very low ones.

    Args:
        picture: what there is to be seen.
        screen: the size.
        now: seconds since the epoch.
    """
    top = [*_head(picture, screen, now), Text("")]
    bottom = _remarks(picture, screen)
    curves, steps = _chosen(picture, screen), _axis(picture)
    room = screen.height - len(top) - len(bottom)
    parts: list[RenderableType] = [*top]
    if picture.found.matrices:
        least = len(curves) + 1 if curves else 0  # a line each, and the axis
        lines, more = _lines(picture.found, room - least - HEADINGS - 1)
        shown, narrow = live_table(picture.found, lines, Frame(screen.width, steps, screen.blocks))
        notes = "; ".join(note for note in (more, narrow) if note)
        parts += [shown, Text(_cut(notes, screen.width), style="dim")]
        room -= HEADINGS + len(lines) + 1
    if curves:
        # A line for each; or several and a blank one.
        height = min(MOST_HEIGHT, (room - 1) // len(curves) - 1)
        parts += _curves(curves, steps, screen, height if screen.blocks else 1)
    return Group(*parts, *bottom)


def age(seconds: float) -> str:
    """How long ago, in one unit; by a clock that runs behind, no less than 0.

    >>> age(59.9), age(-5), age(3600 * 30)
    ('59 s', '0 s', '30 h')
    """
    for unit, size, most in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 48 * 3600)):
        if seconds < most:
            return f"{max(0, int(seconds / size))} {unit}"
    return f"{int(seconds / 86400)} days"


def progress(picture: Picture, now: float) -> str:
    """How far the run is, in words."""
    found = picture.found
    parts = []
    if found.steps:
        epoch = found.summary[-1].get("epoch")
        at = f"step {found.steps[-1]}" + (f" (epoch {epoch:g})" if epoch is not None else "")
        parts.append(f"{at}, {len(found.steps)} snapshot{'s' * (len(found.steps) > 1)}")
    if picture.newest is not None:
        parts.append(f"last {age(now - picture.newest)} ago")
    return ", ".join(parts)


def _head(picture: Picture, screen: Screen, now: float) -> list[Text]:
    """The directory, what is run, and how far it is."""
    state = {True: "writer at work", False: "no writer seen", None: ""}[picture.writing]
    room = screen.width - len(state) - GAP
    title = Text(_cut(picture.title, room), style="bold")
    title.pad_right(max(GAP, screen.width - len(title) - len(state)))
    title.append(state, style="green" if picture.writing else "yellow")
    lines = [title]
    if picture.about:
        lines.append(Text(_cut(picture.about, screen.width), style="dim"))
    if picture.waiting:
        lines += [Text(line) for line in textwrap.wrap(inert(picture.waiting), screen.width)]
    else:
        parts = (progress(picture, now), picture.doing)
        lines.append(Text(_cut("; ".join(part for part in parts if part), screen.width)))
    return lines


def _remarks(picture: Picture, screen: Screen) -> list[Text]:
    """The first remarks, each in a few lines, and how many more there are."""
    shown: list[Text] = []
    most = max(REMARK_LINES, screen.height // REMARK_SHARE)
    left = list(picture.remarks)
    while left and len(shown) < most:
        one = left.pop(0)
        folded = textwrap.wrap(
            inert(one.text), screen.width, max_lines=REMARK_LINES, placeholder=" …"
        )
        shown += [Text(line, style="yellow" if one.lacking else "dim") for line in folded]
    if left:
        shown.append(Text(f"{len(left)} more remark{'s' * (len(left) > 1)}", style="dim"))
    return [Text(""), *shown] if shown else []


def _lines(found: Measurements, room: int) -> tuple[Sequence[Line], str]:
    """The lines of the table: every matrix, or a line for each kind, or the first of these."""
    mean = [found.mean] if found.mean and len(found.matrices) > 1 else []
    if len(found.matrices) + len(mean) <= room:
        return [*found.matrices, *mean], ""
    if len(found.kinds) + len(mean) <= room:
        return [*found.kinds, *mean], ""
    shown = max(1, room - len(mean) - 1)
    left = len(found.kinds) - shown
    return [*found.kinds[:shown], *mean], f"{left} more: a higher window shows them"


def _chosen(picture: Picture, screen: Screen) -> list[Logged]:
    """What is drawn below the table: the mean, then what is logged; as much as there is room."""
    found = picture.found
    mean = []
    if found.mean and found.mean.points:
        ended = found.mean.points[-1][0] != found.mean.step
        mean = [Logged(found.headings[0], found.mean.points, ended)]
    there = [one for one in (*mean, *picture.logged) if one.points]
    return there[:FEW] if screen.height < SMALL else there


def _axis(picture: Picture) -> Steps:
    """The first and the last step of all curves."""
    ends = [step for one in picture.logged for step in (one.points[0][0], one.points[-1][0])]
    ends += picture.found.steps
    return (min(ends), max(ends)) if ends else (0, 1)


def _curves(curves: Sequence[Logged], steps: Steps, screen: Screen, height: int) -> list[Text]:
    """Curves below each other on one axis of steps, each with its value now."""
    scales = [_scale(one, height) for one in curves]
    ends = ["-" if one.ended else number(one.points[-1][1]) for one in curves]
    name = max(len(one.label) for one in curves)
    left = max(len(word) for scale in scales for word in scale)
    right = max(map(len, ends))
    width = max(1, screen.width - name - left - right - 3 * GAP)
    gap = " " * GAP
    lines = []
    for one, scale, end in zip(curves, scales, ends, strict=True):
        if height > 1:
            drawing = plot(one.points, steps, width, height)
        else:
            drawing = [sparkline(one.points, steps, width, blocks=screen.blocks)]
        for row, part in enumerate(drawing):
            line = Text(f"{'' if row else one.label:<{name}}{gap}")
            line.append(f"{scale[row]:>{left}}{gap}", style="dim")
            line.append(part, style="cyan")
            line.append("" if row else f"{gap}{end:>{right}}", style="bold")
            lines.append(line)
        lines += [Text("")] if height > 1 else []
    start, end = f"step {steps[0]}", str(steps[1])
    axis = f"{start}{end:>{max(1, width - len(start))}}"
    return [*lines, Text(" " * (name + left + 2 * GAP) + axis, style="dim")]


def _scale(one: Logged, height: int) -> list[str]:
    """What stands before each line of a curve: its first value, or the ends of its axis."""
    if height < 2:
        return [number(one.points[0][1])]
    low, high = axis_of([value for _, value in one.points])
    return [number(high), *[""] * (height - 2), number(low)]


def _cut(text: str, width: int) -> str:
    """The text in one line, its end left out where there is no room."""
    text = inert(text)
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
