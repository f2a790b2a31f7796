"""What `analyze --plot` draws: the spectra of a model, or the rank of a run, in lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from rankscope.figures.columns import Drawn, drawn_columns, norm_asked
from rankscope.figures.groups import largest_kinds, middle
from rankscope.figures.spectra import median, shares
from rankscope.figures.words import distinct, short_kinds
from rankscope.rows import Row
from rankscope.scene import Scene
from rankscope.text import inert, shortened_names
from rankscope.views.curves import Point, plot
from rankscope.views.layout import last_step
from rankscope.views.numbers import number

MANY = 8  # curves below each other; of more matrices, the kinds of layers

HEIGHT = 3  # lines of a curve

TALL = 6  # lines of the mean

NAME = 28  # columns of a name, at most

LEAST = 16  # columns of a curve; a narrower terminal breaks lines

GAP = 2  # columns

# As of a figure: longer spectra have a logarithmic index, and values below that share of the
# largest are rounding noise of float32.
LINEAR, SHOWN = 256, 1e-5

PLACES = 1000  # on an axis that is no count of steps: more than a terminal has columns


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve and the words beside it.

    Attributes:
        name: before it.
        points: ascending.
        ends: of the vertical axis, the highest and the lowest, as a person reads them.
        told: behind it.
        height: in lines.
    """

    name: str
    points: Sequence[Point]
    ends: tuple[str, str]
    told: str
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class Drawing:
    """Curves on one horizontal axis.

    Attributes:
        title: above them.
        curves: downwards.
        axis: its first and last place.
        left: what its first place is called.
        right: what its last place is called.
    """

    title: str
    curves: Sequence[Curve]
    axis: tuple[int, int]
    left: str
    right: str


def text_plot(scene: Scene, width: int) -> list[Text]:
    """Lines of a terminal with so many columns; none where there is nothing to draw.

    Of a model its spectra, of a run its first metric; of several runs nothing.
    """
    if scene.kind == "sweep":
        return []
    drawing = _over_steps(scene) if scene.kind == "run" else _spectra(scene)
    return _lines(drawing, width) if drawing.curves else []


def _spectra(scene: Scene) -> Drawing:
    """A curve a matrix, or (of many) the median of a kind of layers."""
    norm = norm_asked(scene.table)
    rows = {row["name"]: row for row in last_step(scene.table.matrices) if row["status"] == "ok"}
    spectra = {curve.name: shares(curve.spectrum, norm) for curve in scene.curves}
    groups = _groups([row for name, row in rows.items() if name in spectra])
    column = drawn_columns(scene.table, None)[0]
    longest = max((len(one) for one in spectra.values()), default=1)
    curves = []
    for name, group in groups.items():
        sigma = median([spectra[row["name"]] for row in group])
        kept = sigma[sigma > SHOWN * sigma[0]]
        if len(kept) < 2:
            continue
        points = [(_place(i, longest), math.log10(one)) for i, one in enumerate(kept.tolist(), 1)]
        full = max(min(row["shape"]) for row in group)
        value = _short(middle([row[column.key] for row in group]))
        told = f"{column.words} {value}" + (f" of {full}" if column.counts else "")
        curves.append(Curve(name, points, (_power(kept[0]), _power(kept[-1])), told))
    scale = "logarithmic" if longest <= LINEAR else "both logarithmic"
    over = {"frobenius": " over ||W||", "spectral": " over the largest", "none": ""}[norm]
    title = f"singular values{over}, by index, {scale}; {_head(column)}"
    return Drawing(title, curves, (_place(1, longest), _place(longest, longest)), "1", str(longest))


def _head(column: Drawn) -> str:
    """The metric and its threshold."""
    return ", ".join(part for part in (column.words, column.threshold) if part)


def _short(value: float) -> str:
    """A value as a person reads it, a whole one without decimals."""
    return number(int(value) if value.is_integer() else value)


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e+")


def _place(index: int, longest: int) -> int:
    """Where an index stands on the axis."""
    return index if longest <= LINEAR else round(PLACES * math.log10(index))


def _over_steps(scene: Scene) -> Drawing:
    """The mean, and below it a curve a matrix, or (of many) the median of a kind of layers."""
    table = scene.table
    column = drawn_columns(table, None)[0]
    mean = [(row["step"], row[column.key]) for row in table.summary if row[column.key] is not None]
    found = [_curve("mean", mean, TALL)] if mean else []
    last = {row["name"]: row for row in table.matrices}
    at = {(row["name"], row["step"]): row[column.key] for row in table.matrices}
    steps = [row["step"] for row in table.summary]
    for name, group in _groups(list(last.values())).items():
        values = [(step, middle([at.get((row["name"], step)) for row in group])) for step in steps]
        points = [(step, value) for step, value in values if not math.isnan(value)]
        found += [_curve(name, points, 1)] if points else []
    return Drawing(_head(column), found, (steps[0], steps[-1]), f"step {steps[0]}", str(steps[-1]))


def _curve(name: str, points: Sequence[Point], height: int) -> Curve:
    values = [value for _, value in points]
    ends = (_short(float(max(values))), _short(float(min(values))))
    told = f"{_short(float(values[0]))} to {_short(float(values[-1]))}"
    return Curve(name, points, ends, told, height)


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """What has a curve: each matrix, or of many the largest kinds of layers."""
    if len(rows) <= MANY:
        return {row["name"]: [row] for row in rows}
    groups = largest_kinds(rows, MANY)
    names = distinct(list(short_kinds(list(groups)).values()))
    return dict(zip(names, groups.values(), strict=True))


def _lines(drawing: Drawing, width: int) -> list[Text]:
    names = shortened_names([inert(curve.name) for curve in drawing.curves], NAME)
    left = max(map(len, names)) + GAP
    scale = max(len(end) for curve in drawing.curves for end in curve.ends) + GAP
    told = max(len(curve.told) for curve in drawing.curves) + GAP
    room = max(LEAST, width - left - scale - told)
    lines = [Text(drawing.title, style="bold cyan")]
    for name, curve in zip(names, drawing.curves, strict=True):
        drawn = plot(curve.points, drawing.axis, room, curve.height)
        marks = [curve.ends[0], *[""] * (curve.height - 2), curve.ends[1]][: curve.height]
        for row, part in enumerate(drawn):
            line = Text(f"{'' if row else name:<{left}}")
            mark = "" if curve.height == 1 else marks[row]
            line.append(f"{mark:>{scale - GAP}}{'':{GAP}}", style="dim")
            line.append(part, style="cyan")
            line.append("" if row else f"{'':{GAP}}{curve.told}", style="bold")
            lines.append(line)
    ends = f"{drawing.left}{drawing.right:>{max(1, room - len(drawing.left))}}"
    return [*lines, Text(f"{'':{left + scale}}{ends}", style="dim")]
