"""Singular values against their index: of a model's layers, a run's snapshots, or several runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rankscope.figures import house
from rankscope.figures.columns import eps_of, measured_rows, norm_asked
from rankscope.figures.spectra import Drawing, Line, drawing_of
from rankscope.figures.words import SHARE, kind_title, threshold_words, titled
from rankscope.palette import LIGHT, shades
from rankscope.scene import Scene

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

LEAST_WIDTH = 1.6  # inches

HEIGHT = 1.35  # inches, of axes with a title in two lines

TALL = 2.6  # inches, where there is one pair of axes

# Where a spectrum is longer than this all have a logarithmic index, on which so many points are
# closer together than a line is wide.
LINEAR = 256
POINTS = 240

# What is shown of the singular values, of the largest one. Below it float32 weights have rounding
# noise, whose cliff would take all of the axis.
SHOWN = 1e-5

THRESHOLDS = ("--", "-.", ":", (0, (1, 3)))  # the styles of their lines


def spectrum_figure(scene: Scene, width: float) -> Figure:
    """Axes a kind of layers, a matrix, or (of few matrices) one pair for all.

    Raises:
        InputRejected: no matrix has a spectrum.
    """
    measured_rows(scene.table, scene.table.matrices)
    drawing = drawing_of(scene, norm_asked(scene.table))
    panels: dict[str, list[Line]] = {}
    for line in drawing.lines:
        panels.setdefault(line.panel, []).append(line)
    columns = house.columns_of(width, LEAST_WIDTH, len(panels))
    figure = _blank(scene, drawing, width, -(-len(panels) // columns) if len(panels) > 1 else 0)
    drawn = house.multiples(figure, len(panels), columns)
    entries: dict[str, Artist] = {}
    for axes, (title, lines) in zip(drawn, panels.items(), strict=True):
        entries |= _spectra(axes, lines)
        axes.set_title(kind_title(title, int(width / columns * house.LETTERS)))
        axes.set_ylabel(SHARE[norm_asked(scene.table)])
    for axes in drawn[-columns:]:
        axes.set_xlabel("index")
    entries |= _thresholds(drawn, scene)
    _scales(drawn, drawing.lines, eps_of(scene.table))
    house.only_outer_labels(drawn, columns)
    if drawing.depths:
        ends = (str(drawing.depths[0]), str(drawing.depths[-1]))
        colours = shades(len(drawing.depths), LIGHT.span)
        house.colour_bar(figure, drawn, colours, ends, "layer", house.bar_pad(figure))
    house.legend_below(figure, entries)
    return figure


def _blank(scene: Scene, drawing: Drawing, width: float, bands: int) -> Figure:
    """The empty figure, as high as its rows of axes need; 0 of them for one pair of axes."""
    words = "singular values"
    if scene.kind == "sweep":
        words += " at the end of each run"
    if any(line.members > 1 for line in drawing.lines):
        words += ", medians where a line stands for several matrices"
    told = list(dict.fromkeys(line.told for line in drawing.lines if line.told))
    height = house.HEAD + (bands * HEIGHT or TALL) + house.BAR * bool(drawing.depths)
    height += house.LEGEND * house.legend_rows(width, [*told, *map(str, eps_of(scene.table))])
    return house.blank(width, height, titled(scene.table, words))


def _spectra(axes: Axes, lines: Sequence[Line]) -> dict[str, Artist]:
    """Draws the lines of one pair of axes; returns what the legend says of them."""
    entries: dict[str, Artist] = {}
    for line in lines:
        indices = sampled(len(line.values))
        (artist,) = axes.plot(
            indices,
            line.values[indices - 1],
            color=line.look.colour,
            linestyle=line.look.style,
            linewidth=0.9,
            marker="o" if len(line.values) == 1 else "",  # a single point is no line
        )
        zero = not line.values[0] > 0
        if line.told:
            entries[f"{line.told} (all 0)" if zero else line.told] = artist
    if not any(line.values[0] > 0 for line in lines):
        _say(axes, "all 0")
    elif all(len(line.values) == 1 for line in lines):
        _say(axes, "one singular\nvalue each" if len(lines) > 1 else "one singular value")
    return entries


def _say(axes: Axes, words: str) -> None:
    """Words in the midst of axes that have no line, over whatever threshold passes there."""
    axes.text(
        0.5,
        0.5,
        words,
        transform=axes.transAxes,
        ha="center",
        va="center",
        color=LIGHT.muted,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )


def sampled(length: int) -> NDArray[np.int64]:
    """Which of so many singular values are drawn: their indices from 1, ascending."""
    if length <= LINEAR:
        return np.arange(1, length + 1)
    return np.unique(np.rint(np.geomspace(1, length, POINTS)).astype(np.int64))


def _thresholds(drawn: Sequence[Axes], scene: Scene) -> dict[str, Artist]:
    """Draws the thresholds into all axes; returns what the legend says of them."""
    entries: dict[str, Artist] = {}
    for eps, style in zip(eps_of(scene.table), THRESHOLDS, strict=False):
        for axes in drawn:
            line = axes.axhline(eps, color=LIGHT.muted, linewidth=0.8, linestyle=style)
            entries[threshold_words(norm_asked(scene.table), eps)] = line
    return entries


def _scales(drawn: Sequence[Axes], lines: Sequence[Line], levels: Sequence[float]) -> None:
    """From the largest value down to what is noise, or to a little below the least threshold."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    long = max(len(line.values) for line in lines) > LINEAR
    for axes in drawn:
        if long:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
            low, high = axes.dataLim.intervalx
            if low == high:  # one index, beside which there is none
                axes.set_xlim(low - 0.5, high + 0.5)
                axes.set_xticks([low])
    axes = drawn[0]
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    tops = [float(line.values[0]) for line in lines if line.values[0] > 0]
    if tops:
        ends = [float(line.values[line.values > 0][-1]) for line in lines if line.values[0] > 0]
        noise = SHOWN * max(tops)
        below = [eps / 3 for eps in levels if eps > 0]
        axes.set_ylim(min([max(min(ends) / 2, noise), *below]), max(tops) * 1.6)
