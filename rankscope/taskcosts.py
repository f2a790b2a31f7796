"""What each task takes of a worker, phase by phase, at a machine's rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace

from rankscope import plan
from rankscope.checkpoints import is_isolated
from rankscope.inventory import Entry
from rankscope.rates import Rates, Speeds
from rankscope.records import MatrixSpec
from rankscope.solvers.entries import BLOCK_ELEMENTS
from rankscope.tasks import grouped

# SQLite's pages, what a row may take of one, what stays there of a larger one, and what a page
# holds of the rest (https://sqlite.org/fileformat2.html, "B-tree Cell Format", 4096 bytes a page).
PAGE, MOST_LOCAL, LEAST_LOCAL, OVERFLOW = 4096, 4061, 489, 4092

# A row of `spectra` beside its values; its index, its row of `keys`, and its share of the file's
# listing. Measured on stores of 10^4 and 10^5 spectra (docs/scale.md).
ROW_BYTES, OTHER_BYTES = 150, 370


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds of workers, summed over them.

    Attributes:
        reading: copying from this machine's memory what it has of the files.
        converting: to float64, with the norms.
        hashing: the content's key, for the store.
        products: Gram matrices and, on the direct route, QR; of low-rank products, everything.
        eigenvalues: of the Gram matrices; on the direct route, the SVD too.
        overhead: opening files, messages, small calls.
        start: until the workers have started.
        idle: at the end, while others still work; and waiting for storage.
    """

    reading: float = 0.0
    converting: float = 0.0
    hashing: float = 0.0
    products: float = 0.0
    eigenvalues: float = 0.0
    overhead: float = 0.0
    start: float = 0.0
    idle: float = 0.0

    @property
    def total(self) -> float:
        """Of all phases."""
        return float(sum(astuple(self)))

    def plus(self, other: Phases, times: float = 1.0) -> Phases:
        """Phase by phase, the other so many times."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Phases(*(a + times * b for a, b in pairs))


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do.

    Attributes:
        tasks: the matrices of each, in the order in which they are handed out.
        isolated: a reader wants processes of its own.
        listing: seconds that finding all this out takes.
        stored: spectra are kept, and contents hashed.
        direct: every matrix takes the direct route after the Gram one.
    """

    tasks: tuple[tuple[MatrixSpec, ...], ...]
    isolated: bool = False
    listing: float = 0.0
    stored: bool = False
    direct: bool = False

    @property
    def specs(self) -> list[MatrixSpec]:
        """All matrices."""
        return [spec for task in self.tasks for spec in task]


def work_of(
    entries: Sequence[Entry],
    known: Mapping[int, set[str]],
    *,
    listing: float = 0.0,
    stored: bool = False,
) -> Work:
    """The work that entries make, as `measure` takes it.

    Args:
        entries: the snapshots.
        known: of each of them, by its place, the names of matrices that the store knows.
        listing: seconds that taking the inventory took.
        stored: spectra are kept.
    """
    pending = [
        (entry, [spec for spec in entry.specs if spec.name not in known.get(index, ())])
        for index, entry in enumerate(entries)
    ]
    tasks = [group for _, specs in pending for group in grouped(specs)]
    tasks.sort(key=task_flops, reverse=True)
    isolated = any(specs and is_isolated(entry.listing) for entry, specs in pending)
    return Work(tuple(tasks), isolated, listing, stored)


def task_flops(task: Sequence[MatrixSpec]) -> float:
    """Operations of a task: what `measure` sorts by."""
    return sum(map(plan.matrix_flops, task))


def spectrum_bytes(spec: MatrixSpec) -> int:
    """What the store grows by for one matrix: rows do not share the end of a page."""
    row = plan.ELEMENT_BYTES * min(spec.shape) + ROW_BYTES
    local, pages = row, 0
    if row > MOST_LOCAL:
        local = LEAST_LOCAL + (row - LEAST_LOCAL) % OVERFLOW
        local = local if local <= MOST_LOCAL else LEAST_LOCAL
        pages = -(-(row - local) // OVERFLOW)
    return pages * PAGE + PAGE // (MOST_LOCAL // local) + OTHER_BYTES


@dataclass(frozen=True, slots=True)
class Costs:
    """What the tasks take. Tasks of equal shapes and types are one kind.

    Attributes:
        work: the tasks.
        rates: of the machine.
        kinds: of each task, its place in the others.
        alone: of each kind, on one thread while nothing else of ours runs.
        together: of each kind, while as many processes run as were measured.
    """

    work: Work
    rates: Rates
    kinds: tuple[int, ...]
    alone: tuple[Phases, ...]
    together: tuple[Phases, ...]

    def phases(self, workers: int) -> list[Phases]:
        """Of each kind, with so many workers at a time; each has its share of the threads."""
        crowd = self.rates.crowd(workers)
        products, eigenvalues = self.rates.speedups(max(1, self.rates.cores // workers))
        found = []
        for one, other in zip(self.alone, self.together, strict=True):
            mixed = Phases().plus(one, 1 - crowd).plus(other, crowd)
            found.append(
                replace(
                    mixed,
                    products=mixed.products / products,
                    eigenvalues=mixed.eigenvalues / eigenvalues,
                    overhead=mixed.overhead + self.rates.task,
                )
            )
        return found


def costs_of(work: Work, rates: Rates) -> Costs:
    """What the tasks of the work take at these rates."""
    places: dict[tuple[object, ...], int] = {}
    examples: list[Sequence[MatrixSpec]] = []
    kinds = []
    for task in work.tasks:
        key = tuple(map(_kind, task))
        if key not in places:
            places[key] = len(places)
            examples.append(task)
        kinds.append(places[key])
    alone, together = (
        tuple(_task_phases(task, work, rates, speeds) for task in examples)
        for speeds in (rates.alone, rates.together)
    )
    return Costs(work, rates, tuple(kinds), alone, together)


def _kind(spec: MatrixSpec) -> tuple[object, ...]:
    """What a matrix's cost hangs on."""
    rank = None if spec.factors is None else spec.factors.right.shape[0]
    return spec.shape, spec.dtype, rank, spec.solved is None


def _task_phases(task: Sequence[MatrixSpec], work: Work, rates: Rates, speeds: Speeds) -> Phases:
    total = Phases()
    for spec in task:
        total = total.plus(_matrix_phases(spec, work, rates, speeds))
    return total


def _matrix_phases(spec: MatrixSpec, work: Work, rates: Rates, speeds: Speeds) -> Phases:
    size = plan.stored_bytes(spec)
    # Once for the content's key, once for the largest entry of a float64, once for each route.
    reads = 1 + work.stored + (spec.dtype == "float64") + work.direct
    base = Phases(
        reading=reads * size / rates.storage.warm,
        hashing=size / speeds.hashing if work.stored else 0.0,
        overhead=rates.matrix,
    )
    long, small = max(spec.shape), min(spec.shape)
    if spec.solved is not None or small == 0:
        return base
    if spec.factors is not None:
        elements = sum(spec.shape) * spec.factors.right.shape[0]
        converting = speeds.convert_seconds(elements, spec.dtype)
        return base.plus(
            Phases(converting=converting, products=plan.matrix_flops(spec) / speeds.qr)
        )
    routes = 1 + work.direct
    qr, svd = (
        (speeds.qr_seconds(long, small, BLOCK_ELEMENTS), speeds.svd_seconds(small))
        if work.direct
        else (0.0, 0.0)
    )
    return base.plus(
        Phases(
            converting=routes * speeds.convert_seconds(long * small, spec.dtype),
            products=speeds.product_seconds(long, small, BLOCK_ELEMENTS) + qr,
            eigenvalues=speeds.eigen_seconds(small) + svd,
        )
    )
