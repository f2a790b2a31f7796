"""One snapshot measured by itself, and kept without its spectra."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from rankscope.how import How
from rankscope.identities import Identity, identity_of_hint, identity_or_absence
from rankscope.inventory import Inventory, saved_beside
from rankscope.matrices import Selection
from rankscope.measure import Measured, measure
from rankscope.metrics.thresholded import approximation_rank
from rankscope.question import Question
from rankscope.records import Spectrum
from rankscope.rows import Row
from rankscope.series import Series, Snapshot
from rankscope.table import Run, build
from rankscope.trajectory import followed_norm

Tick = Callable[[int, int], None]  # so many matrices of so many have been measured


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of every snapshot, and by which means."""

    question: Question
    selection: Selection
    how: How


@dataclass(frozen=True, slots=True)
class Fact:
    """What the theory needs of a spectrum that is not kept.

    Attributes:
        tensor: the name of the matrix's tensor.
        norm: of the matrix, in the norm that eps is relative to; None where it has no spectrum.
        ranks: its approximation rank at each eps.
    """

    tensor: str
    norm: float | None = None
    ranks: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """A measured snapshot.

    Attributes:
        step: its step.
        seen: its files, from before their tensors were read.
        rows: a row a matrix, as in a `Table`, without what needs several snapshots.
        facts: by matrix.
        beside: the names of what it holds that is no matrix to be measured.
        left_out: what could not be measured: rows as in `Table.skipped`, where something lacks.
    """

    step: int
    seen: tuple[Identity, ...]
    rows: tuple[Row, ...]
    facts: dict[str, Fact]
    beside: frozenset[str]
    left_out: tuple[Row, ...]


def take(series: Series, snapshot: Snapshot, asked: Asked, tick: Tick) -> Taken:
    """Measure one snapshot of a series.

    Args:
        series: decides where the store is.
        snapshot: one that has a step.
        asked: the question, and the means.
        tick: called after each matrix; what it raises ends the work, which is kept.

    Raises:
        InputRejected: it cannot be read.
        UsageError: a glob matches nothing in it.
    """
    if snapshot.step is None:
        raise ValueError(f"{snapshot.path} has no step")
    before = identity_or_absence(snapshot.path)
    columns = asked.question.columns()
    alone = replace(series, snapshots=(snapshot,), skipped=())
    inventory, measured = measure([alone], asked.selection, columns, asked.how)
    with closing(measured):
        files = _files(inventory)
        facts: dict[str, Fact] = {}
        noted = _noted(measured, inventory, asked.question, facts, tick)
        table = build(inventory, noted, columns, [Run()], {})
    return Taken(
        snapshot.step,
        (before, *(one for one in files if one.path != before.path)),
        table.matrices,
        facts,
        frozenset(saved_beside(inventory, 0)),
        tuple(row for row in table.skipped if row["missing"]),
    )


def _files(inventory: Inventory) -> list[Identity]:
    """What it is read from, and what says how."""
    listed = [entry.listing for entry in inventory.entries]
    files = dict.fromkeys(name for one in listed for name in one.files)
    hints = dict.fromkeys(name for one in listed for name in one.hints if name not in files)
    return [*map(identity_or_absence, files), *map(identity_of_hint, hints)]


def _noted(
    measured: Generator[Measured, None, None],
    inventory: Inventory,
    question: Question,
    facts: dict[str, Fact],
    tick: Tick,
) -> Iterator[Measured]:
    """The same, what the theory needs of each noted as it passes."""
    total = sum(len(entry.specs) for entry in inventory.entries)
    for done, one in enumerate(measured, start=1):
        facts[one.spec.name] = _fact(one, question)
        yield one
        tick(done, total)


def _fact(one: Measured, question: Question) -> Fact:
    found = one.measurement
    if not isinstance(found, Spectrum):
        return Fact(one.spec.tensor)
    norm = followed_norm(found, question.norm)
    levels = dict.fromkeys(question.eps)
    ranks = (approximation_rank(found, eps, question.norm).value for eps in levels)
    return Fact(one.spec.tensor, norm, tuple(ranks))
