"""The spectrum of B - A for pairs of matrices, in whatever process.

How many directions did training move? Most singular values of B - A are rounding: A and B are
each off by the round-off of the type they are stored in, E_A and E_B. As `numerical_rank` says of
one matrix (Bandeira & van Handel 2016, doi:10.1214/15-AOP1025), the spectral norm of E_A is at
most u_A (largest row norm + largest column norm of A), and likewise of E_B; that of E_B - E_A is at
most their sum. A direction of B - A above this sum is no rounding. It errs on the safe side: what
A and B have in common is rounded alike, and cancels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from rankscope.answering import RouteChoice, answer
from rankscope.checkpoints import open_checkpoint
from rankscope.combination import Combination
from rankscope.errors import InputRejected
from rankscope.identities import Identity, unchanged
from rankscope.matrices import fits, stored_tensors
from rankscope.measure import Measured
from rankscope.metrics import Metric
from rankscope.metrics.numerical import above_noise, storage_noise
from rankscope.plan import matrix_peak
from rankscope.products import AnyMatrix, matrix_of
from rankscope.question import Column
from rankscope.records import (
    Checkpoint,
    MatrixSpec,
    Measurement,
    Reading,
    Route,
    Spectrum,
    TensorInfo,
    Unmeasured,
)
from rankscope.series import Snapshot
from rankscope.solvers import ROUTE_VERSION, norm_mismatch, solve
from rankscope.store import SpectrumStore

NUMERICAL = "numerical_rank"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a matrix of one side when it has been measured.

    Attributes:
        spec: the matrix.
        key: a digest of its content; None when it could not be read.
        status: as in its row.
        norm: its Frobenius norm; None without a spectrum.
        noise: the spectral norm that rounding to its type may have; None without a spectrum, and
            where it is stored encoded, of which the rounding is not known.
    """

    spec: MatrixSpec
    key: bytes | None
    status: str
    norm: float | None = None
    noise: float | None = None

    @classmethod
    def of(cls, one: Measured) -> Known:
        """What is kept of a measurement, its singular values let go."""
        found = one.measurement
        if isinstance(found, Unmeasured):
            return cls(one.spec, one.content, found.status)
        noise = None if one.spec.encoding else storage_noise(found)
        return cls(one.spec, one.content, "ok", found.frobenius_norm, noise)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two matrices of one shape and different content.

    Attributes:
        before: of A.
        after: of B.
        key: what the store keeps the difference under.
        columns: what will be read off its spectrum.
    """

    before: MatrixSpec
    after: MatrixSpec
    key: bytes
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Pairs of matrices of two checkpoints.

    Attributes:
        before: the checkpoint A.
        after: the checkpoint B.
        pairs: what is to be subtracted.
        route: by which route.
        store: a store file to look differences up in, or None.
        seen: the identity of both checkpoints' files from before they were measured.
    """

    before: Snapshot
    after: Snapshot
    pairs: tuple[Pair, ...]
    route: RouteChoice
    store: Path | None
    seen: tuple[Identity, ...]

    @property
    def memory(self) -> int:
        """Bytes of working memory of its largest pair, an upper bound: both sides are read."""
        sides = ((matrix_peak(pair.before), matrix_peak(pair.after)) for pair in self.pairs)
        return max(map(sum, sides), default=0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one pair.

    Attributes:
        pair: the matrices.
        measurement: the spectrum of B - A, or why it has none.
        readings: of the pair's columns, where they were needed to choose the route.
        computed: what was decomposed for it: new for the store.
    """

    pair: Pair
    measurement: Measurement
    readings: tuple[Reading, ...] | None = None
    computed: tuple[tuple[Route, Measurement], ...] = ()


def difference_key(before: bytes, after: bytes) -> bytes:
    """What the store keeps the spectrum of B - A under, given the keys of A and B."""
    return hashlib.sha256(b"difference" + before + after).digest()


def delta_columns(columns: Sequence[Column], noise: float | None) -> tuple[Column, ...]:
    """What is read off B - A: how many directions are no rounding, then what was asked of A and B.

    `numerical_rank` by the rule of one stored matrix makes no sense of a difference, which is
    computed in float64 and as noisy as what it is of.

    Args:
        columns: as asked.
        noise: the rounding of A and B together; None where it is not known.
    """
    asked = tuple(
        column
        for column in columns
        if column.metric.name != NUMERICAL or ("rule", "numpy") in column.parameters
    )
    if noise is None:
        return asked
    metric = Metric(above_noise, "delta rank", ("noise",), required=1, integer=True)
    return (Column(NUMERICAL, metric, (("noise", noise),)), *asked)


def zero_spectrum(shape: tuple[int, int]) -> Spectrum:
    """The spectrum of B - A where B is A."""
    count = min(shape)
    zeros = np.zeros(count)
    return Spectrum(zeros, shape, "float64", 0.0, 0.0, 0.0, 2.0**-53, "direct", count)


def sound(found: Measurement | None, pair: Pair) -> Measurement | None:
    """A stored spectrum must be of such a difference, and pass the same check as a fresh one."""
    if isinstance(found, Spectrum):
        alike = (found.shape, found.dtype) == (pair.after.shape, "float64")
        return found if alike and not norm_mismatch(found) else None
    return found


def subtract(task: Task) -> list[Outcome]:
    """The spectra of a task's differences. What cannot be read has none, and says why."""
    store = SpectrumStore(task.store, ROUTE_VERSION, read_only=True)
    try:
        with (
            _opened(task.before, [pair.before for pair in task.pairs]) as before,
            _opened(task.after, [pair.after for pair in task.pairs]) as after,
        ):
            sides = _Side.of(task.before.path, before), _Side.of(task.after.path, after)
            outcomes = [_subtracted(pair, sides, task.route, store) for pair in task.pairs]
    except (InputRejected, OSError) as error:
        return [_unreadable(pair, str(error)) for pair in task.pairs]
    finally:
        store.close()
    if unchanged(task.seen):
        return outcomes
    # The keys were of what the files held before.
    reason = "a file changed while it was compared: try again"
    return [_unreadable(pair, reason) for pair in task.pairs]


def _opened(snapshot: Snapshot, specs: Sequence[MatrixSpec]) -> Checkpoint:
    return open_checkpoint(snapshot.path, stored_tensors(specs), snapshot.base)


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two checkpoints, open."""

    path: PurePath
    checkpoint: Checkpoint
    tensors: Mapping[str, TensorInfo]

    @classmethod
    def of(cls, path: PurePath, checkpoint: Checkpoint) -> _Side:
        """A checkpoint and what it holds by name."""
        tensors = {tensor.name: tensor for tensor in checkpoint.listing.tensors}
        return cls(path, checkpoint, tensors)

    def matrix(self, spec: MatrixSpec) -> AnyMatrix:
        """A matrix of it, as it was listed; `InputRejected` when it is not there any more."""
        if not fits(spec, self.tensors.get(spec.tensor)):
            reason = "changed since it was listed: try again"
            raise InputRejected(self.path, reason, tensor=spec.tensor)
        return matrix_of(self.checkpoint, spec)


def _subtracted(
    pair: Pair, sides: tuple[_Side, _Side], route: RouteChoice, store: SpectrumStore
) -> Outcome:
    computed: list[tuple[Route, Measurement]] = []

    def look_up(wanted: Route) -> Measurement:
        found = sound(store.find(pair.key, wanted), pair)
        if found is None:
            found = _solved(matrix, wanted)
            computed.append((wanted, found))
        return found

    try:
        before, after = sides[0].matrix(pair.before), sides[1].matrix(pair.after)
        matrix = Combination(((-1.0, before), (1.0, after)))
        answered = answer(route, pair.columns, look_up)
    except (InputRejected, OSError) as error:
        return _unreadable(pair, str(error))
    if answered is None:
        raise AssertionError("a look-up that computes always answers")
    return Outcome(pair, answered.measurement, answered.readings, tuple(computed))


def _solved(matrix: Combination, route: Route) -> Measurement:
    try:
        return solve(matrix, route)
    except MemoryError:
        rows, columns = matrix.shape
        return Unmeasured("failed", f"not enough memory for a {rows}x{columns} matrix")


def _unreadable(pair: Pair, reason: str) -> Outcome:
    return Outcome(pair, Unmeasured("unreadable", reason))
