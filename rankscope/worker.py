"""What happens to a few matrices of one checkpoint, in whatever process it happens."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath

from rankscope.accelerator import devices_for
from rankscope.answering import RouteChoice, answer, asked_route, sound
from rankscope.checkpoints import open_checkpoint
from rankscope.contentkey import content_key
from rankscope.errors import InputRejected
from rankscope.identities import Identity, identity, identity_again, identity_of_hint, unchanged
from rankscope.matrices import fits, stored_tensors
from rankscope.plan import matrix_peak
from rankscope.products import AnyMatrix, matrix_of
from rankscope.question import Column
from rankscope.records import (
    Checkpoint,
    Listing,
    Matrix,
    MatrixSpec,
    Measurement,
    Reading,
    Route,
    Spectrum,
    Unmeasured,
)
from rankscope.solvers import ROUTE_VERSION, solve
from rankscope.store import SpectrumStore
from rankscope.storedmatrix import StoredMatrix

CHANGED = "changed since it was listed: try again"

ANY_CARD = "cuda"  # of whichever machine a task goes to; here, cards have numbers


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
        seen: the identity of the checkpoint's files, when they are remembered.
        keyed: whether the content's key is asked for even without a store.
        base: the model that the checkpoint is an adapter of, to be merged into; or None.
        device: where they are decomposed: cpu, or a GPU's name.
        listed: what the checkpoint's files must still be; () where that is not asked.
    """

    path: PurePath
    specs: tuple[MatrixSpec, ...]
    route: RouteChoice
    columns: tuple[Column, ...]
    store: Path | None = None
    ticket: int = 0
    seen: tuple[Identity, ...] = ()
    keyed: bool = False
    base: PurePath | None = None
    device: str = "cpu"
    listed: tuple[Identity, ...] = ()

    @property
    def memory(self) -> int:
        """Bytes of working memory of its largest matrix, an upper bound."""
        return max(map(matrix_peak, self.specs), default=0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one matrix.

    Attributes:
        spec: the matrix.
        measurement: its spectrum, or why it has none.
        key: its content's key; None when it could not be read, or nobody asks for it.
        computed: what was decomposed for it, by the route asked: new for the store.
        seen: the identity of the files that it was read from; () when that is not sure.
        readings: of the columns, where they were needed to choose the route.
    """

    spec: MatrixSpec
    measurement: Measurement
    key: bytes | None = None
    computed: tuple[tuple[Route, Measurement], ...] = ()
    seen: tuple[Identity, ...] = ()
    readings: tuple[Reading, ...] | None = None


def list_checkpoint(
    path: PurePath, base: PurePath | None = None
) -> tuple[Listing, tuple[Identity, ...]] | InputRejected:
    """What a checkpoint holds, and its files' identities from before it was read.

    Args:
        path: the checkpoint, as `open_checkpoint` takes it.
        base: the model that it is an adapter of, to be merged into.
    """
    try:
        before = identity(path)
        checkpoint = open_checkpoint(path, base=base)
        checkpoint.close()
        listing = checkpoint.listing
        seen = tuple(identity(file) for file in listing.files)
        seen += tuple(identity_of_hint(file) for file in listing.hints)
    except InputRejected as error:
        return error
    except OSError as error:
        return InputRejected(path, error.strerror or str(error))
    changed = any(one.path == before.path and one != before for one in seen)
    return listing, () if changed else seen


def measure_task(task: Task) -> list[Outcome]:
    """The spectra of a task's matrices, from the store where their content is known.

    Raises:
        UsageError: another machine is told to use its card and has none.
    """
    if task.device == ANY_CARD:
        devices_for(task.device, 0.0)
    try:
        fitting, outcomes = _opened(task, measure_open)
    except (InputRejected, OSError) as error:
        return [_unreadable(spec, _why(error)) for spec in task.specs]
    stale = set(task.specs).difference(fitting)
    return outcomes + [_unreadable(spec, CHANGED) for spec in task.specs if spec in stale]


def find_task(task: Task) -> list[Outcome]:
    """Those of a task's matrices whose content the store knows; nothing is decomposed.

    What fails is left out, as what is not known is: measuring it tells why.
    """
    try:
        return _opened(task, _find_open)[1]
    except (InputRejected, OSError):
        return []


def _opened(
    task: Task, run: Callable[[Checkpoint, Task, SpectrumStore], Iterable[Outcome]]
) -> tuple[tuple[MatrixSpec, ...], list[Outcome]]:
    """Which of a task's matrices are still there, and what `run` makes of them."""
    same = _as_seen(task)
    checkpoint = open_checkpoint(task.path, stored_tensors(task.specs), task.base)
    store = SpectrumStore(task.store, ROUTE_VERSION, read_only=True)
    try:
        tensors = {tensor.name: tensor for tensor in checkpoint.listing.tensors}
        fitting = tuple(spec for spec in task.specs if fits(spec, tensors.get(spec.tensor)))
        outcomes = list(run(checkpoint, replace(task, specs=fitting), store))
    finally:
        checkpoint.close()
        store.close()
    if same and _as_seen(task, afresh=True):
        outcomes = [replace(outcome, seen=task.seen) for outcome in outcomes]
    return fitting, outcomes


def _as_seen(task: Task, *, afresh: bool = False) -> bool:
    """Whether the files are what was seen. Raises `InputRejected` where they have to be."""
    if not task.listed:
        return unchanged(task.seen, afresh=afresh)
    try:
        same = all(identity_again(one, afresh=afresh) == one for one in task.listed)
    except FileNotFoundError:
        same = False
    if not same:
        raise InputRejected(task.path, CHANGED)
    return True


def _find_open(
    checkpoint: Checkpoint, task: Task, store: SpectrumStore
) -> Generator[Outcome, None, None]:
    for spec in task.specs:
        matrix = matrix_of(checkpoint, spec)
        try:
            key = content_key(matrix)
        except (InputRejected, OSError, MemoryError):
            continue
        look_up = partial(_found, store, key, spec)
        answered = answer(asked_route(task.route, spec), task.columns, look_up)
        if answered is not None:
            yield Outcome(spec, answered.measurement, key, (), (), answered.readings)


def _found(
    store: SpectrumStore, key: bytes | None, spec: MatrixSpec, route: Route
) -> Measurement | None:
    return None if key is None else sound(store.find(key, route), spec)


def _why(error: InputRejected | OSError) -> str:
    return error.reason if isinstance(error, InputRejected) else error.strerror or str(error)


def _unreadable(spec: MatrixSpec, reason: str) -> Outcome:
    return Outcome(spec, Unmeasured("unreadable", reason))


@dataclass(frozen=True, slots=True)
class _Known:
    """What another device has found out about a matrix before it is measured here."""

    key: bytes | None = None
    gram: Spectrum | None = None


def measure_open(
    checkpoint: Checkpoint, task: Task, store: SpectrumStore
) -> Generator[Outcome, None, None]:
    """The spectra of matrices of an open checkpoint, one by one; `task.path` is not looked at."""
    known = {} if task.device == "cpu" else _known_on_device(checkpoint, task)
    for spec in task.specs:
        yield _measure(matrix_of(checkpoint, spec), task, store, known.pop(spec, _Known()))


def _known_on_device(checkpoint: Checkpoint, task: Task) -> dict[MatrixSpec, _Known]:
    """The spectra by the Gram route on the task's device, of those matrices that want them.

    What the device leaves out is measured here as if there were none.
    """
    from rankscope.accelerator.streaming import grams_on

    known: dict[MatrixSpec, _Known] = {}

    def wanted() -> Generator[StoredMatrix, None, None]:  # drawn in a thread, with its own store
        store = SpectrumStore(task.store, ROUTE_VERSION, read_only=True)
        try:
            for spec in task.specs:
                matrix = matrix_of(checkpoint, spec)
                if task.route != "direct" and isinstance(matrix, StoredMatrix):
                    known[spec] = _Known(_key(matrix, task, store))
                    if _found(store, known[spec].key, spec, "gram") is None:
                        yield matrix
        finally:
            store.close()

    for matrix, gram in grams_on(task.device, wanted()):
        known[matrix.spec] = replace(known[matrix.spec], gram=gram)
    return known


def _key(matrix: AnyMatrix, task: Task, store: SpectrumStore) -> bytes | None:
    """The content's key where anybody asks for it, and it can be read."""
    try:
        return content_key(matrix) if task.keyed or store.path is not None else None
    except (InputRejected, OSError, MemoryError):
        return None


def _measure(matrix: AnyMatrix, task: Task, store: SpectrumStore, known: _Known) -> Outcome:
    computed: list[tuple[Route, Measurement]] = []

    def look_up(wanted: Route) -> Measurement:
        found = _found(store, key, matrix.spec, wanted)
        if found is None:
            on_device = known.gram if wanted == "gram" else None
            found = on_device or _solved(matrix, wanted)
            computed.append((wanted, found))
        return found

    key = known.key
    try:
        if key is None and (task.keyed or store.path is not None):
            key = content_key(matrix)
        answered = answer(asked_route(task.route, matrix.spec), task.columns, look_up)
    except (InputRejected, OSError) as error:
        return _unreadable(matrix.spec, _why(error))
    except MemoryError:
        return Outcome(matrix.spec, _too_large(matrix))
    if answered is None:
        raise AssertionError("a look-up that computes always answers")
    return Outcome(matrix.spec, answered.measurement, key, tuple(computed), (), answered.readings)


def _solved(matrix: Matrix, route: Route) -> Measurement:
    try:
        return solve(matrix, route)
    except MemoryError:
        return _too_large(matrix)


def _too_large(matrix: Matrix) -> Unmeasured:
    rows, columns = matrix.shape
    return Unmeasured("failed", f"not enough memory for a {rows}x{columns} matrix")
