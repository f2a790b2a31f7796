"""A batch of cells, each in a run directory of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from rankscope.snapshots import (
    Hyperparameters,
    LogRecord,
    MatrixRecord,
    Optimiser,
    RunRecord,
    SnapshotWriter,
)
from trainers.completion.cell import MOMENTUM, Cell
from trainers.completion.descent import End, Plan, Task, Visit, descend, subnormals_flushed
from trainers.completion.factors import initialise
from trainers.completion.optimisers import weight_decay
from trainers.completion.penalties import parse
from trainers.completion.problem import draw
from trainers.completion.recording import Reading, RecordFile
from trainers.descentname import descent_name

PRODUCT = "product"


@dataclass(frozen=True, slots=True)
class Keeping:
    """What of a run is kept beside the records.

    Attributes:
        snapshots: after which updates W is saved, beside the last.
        factors: whether W_1, ..., W_N are, too.
        sigma: which singular values the records have, counted from 1.
    """

    snapshots: frozenset[int] = frozenset({0})
    factors: bool = False
    sigma: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a cell ended: its last reading, and why it was the last."""

    reading: Reading
    end: End


def task(cell: Cell) -> Task:
    """What is trained: the draws of the cell's seed.

    Raises:
        UsageError: its choices do not fit each other.
    """
    return Task(
        draw(cell.shape, cell.rank, cell.observed, cell.seed, scaled=cell.scaled),
        initialise(cell.start, cell.widths, cell.seed),
        parse(cell.penalty),
        cell.strength,
        cell.loss,
    )


def train(
    cells: Sequence[Cell],
    directories: Sequence[Path],
    plan: Plan,
    keeping: Keeping,
    watch: Callable[[Visit], None],
) -> list[Outcome]:
    """Train cells of one optimiser, learning rate and widths; write a run directory for each.

    Args:
        cells: what.
        directories: where to, one for each; they do not exist, or are empty.
        plan: how.
        keeping: what is saved.
        watch: called at every reading.

    Returns:
        How each ended.

    Raises:
        UsageError: a choice makes no sense; nothing is written then.
        OutputFailed: a directory cannot be written to.
    """
    tasks = [task(cell) for cell in cells]
    outcomes: dict[int, Outcome] = {}
    with ExitStack() as opened:
        opened.enter_context(subnormals_flushed())
        runs = [
            Run(
                opened.enter_context(SnapshotWriter(directory, describe(cell, keeping))),
                opened.enter_context(RecordFile(directory, keeping.sigma)),
                cell,
            )
            for cell, directory in zip(cells, directories, strict=True)
        ]
        for visit in descend(tasks, plan):
            watch(visit)
            for row, (number, reading) in enumerate(
                zip(visit.numbers, visit.readings, strict=True)
            ):
                saves = visit.step in keeping.snapshots or number in visit.ended
                tensors = _tensors(visit, row, keeping) if saves else None
                runs[number].write(reading, tensors)
                if number in visit.ended:
                    outcomes[number] = Outcome(reading, visit.ended[number])
    return [outcomes[number] for number in range(len(cells))]


@dataclass(frozen=True, slots=True)
class Run:
    """The open run directory of a cell."""

    writer: SnapshotWriter
    records: RecordFile
    cell: Cell

    def write(self, reading: Reading, tensors: dict[str, Tensor] | None) -> None:
        """A line in both logs, and a snapshot of these tensors."""
        self.records.add(reading)
        record = LogRecord(
            lr=self.cell.lr,
            weight_decay=weight_decay(self.cell.optimiser),
            batch_size=self.cell.observed,
            train_loss=reading.train_loss,
            test_loss=reading.error_unobserved,
        )
        if tensors is None:
            self.writer.log(reading.step, record)
        else:
            self.writer.save(reading.step, tensors, record)


def _tensors(visit: Visit, row: int, keeping: Keeping) -> dict[str, Tensor]:
    found = {PRODUCT: visit.product[row]}
    if keeping.factors:
        found |= {f"layers.{j}": layer[row] for j, layer in enumerate(visit.layers, start=1)}
    return found


def describe(cell: Cell, keeping: Keeping) -> RunRecord:
    """What run.json says: only the product counts in averages, which the network is."""
    widths = cell.widths
    matrices = [MatrixRecord(PRODUCT, "linear", cell.shape)]
    if keeping.factors:
        matrices += [
            MatrixRecord(f"layers.{j}", "linear", (widths[j], widths[j - 1]), averaged=False)
            for j in range(1, len(widths))
        ]
    name: str = cell.optimiser
    if name in ("gd", "momentum"):
        name = descent_name(factors=cell.depth > 1, penalised=cell.penalised)
    momentum = MOMENTUM if cell.optimiser == "momentum" else 0.0
    penalty = "" if cell.penalty == "none" else f" + {cell.strength:g} {cell.penalty}"
    size = "scaled to a mean square of 1" if cell.scaled else "raw"
    return RunRecord(
        model=f"linear {'-'.join(map(str, widths))} from {cell.start.name}, "
        f"{cell.loss} of squared errors{penalty}",
        matrices=tuple(matrices),
        optimiser=Optimiser(name, momentum=momentum),
        hyperparameters=Hyperparameters(
            batch_size=cell.observed,
            lr=cell.lr,
            weight_decay=weight_decay(cell.optimiser),
            schedule=(),
        ),
        data=f"{cell.observed} entries of a {cell.shape[0]}x{cell.shape[1]} matrix of rank "
        f"{cell.rank}, {size}",
        seed=cell.seed,
    )
