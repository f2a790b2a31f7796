"""What happens to a few matrices of one checkpoint, in whatever process it happens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rankscope.checkpoints import open_checkpoint
from rankscope.errors import InputRejected
from rankscope.files import Identity, identity
from rankscope.matrices import StoredMatrix
from rankscope.question import Column, needs_direct
from rankscope.records import (
    Checkpoint,
    Listing,
    MatrixSpec,
    Measurement,
    Route,
    Spectrum,
    Unmeasured,
)
from rankscope.solvers import ROUTE_VERSION, norm_mismatch, solve
from rankscope.store import SpectrumStore

RouteChoice = Literal["auto", "gram", "direct"]

HASH_ELEMENTS = 2**20  # a window of at most 8 MiB: more makes hashing no faster


@dataclass(frozen=True, slots=True)
class Task:
    """Matrices of one checkpoint to be measured.

    Attributes:
        path: the checkpoint, as `open_checkpoint` takes it.
        specs: the matrices.
        route: by which route; `auto` is Gram, and direct where a column needs it.
        columns: what will be read off the spectra.
        store: a store file to look contents up in, or None.
        ticket: the caller's own number for where the results belong.
    """

    path: Path
    specs: tuple[MatrixSpec, ...]
    route: RouteChoice
    columns: tuple[Column, ...]
    store: Path | None = None
    ticket: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one matrix.

    Attributes:
        spec: the matrix.
        measurement: its spectrum, or why it has none.
        key: its content's key; None when it could not be read.
        computed: what was decomposed for it, by the route asked: new for the store.
    """

    spec: MatrixSpec
    measurement: Measurement
    key: bytes | None = None
    computed: tuple[tuple[Route, Measurement], ...] = ()


def list_checkpoint(path: Path) -> tuple[Listing, tuple[Identity, ...]] | InputRejected:
    """What a checkpoint holds, and its files' identities from before it was read."""
    try:
        before = identity(path)
        checkpoint = open_checkpoint(path)
        checkpoint.close()
        listing = checkpoint.listing
        seen = tuple(identity(file) for file in listing.files)
    except InputRejected as error:
        return error
    except OSError as error:
        return InputRejected(path, error.strerror or str(error))
    changed = any(one.path == before.path and one != before for one in seen)
    return listing, () if changed else seen


def measure_task(task: Task) -> list[Outcome]:
    """The spectra of a task's matrices, from the store where their content is known."""
    try:
        checkpoint = open_checkpoint(task.path)
    except InputRejected as error:
        lost = Unmeasured("unreadable", error.reason)
        return [Outcome(spec, lost) for spec in task.specs]
    store = SpectrumStore(task.store, ROUTE_VERSION, read_only=True)
    try:
        return list(measure_open(checkpoint, task, store))
    finally:
        checkpoint.close()
        store.close()


def measure_open(
    checkpoint: Checkpoint, task: Task, store: SpectrumStore
) -> Generator[Outcome, None, None]:
    """The spectra of matrices of an open checkpoint, one by one; `task.path` is not looked at."""
    for spec in task.specs:
        yield _measure(StoredMatrix(checkpoint, spec), task.route, task.columns, store)


def _measure(
    matrix: StoredMatrix,
    route: RouteChoice,
    columns: Sequence[Column],
    store: SpectrumStore,
) -> Outcome:
    computed: list[tuple[Route, Measurement]] = []
    try:
        key = content_key(matrix)

        def look_up(wanted: Route) -> Measurement:
            found = sound(store.find(key, wanted))
            if found is None:
                found = solve(matrix, wanted)
                computed.append((wanted, found))
            return found

        measurement = answer(route, columns, look_up)
    except InputRejected as error:
        return Outcome(matrix.spec, Unmeasured("unreadable", error.reason))
    except MemoryError:
        rows, columns_ = matrix.shape
        reason = f"not enough memory for a {rows}x{columns_} matrix"
        return Outcome(matrix.spec, Unmeasured("failed", reason), key)
    if measurement is None:
        raise AssertionError("a look-up that computes always answers")
    return Outcome(matrix.spec, measurement, key, tuple(computed))


def answer(
    route: RouteChoice,
    columns: Sequence[Column],
    look_up: Callable[[Route], Measurement | None],
) -> Measurement | None:
    """The measurement that answers the columns; None when `look_up` has not got it.

    The one place that decides when the Gram route does not do.
    """
    if route != "auto":
        return look_up(route)
    found = look_up("gram")
    if not isinstance(found, Spectrum) or not needs_direct(columns, found):
        return found
    better = look_up("direct")
    # A direct route that failed leaves the Gram spectrum, whose readings say what is not exact.
    return found if isinstance(better, Unmeasured) else better


def content_key(matrix: StoredMatrix) -> bytes:
    """What a matrix is, whatever file it is in: SHA-256 of its shape, type and elements."""
    digest = hashlib.sha256(f"{matrix.shape} {matrix.dtype}".encode())
    for window in matrix.row_major(HASH_ELEMENTS):
        digest.update(np.ascontiguousarray(window).view(np.uint8).data)
    return digest.digest()


def sound(found: Measurement | None) -> Measurement | None:
    """A stored spectrum must pass the same check as a fresh one."""
    if isinstance(found, Spectrum) and norm_mismatch(found):
        return None
    return found
