"""What the package offers to Python: measure, and look at the result."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rankscope.answering import RouteChoice
from rankscope.asking import Average, Source, asked_of, levels, table_of
from rankscope.checkpoints.memory import MemoryCheckpoint, as_numpy
from rankscope.dtypes import FLOATS
from rankscope.errors import InputRejected, UsageError
from rankscope.figures import PAGE, draw_table
from rankscope.grouping import group_files
from rankscope.how import How
from rankscope.jsonobject import read_json
from rankscope.matrices import Selection
from rankscope.measure import measure
from rankscope.metrics.thresholded import DEFAULT_EPS, Norm
from rankscope.places import place
from rankscope.presence import real
from rankscope.question import Question
from rankscope.records import MatrixSpec, Spectrum
from rankscope.resolving import resolved_spectrum
from rankscope.series import on_base
from rankscope.showing import ShownSpectrum, ShowsItself
from rankscope.solvers import solve
from rankscope.spectra import Measure, check_target, export
from rankscope.storedmatrix import StoredMatrix
from rankscope.table import Table
from rankscope.training import Given
from rankscope.views.analysis import report
from rankscope.views.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from rankscope.records import Stored

# A thousand snapshots of a thousand matrices at 900 bytes a row.
MAX_DOCUMENT = 1_000_000_000


class Analysis(ShowsItself, Table):
    """A `Table` that shows itself: in a terminal, in a notebook, as a data frame, as a file."""

    __slots__ = ()

    def _report(self) -> Report:
        return report(self)

    def __repr__(self) -> str:
        return f"<Analysis of {len(self.matrices)} matrices in {len(self.summary)} snapshots>"

    def _repr_html_(self) -> str:
        from rankscope.figures.notebook import run_curve

        return run_curve(self) + super()._repr_html_()

    def plot(
        self, kind: str | None = None, *, metric: str | None = None, width: float = PAGE
    ) -> Figure:
        """A figure of what was measured, fit for a paper; needs matplotlib.

        Args:
            kind: rank, norm-ratio, bound or heatmap; rank by default. Singular values are not
                kept: `rankscope.plot` draws them.
            metric: a column, for rank, bound and heatmap; by default the first.
            width: inches, 7 for a page and 3.3 for a column.

        Raises:
            InputRejected: no matrix has a spectrum.
            UsageError: a kind or a metric that makes no sense; or matplotlib is not installed.
        """
        return draw_table(self, kind, metric, width)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read back what was saved as `.json`, here or by `rankscope analyze -o FILE.json`.

        Raises:
            InputRejected: it is not there, no analysis, one of another version, or not whole.
        """
        return cls.from_document(read_json(Path(path), MAX_DOCUMENT), str(path))


def analyze(  # noqa: PLR0913 - each is a question of its own, and none has to be asked
    *sources: Source,
    metrics: str | Sequence[str] = (),
    eps: float | Sequence[float] = DEFAULT_EPS,
    norm: Norm = "frobenius",
    selection: Selection | None = None,
    how: How | None = None,
    given: Given | None = None,
    average: Average = "marked",
    base: PurePath | str | None = None,
) -> Analysis:
    """Measure every weight matrix of checkpoints, runs, or weights in memory.

    Args:
        *sources: paths of checkpoints or directories of snapshots, or a list of them; or one
            mapping of names to arrays or tensors; or one `torch.nn.Module`.
        metrics: names as in `rankscope.metrics.METRICS`, with parameters in parentheses;
            empty for the default ones.
        eps: thresholds of `rank` and `approximation_rank`.
        norm: what eps is relative to: frobenius, spectral or none.
        selection: globs over matrix names; everything by default.
        how: route, workers, store, progress.
        given: what the bounds need to know of a run beyond what it records; wins over it.
        average: over the matrices that a run marks as averaged, or over all.
        base: the model that the sources are LoRA adapters of; measured is that model with each
            of them merged in.

    Raises:
        InputRejected: no source is sound. One bad snapshot among good ones is listed under
            `skipped`, and `incomplete` is true.
        UsageError: an unknown metric, a parameter out of range, a glob that matches nothing.

    >>> import numpy, rankscope
    >>> result = rankscope.analyze({"layer": numpy.eye(3)}, metrics=["rank"])
    >>> result.matrices[0]["rank"]
    3
    """
    asked = asked_of(
        metrics=metrics,
        eps=eps,
        norm=norm,
        selection=selection,
        how=how,
        given=given,
        average=average,
        base=base,
    )
    table = table_of(*sources, asked=asked)
    return Analysis(**{part.name: getattr(table, part.name) for part in fields(table)})


def export_spectra(
    target: Path | str,
    *paths: PurePath | str,
    norm: Norm = "frobenius",
    eps: float | Sequence[float] = DEFAULT_EPS,
    selection: Selection | None = None,
    how: How | None = None,
    base: PurePath | str | None = None,
) -> list[str]:
    """Write the singular values of every matrix of checkpoints and runs to a file.

    Args:
        target: `.csv`, a line a singular value; `.h5`, datasets over the snapshots of a run; or
            `.parquet`, a row a matrix and snapshot.
        *paths: checkpoints, or directories of snapshots or of runs.
        norm: what a singular value is a share of: frobenius, spectral or none.
        eps: thresholds of the head whose mass is kept in HDF5 and Parquet.
        selection: globs over matrix names; everything by default.
        how: route, workers, store, progress.
        base: the model that the checkpoints are adapters of, to be merged into.

    Returns:
        A line for each matrix or snapshot that could not be measured.

    Raises:
        InputRejected: no source is sound.
        UsageError: the suffix of the target names no layout, what that needs is not installed, or
            the target is one of the checkpoints.
        OutputFailed: it could not be written; an old file is intact.
    """
    check_target(Path(target))
    columns = Question(("spectral_entropy", "head_mass"), levels(eps), norm).columns()
    series = on_base(group_files([place(path) for path in paths]), base)
    snapshots = [one for each in series for one in each.snapshots]
    inputs = {real(one.path) for one in snapshots}
    inputs |= {real(one.base) for one in snapshots if one.base is not None}
    if real(target) in inputs:
        raise UsageError(f"{target}: holds the weights that were asked for; choose another file")
    inventory, measured = measure(series, selection or Selection(), columns, how or How())
    with closing(measured):
        return export(inventory, measured, Measure(norm, columns), Path(target))


def spectrum(array: ArrayLike | Any, *, route: RouteChoice = "auto") -> Spectrum:
    """The singular values of one matrix: an array, a nested list, or a tensor.

    More than two axes fold to (first, all others), as a convolution's do. The stored type is
    the array's own; integers become float64. `auto` takes the direct route where the Gram route
    leaves any value off by more than a millionth of itself.

    Raises:
        InputRejected: fewer than two axes, no entries, NaN or infinity, or no numbers.

    >>> import rankscope
    >>> rankscope.spectrum([[3.0, 0.0], [0.0, 4.0]]).sigma
    array([4., 3.])
    """
    matrix = _numbers(array)
    if matrix.ndim < 2:
        raise InputRejected("array", f"has {matrix.ndim} axes, expected at least 2")
    checkpoint = MemoryCheckpoint({"array": matrix})
    shape = (matrix.shape[0], int(np.prod(matrix.shape[1:])))
    spec = MatrixSpec("array", "array", (), 1, shape, matrix.dtype.name, "linear")
    stored = StoredMatrix(checkpoint, spec)
    found = resolved_spectrum(stored) if route == "auto" else solve(stored, route)
    if not isinstance(found, Spectrum):
        raise InputRejected("array", found.reason)
    return ShownSpectrum(**{part.name: getattr(found, part.name) for part in fields(found)})


def _numbers(array: ArrayLike | Any) -> Stored:
    """An array of a type that has a spectrum; integers as float64."""
    try:
        # as_numpy keeps the types that NumPy does not know; integers of torch it refuses.
        whole = hasattr(array, "is_floating_point") and not array.is_floating_point()
        matrix = np.asarray(array) if whole else as_numpy(array, "array")
    except (TypeError, ValueError) as error:  # ragged; sparse; without numbers yet
        raise InputRejected("array", f"is no array of numbers: {error}") from error
    if matrix.dtype.kind in "iub":
        matrix = matrix.astype(np.float64)
    if matrix.dtype.name not in FLOATS:
        raise InputRejected("array", f"{matrix.dtype.name}: not a floating-point type")
    return matrix
