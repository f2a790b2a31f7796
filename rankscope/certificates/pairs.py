"""Which pairs of snapshots say something, and their certificates, in whatever process.

A pair T-n, T says something of a matrix where m_l * samples is below its small side. Momentum
also needs the snapshot T-n-1, unless T-n is the initialisation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from rankscope.bounds.dynamics import Dynamics, Memory
from rankscope.certificates.certificate import Certificate, Weights, certificate
from rankscope.checkpoints import open_checkpoint
from rankscope.errors import InputRejected
from rankscope.matrices import fits
from rankscope.plan import flops
from rankscope.products import AnyMatrix, matrix_of
from rankscope.records import Checkpoint, MatrixSpec, Spectrum, Unmeasured
from rankscope.solvers import solve

# Of a pair three are in use; the next pair of the same T shares two of them.
MOST_OPEN = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A matrix, and the number of inputs that its layer is applied to for one sample, m_l."""

    spec: MatrixSpec
    inputs: int

    @property
    def limit(self) -> int:
        """The least number of samples whose gradients may fill the matrix."""
        return -(-min(self.spec.shape) // self.inputs)


@dataclass(frozen=True, slots=True)
class State:
    """A snapshot: its step, its path, and the matrices to be checked, by name."""

    step: int
    path: PurePath
    candidates: Mapping[str, Candidate]


@dataclass(frozen=True, slots=True)
class Partner:
    """An earlier snapshot.

    Attributes:
        steps: n.
        before: the snapshot of step T-n.
        previous: that of step T-n-1; None where it is not needed.
        memory: what n updates leave.
        candidates: the matrices of which the pair says something.
    """

    steps: int
    before: PurePath
    previous: PurePath | None
    memory: Memory
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """All pairs that end in one snapshot."""

    step: int
    path: PurePath
    partners: tuple[Partner, ...]

    @property
    def pairs(self) -> int:
        """How many certificates it makes."""
        return sum(len(partner.candidates) for partner in self.partners)

    @property
    def flops(self) -> float:
        """Floating-point operations, roughly."""
        return sum(flops(one.spec.shape) for two in self.partners for one in two.candidates)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one matrix at one pair."""

    candidate: Candidate
    partner: Partner
    found: Certificate | Unmeasured


def plan_pairs(states: Sequence[State], dynamics: Dynamics) -> Iterator[Task]:
    """The tasks of a series, in order of step.

    Args:
        states: by step, ascending.
        dynamics: how the weights moved.
    """
    by_step = {state.step: state for state in states}
    for index, state in enumerate(states):
        widest = max((one.limit for one in state.candidates.values()), default=0)
        partners = []
        for earlier in reversed(states[:index]):
            if dynamics.samples(state.step, state.step - earlier.step) >= widest:
                break
            partner = _partner(state, earlier, by_step.get(earlier.step - 1), dynamics)
            if partner is not None:
                partners.append(partner)
        if partners:
            yield Task(state.step, state.path, tuple(partners))


def _partner(
    state: State, earlier: State, previous: State | None, dynamics: Dynamics
) -> Partner | None:
    steps = state.step - earlier.step
    memory = dynamics.memory(state.step, steps)
    if memory is None or (memory.previous and previous is None):
        return None
    needed = [earlier, *([previous] if memory.previous and previous else [])]
    candidates = tuple(
        one
        for name, one in state.candidates.items()
        if memory.samples < one.limit and all(other.candidates.get(name) == one for other in needed)
    )
    path = needed[1].path if len(needed) > 1 else None
    return Partner(steps, earlier.path, path, memory, candidates) if candidates else None


def reach(dynamics: Dynamics, step: int, limit: int) -> int:
    """The largest n for which the updates before `step` hold fewer than `limit` samples."""
    steps = 0
    while steps < step and dynamics.samples(step, steps + 1) < limit:
        steps += 1
    return steps


def certify_step(task: Task) -> list[Outcome]:
    """The certificates of a task. What cannot be read has none, and says why."""
    files = _Files()
    spectra: dict[str, Spectrum | Unmeasured] = {}
    outcomes = []
    try:
        for partner in task.partners:
            for one in partner.candidates:
                found = _certified(task, partner, one, files, spectra)
                outcomes.append(Outcome(one, partner, found))
    finally:
        files.close()
    return outcomes


def _certified(
    task: Task,
    partner: Partner,
    one: Candidate,
    files: _Files,
    spectra: dict[str, Spectrum | Unmeasured],
) -> Certificate | Unmeasured:
    try:
        now = files.matrix(task.path, one.spec)
        if one.spec.name not in spectra:
            spectra[one.spec.name] = solve(now, "direct")
        spectrum = spectra[one.spec.name]
        if isinstance(spectrum, Unmeasured):
            return spectrum
        before = files.matrix(partner.before, one.spec)
        weights = Weights(now, spectrum, before)
        if partner.previous is not None:
            weights = replace(weights, previous=files.matrix(partner.previous, one.spec))
        return certificate(weights, partner.memory, partner.steps, one.inputs)
    except (InputRejected, OSError) as error:
        return Unmeasured("unreadable", str(error))
    except MemoryError:
        rows, columns = one.spec.shape
        return Unmeasured("failed", f"not enough memory for a {rows}x{columns} matrix")


@dataclass(slots=True)
class _Files:
    """The checkpoints that were used last, open."""

    opened: OrderedDict[PurePath, Checkpoint] = field(default_factory=OrderedDict)

    def matrix(self, path: PurePath, spec: MatrixSpec) -> AnyMatrix:
        """A matrix of a checkpoint; it can be read until three others have been asked for."""
        if path not in self.opened:
            if len(self.opened) == MOST_OPEN:
                self.opened.popitem(last=False)[1].close()
            self.opened[path] = open_checkpoint(path)
        self.opened.move_to_end(path)
        checkpoint = self.opened[path]
        tensors = {tensor.name: tensor for tensor in checkpoint.listing.tensors}
        if not fits(spec, tensors.get(spec.tensor)):
            raise InputRejected(path, "changed since it was listed: try again", tensor=spec.tensor)
        return matrix_of(checkpoint, spec)

    def close(self) -> None:
        """Close all of them."""
        for checkpoint in self.opened.values():
            checkpoint.close()
        self.opened.clear()
