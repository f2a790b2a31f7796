"""What the package offers to Python for pictures: measure, and draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from rankscope.asking import Asked, Average, Source, asked_of, scene_of
from rankscope.figures import PAGE, check_wanted, draw, usual
from rankscope.how import How
from rankscope.matrices import Selection
from rankscope.metrics.thresholded import DEFAULT_EPS, Norm
from rankscope.table import Table
from rankscope.training import Given

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRIC = "rank"  # what is drawn where nobody says


def plot(  # noqa: PLR0913 - each is a question of its own, and none has to be asked
    *sources: Source,
    kind: str | None = None,
    metric: str | None = None,
    eps: float | Sequence[float] = DEFAULT_EPS,
    norm: Norm = "frobenius",
    selection: Selection | None = None,
    how: How | None = None,
    given: Given | None = None,
    average: Average = "marked",
    base: PurePath | str | None = None,
    width: float = PAGE,
) -> Figure:
    """A figure of checkpoints, runs, or weights in memory, fit for a paper.

    Save it with `figure.savefig`, or with `rankscope.figures.save`, which gives the same bytes for
    the same figure and leaves text as text.

    Args:
        *sources: as of `analyze`.
        kind: spectrum, rank, norm-ratio, bound or heatmap; None for the spectra of a model, the
            rank of a run or a sweep.
        metric: what `rank` and `heatmap` draw instead of the rank; `bound` beside the bounds.
        eps: thresholds of the rank, at most 4, each in axes of its own or as a line.
        norm: what eps is relative to: frobenius, spectral or none.
        selection: globs over matrix names; everything by default.
        how: route, workers, store, progress.
        given: what the bounds need to know of a run beyond what it records; wins over it.
        average: over the matrices that a run marks as averaged, or over all.
        base: the model that the sources are LoRA adapters of; measured is that model with each
            of them merged in.
        width: inches, 7 for a page and 3.3 for a column; the height follows from what is shown.

    Raises:
        InputRejected: no source is sound, or none of its matrices has a spectrum.
        UsageError: a kind that makes no sense of the sources, a metric that the kind does not
            show, or as of `analyze`; or matplotlib is not installed.

    >>> import numpy, rankscope
    >>> figure = rankscope.plot({"layer": numpy.eye(3)})
    >>> figure.axes[0].get_lines()[0].get_ydata().round(3)
    array([0.577, 0.577, 0.577])
    """
    asked = asked_of(
        metrics=metric or METRIC,
        eps=eps,
        norm=norm,
        selection=selection,
        how=how,
        given=given,
        average=average,
        base=base,
    )
    return picture(*sources, asked=asked, kind=kind, metric=metric, width=width).figure


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure, and the table that it was drawn from."""

    figure: Figure
    table: Table


def picture(
    *sources: Source,
    asked: Asked,
    kind: str | None = None,
    metric: str | None = None,
    width: float = PAGE,
) -> Picture:
    """As `plot`, with what the figure was drawn from.

    Args:
        *sources: as of `analyze`.
        asked: of the metric alone, so that the table has no other.
        kind: as of `plot`.
        metric: whether one was chosen, and which.
        width: inches.
    """
    check_wanted(kind, metric, width)
    scene = scene_of(*sources, asked=asked)
    # The table has the metric under a name of its own, with all parameters.
    return Picture(draw(scene, kind or usual(scene.kind, metric), width=width), scene.table)
