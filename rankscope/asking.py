"""What is asked of sources, and the table that answers it: from arguments to rows."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

import numpy as np

from rankscope.checkpoints.interpretation import interpreted
from rankscope.checkpoints.memory import MemoryCheckpoint
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.errors import UsageError
from rankscope.grouping import group_files
from rankscope.how import How
from rankscope.inventory import Entry, Inventory, saved_beside
from rankscope.matrices import Selection, check_selection, select
from rankscope.measure import Measured, measure
from rankscope.metrics.thresholded import DEFAULT_EPS, Norm
from rankscope.places import place
from rankscope.question import Column, Question
from rankscope.records import Skipped
from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from rankscope.scene import Keeper, Scene
from rankscope.series import Series, Snapshot, on_base
from rankscope.solvers import ROUTE_VERSION
from rankscope.store import SpectrumStore
from rankscope.table import Run, Table, build
from rankscope.tabulation import provenance
from rankscope.training import Given, training_of
from rankscope.trajectory import Theory
from rankscope.tying import tied_names
from rankscope.worker import Task, measure_open

MEMORY = Path("memory")  # what stands for a path where there is none

Average = Literal["marked", "all"]

Source = str | PurePath | Mapping[str, Any] | Any  # Any: a torch.nn.Module, known by its state_dict


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
        Question(_names(metrics), levels(eps), norm),
        selection or Selection(),
        how or How(),
        given or Given(),
        average,
        base,
    )


def _names(metrics: str | Sequence[str]) -> tuple[str, ...]:
    return (metrics,) if isinstance(metrics, str) else tuple(metrics)


def levels(eps: float | Sequence[float]) -> tuple[float, ...]:
    """Thresholds as plain floats, which any view can write."""
    found = np.atleast_1d(np.asarray(eps))
    if found.ndim > 1 or found.dtype.kind not in "iuf":
        raise UsageError(f"eps is {eps!r}, expected a number or several")
    return tuple(float(level) for level in found)


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
    skipped += tuple(Skipped.tied(name, first) for name, first in tied.items())
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
