"""What `analyze --plot` draws: the spectra of a model, or the rank of a run, in lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.text import Text

from rankscope.figures.columns import Drawn, drawn_columns, norm_asked
from rankscope.figures.groups import largest_kinds, mean
from rankscope.figures.spectra import median
from rankscope.figures.words import distinct, short_kinds
from rankscope.metrics.thresholded import shares
from rankscope.rows import Row
from rankscope.scene import Scene
from rankscope.text import inert, shortened_names
from rankscope.views.curves import Point, axis_of, plot
from rankscope.views.layout import last_step
from rankscope.views.numbers import number
from rankscope.views.sweep import run_names

if TYPE_CHECKING:
    from rankscope.figures.spectra import Vector

    Spectra = dict[str, Vector]  # by matrix

MANY_SOURCES = 4  # checkpoints; a plot of more is no longer seen at once

NAMED = 3  # of those that are not drawn

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
        heading: a line above it; empty for none.
    """

    name: str
    points: Sequence[Point]
    ends: tuple[str, str]
    told: str
    height: int = HEIGHT
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Curves on one horizontal axis.

    Attributes:
        title: above them.
        curves: downwards.
        axis: its first and last place.
        left: what its first place is called.
        right: what its last place is called.
        notes: sentences below them.
    """

    title: str
    curves: Sequence[Curve]
    axis: tuple[int, int]
    left: str
    right: str
    notes: Sequence[str] = ()


def text_plot(scene: Scene, width: int) -> list[Text]:
    """Lines of a terminal with so many columns; none where there is nothing to draw.

    Of a model its spectra, of a run its first metric; of several runs nothing.
    """
    if len(scene.table.runs) > 1:
        return []
    drawing = _over_steps(scene) if scene.kind == "run" else _spectra(scene)
    return _lines(drawing, width) if drawing.curves else []


def _spectra(scene: Scene) -> Drawing:
    """A curve a matrix, or (of many) the median of a kind of layers; checkpoint by checkpoint."""
    norm = norm_asked(scene.table)
    column = drawn_columns(scene.table, None)[0]
    by_source: dict[str, Spectra] = {}
    for curve in scene.curves:
        by_source.setdefault(curve.source, {})[curve.name] = shares(curve.spectrum, norm)
    sources = list(dict.fromkeys(row["source"] for row in scene.table.matrices))
    names = run_names([{"source": source} for source in sources])
    drawn = {source: by_source[source] for source in sources if source in by_source}
    drawn = dict(list(drawn.items())[:MANY_SOURCES])
    longest = max((len(one) for found in drawn.values() for one in found.values()), default=1)
    curves: list[Curve] = []
    several = False
    for source, name in zip(sources, names, strict=True):
        rows = last_step([row for row in scene.table.matrices if row["source"] == source])
        groups = _groups([row for row in rows if row["name"] in drawn.get(source, ())])
        several = several or any(len(group) > 1 for group in groups.values())
        own = [_spectrum(told, of, drawn[source], column, longest) for told, of in groups.items()]
        heading = name if len(sources) > 1 else ""
        curves += [replace(one, heading="" if i else heading) for i, one in enumerate(own)]
    scale = "logarithmic" if longest <= LINEAR else "both logarithmic"
    over = {"frobenius": " over ||W||", "spectral": " over the largest", "none": ""}[norm]
    title = f"singular values{over}, by index, {scale}; {_head(column)}"
    notes = [f"of several matrices the median curve and the mean {column.words}"] * several
    rest = [name for source, name in zip(sources, names, strict=True) if source not in drawn]
    notes += _left_out(rest, len(sources))
    axis = (_place(1, longest), _place(longest, longest))
    return Drawing(title, curves, axis, "1", str(longest), notes)


def _spectrum(
    name: str, group: Sequence[Row], spectra: Spectra, column: Drawn, longest: int
) -> Curve:
    """A curve; of a single value a dot, and of a zero matrix words alone."""
    sigma = median([spectra[row["name"]] for row in group])
    kept = sigma[sigma > SHOWN * sigma[0]]
    if not len(kept):
        return Curve(name, (), ("", ""), "all 0", 1)
    points = [(_place(i, longest), math.log10(one)) for i, one in enumerate(kept.tolist(), 1)]
    ends = (_power(kept[0]), _power(kept[-1]) if len(kept) > 1 else "")
    full = max(min(row["shape"]) for row in group)
    value = f"{column.words} {_short(mean(group, column.key))}"
    told = value + (f" of {full}" if column.counts else "")
    return Curve(name, points, ends, told, HEIGHT if len(kept) > 1 else 1)


def _left_out(names: Sequence[str], count: int) -> list[str]:
    """A sentence on the checkpoints, of so many, that are not drawn; none where all are."""
    listed = ", ".join(names[:NAMED]) + (", ..." if names[NAMED:] else "")
    return [f"not drawn: {len(names)} of {count} checkpoints, {listed}"] if names else []


def _head(column: Drawn) -> str:
    """The metric and its threshold."""
    return ", ".join(part for part in (column.words, column.threshold) if part)


def _short(value: float) -> str:
    """A value as a person reads it, a whole one without decimals."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "inf"
    return number(int(value) if value.is_integer() else value)


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e+")


def _place(index: int, longest: int) -> int:
    """Where an index stands on the axis."""
    return index if longest <= LINEAR else round(PLACES * math.log10(index))


def _over_steps(scene: Scene) -> Drawing:
    """The mean, and below it a curve a matrix, or (of many) the mean of a kind of layers."""
    table = scene.table
    column = drawn_columns(table, None)[0]
    last = {row["name"]: row for row in table.matrices}
    at: dict[int, dict[str, Row]] = {row["step"]: {} for row in table.summary}
    for row in table.matrices:
        at[row["step"]][row["name"]] = row
    whole = [
        mean([one for one in at[row["step"]].values() if one["averaged"] is not False], column.key)
        if row[column.key] is None
        else float(row[column.key])
        for row in table.summary
    ]
    found = [_curve("mean", list(zip(at, whole, strict=True)), TALL)]
    groups = _groups(list(last.values()))
    for name, group in groups.items():
        rows = [
            [there[row["name"]] for row in group if row["name"] in there] for there in at.values()
        ]
        values = [mean(each, column.key) for each in rows]
        found.append(_curve(name, list(zip(at, values, strict=True)), 1))
    steps = list(at)
    notes = ["of several matrices the mean"] * any(len(group) > 1 for group in groups.values())
    axis = (steps[0], steps[-1])
    return Drawing(_head(column), found, axis, f"step {steps[0]}", str(steps[-1]), notes)


def _curve(name: str, values: Sequence[Point], height: int) -> Curve:
    """A curve of what is finite; how much is infinite is told."""
    points = [(step, value) for step, value in values if math.isfinite(value)]
    known = [value for _, value in values if not math.isnan(value)]
    if not known:
        return Curve(name, (), ("", ""), "no value", 1)
    told = f"{_short(known[0])} to {_short(known[-1])}"
    infinite = len(known) - len(points)
    told += f", {infinite} infinite not drawn" if infinite else ""
    if not points:
        return Curve(name, (), ("", ""), told, 1)
    low, high = axis_of([value for _, value in points])
    return Curve(name, points, (_short(high), _short(low)), told, height)


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
        lines += [Text(inert(curve.heading), style="bold")] if curve.heading else []
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
    lines.append(Text(f"{'':{left + scale}}{ends}", style="dim"))
    return [*lines, *(Text(inert(note), style="dim") for note in drawing.notes)]
