"""Figures fit for a paper, by matplotlib: one file a kind of figure.

A new kind is one file with a function `..._figure` from a scene or a table to a figure, and one
entry in `KINDS`. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rankscope.errors import UsageError
from rankscope.extras import needs
from rankscope.figures.bound import bound_figure
from rankscope.figures.columns import MOST_LEVELS, eps_of
from rankscope.figures.heatmap import heatmap_figure
from rankscope.figures.house import (
    HEIGHT,
    PAGE,
    blank,
    check_picture,
    colour_bar,
    columns_of,
    legend_below,
    only_outer_labels,
    save,
    shown,
    styled,
)
from rankscope.figures.norm_ratio import norm_ratio_figure
from rankscope.figures.rank import rank_figure
from rankscope.figures.spectrum import spectrum_figure
from rankscope.palette import UNORDERED, shades
from rankscope.scene import Kind as SceneKind
from rankscope.scene import Scene
from rankscope.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "HEIGHT",
    "KINDS",
    "PAGE",
    "UNORDERED",
    "Kind",
    "blank",
    "check_picture",
    "check_wanted",
    "colour_bar",
    "columns_of",
    "draw",
    "draw_table",
    "kind_of",
    "legend_below",
    "only_outer_labels",
    "save",
    "shades",
    "shown",
    "styled",
    "usual",
]

# Inches. Narrower than a column, axes have no room beside names; wider than any poster.
NARROWEST, WIDEST = 3.0, 40.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of figure.

    Attributes:
        name: as in `--kind`.
        draw: from a scene, a metric (None for the table's first) and a width in inches.
        spectra: whether it shows the singular values themselves, which a table does not keep.
        metric: whether another metric gives another figure.
    """

    name: str
    draw: Callable[[Scene, str | None, float], Figure]
    spectra: bool = False
    metric: bool = False


KINDS: tuple[Kind, ...] = (
    Kind("spectrum", lambda scene, _, width: spectrum_figure(scene, width), spectra=True),
    Kind("rank", rank_figure, metric=True),
    Kind("norm-ratio", lambda scene, _, width: norm_ratio_figure(scene.table, width)),
    Kind("bound", bound_figure, metric=True),
    Kind("heatmap", heatmap_figure, metric=True),
)

# What is drawn where nobody says: what changes over a run, what differs over a sweep.
USUAL: Mapping[SceneKind, str] = {"model": "spectrum", "run": "rank", "sweep": "rank"}


def kind_of(name: str) -> Kind:
    """The kind of that name.

    Raises:
        UsageError: there is none.
    """
    for kind in KINDS:
        if kind.name == name:
            return kind
    known = ", ".join(kind.name for kind in KINDS)
    raise UsageError(f"no figure {name!r}, expected one of {known}")


def usual(of: SceneKind, metric: str | None) -> str:
    """The kind that is drawn where nobody says."""
    return "rank" if metric is not None else USUAL[of]


def check_wanted(kind: str | None, metric: str | None, width: float) -> None:
    """Find out before hours of work what would make a figure impossible.

    Raises:
        UsageError: no such kind, a metric for a kind that shows none, or no width for a figure; or
            matplotlib is not installed.
    """
    needs("a figure", "matplotlib", "plot")
    if metric is not None and kind is not None and not kind_of(kind).metric:
        others = ", ".join(one.name for one in KINDS if one.metric)
        raise UsageError(f"{kind} shows no metric that could be chosen; {others} do")
    if kind is not None:
        kind_of(kind)
    if not NARROWEST <= width <= WIDEST:
        raise UsageError(f"width is {width:g}, expected {NARROWEST:g} to {WIDEST:g} inches")


def draw_table(
    table: Table, kind: str | None = None, metric: str | None = None, width: float = PAGE
) -> Figure:
    """A figure of what a table knows, which keeps no singular values.

    Raises:
        InputRejected, UsageError: as of `draw`; or it is a figure of singular values.
    """
    scene = Scene(table, ())
    found = usual(scene.kind, metric) if kind is None else kind
    if kind is None and kind_of(found).spectra:
        found = "rank"
    if kind_of(found).spectra:
        raise UsageError(
            f"an analysis keeps no singular values; rankscope.plot(..., kind={found!r}) draws them"
        )
    return draw(scene, found, metric, width)


def draw(
    scene: Scene, kind: str | None = None, metric: str | None = None, width: float = PAGE
) -> Figure:
    """A figure of a scene.

    Args:
        scene: what was measured.
        kind: one of `KINDS`; None for the spectra of a model, the rank of a run or a sweep.
        metric: a column of the table, for the kinds that take one; None for the table's first.
        width: inches; the height follows from what is shown.

    Raises:
        InputRejected: no matrix has a spectrum.
        UsageError: no such kind, one that makes no sense of the scene, no such metric, too many
            thresholds, no width; or matplotlib is not installed.
    """
    check_wanted(kind, metric, width)
    chosen = kind_of(kind or usual(scene.kind, metric))
    count = len(eps_of(scene.table))
    if count > MOST_LEVELS:
        raise UsageError(f"a figure has room for {MOST_LEVELS} eps, and {count} were given")
    with styled():
        figure = chosen.draw(scene, metric, width)
        # Laid out here and once more when saved: the first time, room is made for numbers beside
        # axes that are others when these have got their size.
        figure.draw_without_rendering()
    return figure
