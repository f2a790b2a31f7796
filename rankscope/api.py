"""What the package offers to Python: measure, and look at the result."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from rankscope.answering import RouteChoice
from rankscope.checkpoints.interpretation import interpreted
from rankscope.checkpoints.memory import MemoryCheckpoint, as_numpy
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.dtypes import FLOATS
from rankscope.errors import InputRejected, UsageError
from rankscope.figures import PAGE, draw_table
from rankscope.grouping import group_files
from rankscope.how import How
from rankscope.inventory import Entry, Inventory, saved_beside
from rankscope.jsonobject import read_json
from rankscope.matrices import Selection, check_selection, select
from rankscope.measure import Measured, measure
from rankscope.metrics.thresholded import DEFAULT_EPS, Norm
from rankscope.places import place
from rankscope.presence import real
from rankscope.question import Column, Question
from rankscope.records import MatrixSpec, Skipped, Spectrum
from rankscope.resolving import resolved_spectrum
from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from rankscope.scene import Keeper, Scene
from rankscope.series import Series, Snapshot, on_base
from rankscope.showing import ShownSpectrum, ShowsItself
from rankscope.solvers import ROUTE_VERSION, solve
from rankscope.spectra import Measure, check_target, export
from rankscope.store import SpectrumStore
from rankscope.storedmatrix import StoredMatrix
from rankscope.table import Run, Table, build
from rankscope.tabulation import provenance
from rankscope.training import Given, training_of
from rankscope.trajectory import Theory
from rankscope.tying import tied_names
from rankscope.views.analysis import report
from rankscope.views.report import Report
from rankscope.worker import Task, measure_open

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from rankscope.records import Stored

MEMORY = Path("memory")  # what stands for a path where there is none

# A thousand snapshots of a thousand matrices at 900 bytes a row.
MAX_DOCUMENT = 1_000_000_000

Average = Literal["marked", "all"]

Source = str | PurePath | Mapping[str, Any] | Any  # Any: a torch.nn.Module, known by its state_dict


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


def asked_of(  # noqa: PLR0913 - the arguments of `analyze`
    *,
    metrics: str | Sequence[str] = (),
    eps: float | Sequence[float] = DEFAULT_EPS,
    norm: Norm = "frobenius",
    selection: Selection | None = None,
    how: How | None = None,
    given: Given | None = None,
    average: Average = "marked",
    base: PurePath | str | None = None,
) -> Asked:
    """The arguments of `analyze` as one record; `UsageError` where one makes no sense."""
    return Asked(
        Question(_names(metrics), _levels(eps), norm),
        selection or Selection(),
        how or How(),
        given or Given(),
        average,
        base,
    )


def table_of(*sources: Source, asked: Asked, keeper: Keeper | None = None) -> Table:
    """The table of checkpoints, runs or weights in memory.

    Args:
        *sources: as of `analyze`.
        asked: of them.
        keeper: keeps the spectra that pictures show, where somebody wants them.

    Raises:
        InputRejected, UsageError: as of `analyze`.
    """
    columns = asked.question.columns()
    inventory, measured = _measured(sources, asked, columns)
    with closing(measured):
        runs = [
            _run(series, asked, saved_beside(inventory, index))
            for index, series in enumerate(inventory.series)
        ]
        told = provenance(inventory, asked.question, asked.how)
        passing = measured if keeper is None else keeper.watch(inventory, measured)
        return build(inventory, passing, columns, runs, told)


def scene_of(*sources: Source, asked: Asked) -> Scene:
    """What pictures of checkpoints, runs or weights in memory are made of.

    Raises:
        InputRejected, UsageError: as of `analyze`.
    """
    keeper = Keeper()
    table = table_of(*sources, asked=asked, keeper=keeper)
    return Scene(table, keeper.curves)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of sources: the arguments of `analyze` as one record."""

    question: Question
    selection: Selection
    how: How
    given: Given
    average: Average
    base: PurePath | str | None

    def __post_init__(self) -> None:
        if self.average not in get_args(Average):
            raise UsageError(f"average is {self.average!r}, expected marked or all")


def _measured(
    sources: Sequence[Source], asked: Asked, columns: Sequence[Column]
) -> tuple[Inventory, Generator[Measured, None, None]]:
    """What the sources hold, and an iterator that measures it."""
    if not sources:
        raise UsageError("nothing to analyse, expected a path, a mapping or a module")
    if len(sources) == 1 and isinstance(sources[0], list | tuple):
        listed = tuple(sources[0])
        sources = listed if all(isinstance(one, str | PurePath) for one in listed) else sources
    paths = [place(source) for source in sources if isinstance(source, str | PurePath)]
    if len(paths) == len(sources):
        all_series = on_base(group_files(paths), asked.base)
        return measure(all_series, asked.selection, columns, asked.how)
    if asked.base is not None:
        raise UsageError("weights in memory are no adapter of a base, expected a path")
    if len(sources) > 1:
        raise UsageError("weights in memory are analysed one source at a time")
    return _measure_memory(sources[0], asked.selection, columns, asked.how)


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
    columns = Question(("spectral_entropy", "head_mass"), _levels(eps), norm).columns()
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


def _names(metrics: str | Sequence[str]) -> tuple[str, ...]:
    return (metrics,) if isinstance(metrics, str) else tuple(metrics)


def _levels(eps: float | Sequence[float]) -> tuple[float, ...]:
    """Thresholds as plain floats, which any view can write."""
    levels = np.atleast_1d(np.asarray(eps))
    if levels.ndim > 1 or levels.dtype.kind not in "iuf":
        raise UsageError(f"eps is {eps!r}, expected a number or several")
    return tuple(float(level) for level in levels)


def _measure_memory(
    source: Any, selection: Selection, columns: Sequence[Column], how: How
) -> tuple[Inventory, Generator[Measured, None, None]]:
    """Weights in memory are measured in this process: sending them elsewhere would copy them."""
    state = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(state, Mapping):
        name = type(source).__name__
        raise UsageError(f"{name} is no path, no mapping of names to arrays and has no state_dict")
    # Of a mapping, each name was asked for; a module has a tied weight under each that uses it.
    tied = {} if state is source else tied_names(state)
    own = {name: tensor for name, tensor in state.items() if name not in tied}
    checkpoint = interpreted(MemoryCheckpoint(own), ModelFiles(None))
    listing = checkpoint.listing
    check_selection(selection, [listing])
    specs, skipped = select(listing, selection)
    skipped += tuple(
        Skipped(name, f"the same weights as {first}, where they are measured")
        for name, first in tied.items()
    )
    snapshot = Snapshot(MEMORY, None)
    entry = Entry(0, snapshot, listing, specs, skipped, remembered=False)
    inventory = Inventory([Series(MEMORY, (snapshot,))], [entry])
    task = Task(MEMORY, specs, how.route, tuple(columns), keyed=how.keyed)
    outcomes = measure_open(checkpoint, task, SpectrumStore(None, ROUTE_VERSION))
    return inventory, (
        Measured(entry, one.spec, one.measurement, one.readings, one.key) for one in outcomes
    )


def _run(series: Series, asked: Asked, saved: Iterable[str]) -> Run:
    """What is known of a series beside its snapshots; a later line of a log holds."""
    record = None if series.run is None else read_run_record(series.run)
    log = [] if series.run is None else read_log(series.run)
    training = training_of(record, log, asked.given, saved, epochs=series.counts_epochs)
    several = sum(snapshot.step is not None for snapshot in series.snapshots) > 1
    if training is None and not several:
        return Run()
    if training is not None and asked.average == "all":
        training = replace(training, averaged={})
    question = asked.question
    theory = Theory(training, tuple(dict.fromkeys(question.eps)), question.norm)
    return Run(record, {line["step"]: line for line in log}, theory)
