"""A series of snapshots -> every certificate that it can give, and a verdict.

Refused where there is nothing to check: no bound for the optimiser, hyperparameters unknown, no
two snapshots close enough.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from rankscope.bounds.dynamics import Dynamics
from rankscope.certificates.certificate import Certificate
from rankscope.certificates.certification import Certification, overrides
from rankscope.certificates.pairs import (
    Candidate,
    Outcome,
    State,
    Task,
    certify_step,
    plan_pairs,
    reach,
)
from rankscope.checkpoints import is_isolated
from rankscope.engines import INLINE_FLOPS
from rankscope.errors import InputRejected
from rankscope.executors import (
    Executor,
    InlineExecutor,
    ProcessExecutor,
    ThreadExecutor,
    available_cores,
)
from rankscope.inventory import Entry, Inventory, saved_beside, take_inventory
from rankscope.matrices import Selection
from rankscope.provenance import made_now
from rankscope.rows import Row
from rankscope.runlog import read_log
from rankscope.runrecord import RunRecord, read_run_record
from rankscope.series import Series, discover
from rankscope.solvers import ROUTE_VERSION
from rankscope.store import SpectrumStore
from rankscope.training import Given, Training, training_of

# Of a snapshot of spectra (docs/run-directory.md).
NO_WEIGHTS = "only singular values were saved, and a certificate needs weights"

Progress = Callable[[float, float], None]


def certify(
    path: PurePath | str,
    given: Given | None = None,
    selection: Selection | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Certification:
    """Check P1's Lemma 3.2 on the weights of a run: arguments and errors of `rankscope.certify`."""
    series = discover(path)
    run = None if series.run is None else read_run_record(series.run)
    given = given or Given()
    inventory = take_inventory(
        [series], selection or Selection(), [SpectrumStore(None, ROUTE_VERSION)]
    )
    training, dynamics = _known(series, run, given, saved_beside(inventory, 0))
    if sum(entry.snapshot.step is not None for entry in inventory.entries) < 2:
        raise InputRejected(path, "expected at least two snapshots with a step in their names")
    check = _Check(series, dynamics, training)
    states = check.states(inventory)
    tasks = list(plan_pairs(states, dynamics))
    check.left_out(states, tasks)
    isolated = any(is_isolated(entry.listing) for entry in inventory.entries)
    check.run(tasks, _executor(tasks, workers, isolated=isolated), progress)
    return Certification(
        str(path),
        tuple(sorted(check.pairs, key=lambda row: (row["name"], row["step"], row["n"]))),
        tuple(check.skipped),
        (*training.remarks, *overrides(given, run)),
        _provenance(inventory, dynamics),
    )


def _known(
    series: Series, run: RunRecord | None, given: Given, saved: Iterable[str]
) -> tuple[Training, Dynamics]:
    log = [] if series.run is None else read_log(series.run)
    training = training_of(run, log, given, saved, epochs=series.counts_epochs)
    if training is None:
        raise InputRejected(
            series.path, "no run.json says how it was trained; give --B, --mu, --weight-decay, --m"
        )
    if training.dynamics is None:
        raise InputRejected(series.path, training.reason)
    return training, training.dynamics


def _why_none(reasons: Iterable[str]) -> str:
    """Why no matrix can be checked, of the reasons why each cannot."""
    if NO_WEIGHTS in reasons:
        return f"{NO_WEIGHTS}; train with --save both"
    return (
        "m_l is known of no matrix; give --m: 1 for fully-connected layers, "
        "output height times width for convolutions"
    )


@dataclass(slots=True)
class _Check:
    """One call of `certify` while its rows gather."""

    series: Series
    dynamics: Dynamics
    training: Training
    pairs: list[Row] = field(default_factory=list)
    skipped: list[Row] = field(default_factory=list)

    def states(self, inventory: Inventory) -> list[State]:
        """The snapshots, and of each what can be checked; the rest is noted."""
        noted: dict[tuple[str, str, bool], None] = {}
        states = []
        for entry in inventory.entries:
            known = self._candidates(entry, noted)
            for items, missing in ((entry.skipped, False), (entry.listing.missing, True)):
                noted |= dict.fromkeys((one.reason, one.name, missing) for one in items)
            if entry.snapshot.step is not None:
                states.append(State(entry.snapshot.step, entry.snapshot.path, known))
        for _, error in inventory.rejected:
            noted[error.reason, error.path, True] = None
        for one in self.series.skipped:
            noted[one.reason, one.name, False] = None
        for reason, name, missing in noted:
            self._skip(name, reason, missing=missing)
        if not any(state.candidates for state in states):
            raise InputRejected(self.series.path, _why_none(reason for reason, _, _ in noted))
        return states

    def _candidates(
        self, entry: Entry, noted: dict[tuple[str, str, bool], None]
    ) -> dict[str, Candidate]:
        """What can be checked in a snapshot; of what else is a matrix, the reason is noted."""
        known: dict[str, Candidate] = {}
        for spec in entry.specs:
            inputs = self.training.inputs_of(spec.tensor)
            if spec.solved is not None:
                noted[NO_WEIGHTS, spec.name, True] = None
            elif inputs is None:
                noted[self.training.lacks_inputs(spec.tensor), spec.name, False] = None
            else:
                known[spec.name] = Candidate(spec, inputs)
        return known

    def left_out(self, states: Sequence[State], tasks: Sequence[Task]) -> None:
        """Note the matrices of which no pair says something; refuse where that is all."""
        paired = {
            one.spec.name for task in tasks for two in task.partners for one in two.candidates
        }
        alone: dict[str, Candidate] = {}
        for state in states:
            alone |= {name: one for name, one in state.candidates.items() if name not in paired}
        far: list[str] = []
        for name, one in alone.items():
            most = max(reach(self.dynamics, state.step, one.limit) for state in states)
            if most:
                far.append(f"n <= {most} for {name} ({_described(one, self.dynamics)})")
                self._skip(name, f"no two snapshots are close enough: {far[-1]}")
            else:
                few = f"{_described(one, self.dynamics)}: one step already allows full rank"
                self._skip(name, few)
        if not tasks:
            raise InputRejected(self.series.path, self._advice(states, far, alone))

    def _advice(
        self, states: Sequence[State], far: Sequence[str], alone: dict[str, Candidate]
    ) -> str:
        if not far:
            widest = max(alone.values(), key=lambda one: one.limit)
            return (
                f"one step allows full rank in every matrix, in {widest.spec.name} too "
                f"({_described(widest, self.dynamics)}); a smaller batch or wider layers are needed"
            )
        gap, first = min(
            (later.step - earlier.step, earlier.step)
            for earlier, later in itertools.pairwise(states)
        )
        also = ", and the step before the earlier one" if self.dynamics.momentum else ""
        more = f" and {len(far) - 1} more" if len(far) > 1 else ""
        return (
            f"no two snapshots are close enough: needed are two n steps apart{also}, "
            f"{far[0]}{more}; the nearest are steps {first} and {first + gap}, {gap} apart: "
            "record bursts of consecutive steps (docs/run-directory.md)"
        )

    def run(self, tasks: Sequence[Task], executor: Executor, progress: Progress | None) -> None:
        """Gather the rows of every pair."""
        total, done = sum(task.flops for task in tasks), 0.0
        lacking: dict[tuple[str, int, str], None] = {}
        for finished in executor.run(certify_step, tasks):
            task = finished.item
            for outcome in finished.result or ():
                if isinstance(outcome.found, Certificate):
                    self.pairs.append(_row(task, outcome, outcome.found))
                else:
                    lacking[outcome.candidate.spec.name, task.step, outcome.found.reason] = None
            if finished.result is None:
                reason = "the process that checked it died, twice (out of memory, or killed)"
                names = {one.spec.name for two in task.partners for one in two.candidates}
                lacking |= {(name, task.step, reason): None for name in names}
            done += task.flops
            if progress is not None:
                progress(done, total)
        for name, step, reason in sorted(lacking):
            self._skip(name, reason, step=step, missing=True)

    def _skip(
        self, name: str, reason: str, *, step: int | None = None, missing: bool = False
    ) -> None:
        self.skipped.append({"name": name, "step": step, "reason": reason, "missing": missing})


def _row(task: Task, outcome: Outcome, found: Certificate) -> Row:
    one, partner = outcome.candidate, outcome.partner
    return {
        "name": one.spec.name,
        "step": task.step,
        "n": partner.steps,
        "shape": list(one.spec.shape),
        "dtype": one.spec.dtype,
        "inputs_per_sample": one.inputs,
        "samples": partner.memory.samples,
        "allowed_rank": found.allowed_rank,
        "rank": found.rank,
        "sigma_next": found.sigma_next,
        "threshold": found.threshold,
        "margin": found.margin,
        "contrast": found.contrast,
        "lhs": found.lhs,
        "rhs": found.rhs,
        "slack": found.slack,
        "holds": found.holds,
        "possible": found.possible,
    }


def _described(one: Candidate, dynamics: Dynamics) -> str:
    rows, columns = one.spec.shape
    batches = sorted({phase.batch for phase in dynamics.phases})
    return f"{rows}x{columns}, m_l {one.inputs}, B {' or '.join(map(str, batches))}"


def _executor(tasks: Sequence[Task], workers: int | None, *, isolated: bool) -> Executor:
    """Threads for little work; processes for much, and for files that can crash a library."""
    count = max(1, min(workers or available_cores(), len(tasks)))
    if isolated or sum(task.flops for task in tasks) >= INLINE_FLOPS:
        return ProcessExecutor(count)
    return ThreadExecutor(count) if count > 1 else InlineExecutor()


def _provenance(inventory: Inventory, dynamics: Dynamics) -> Row:
    return {
        **made_now(),
        "format": inventory.entries[0].listing.format,
        "snapshots": len(inventory.entries),
        "dynamics": {
            "momentum": dynamics.momentum,
            "nesterov": dynamics.nesterov,
            "phases": [
                {
                    "start": phase.start,
                    "B": phase.batch,
                    "mu": phase.mu,
                    "lambda": phase.weight_decay / 2,
                    "weight_decay": phase.weight_decay,
                }
                for phase in dynamics.phases
            ],
        },
    }
