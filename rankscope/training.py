"""How a run was trained, as far as it is known: from its record, its log, and what a user adds.

The bound needs the step size, weight decay and batch of every update, the momentum, and m_l of
every matrix. What the user states wins over what is recorded; the record wins over the log.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rankscope.bounds.dynamics import Dynamics, Phase
from rankscope.bounds.optimisers import check_optimiser
from rankscope.errors import UsageError
from rankscope.runrecord import Hyperparameters, Optimiser, RunRecord

# Numbers that differ by a smaller share are the same: a logger may round.
SAME = 1e-6

# Stands for a value that the log gives as null; no log has it, for JSON has no such number.
UNKNOWN = math.inf

NOTHING_KNOWN = "nothing is known of the training"

# What Adam and its kin keep for each parameter, in PyTorch's names.
ADAPTIVE = re.compile(r"(^|[._/])(exp_avg|exp_avg_sq|square_avg)$")

Steps = tuple[tuple[int, float], ...]  # (update, value that holds from it on), ascending from 0


@dataclass(frozen=True, slots=True)
class Given:
    """What a user states of a run; None where nothing.

    Attributes:
        batch: samples per update, over all devices and accumulated batches.
        mu: a constant step size.
        weight_decay: PyTorch's.
        momentum: PyTorch's.
        nesterov: whether the momentum is Nesterov's.
        inputs: m_l of every matrix that the run does not record it for.
    """

    batch: int | None = None
    mu: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    inputs: int | None = None

    @property
    def anything(self) -> bool:
        """Whether the user stated something that the bound depends on."""
        return any(getattr(self, name) is not None for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class Training:
    """What the bound needs to know of a run.

    Attributes:
        dynamics: None when there is no bound; `reason` says why.
        reason: in one line; empty when there is one.
        inputs: m_l of each tensor that the run records it for.
        default_inputs: m_l of the others, if the user stated it.
        averaged: for each tensor that the run records, whether it counts in the average.
        remarks: what was taken for granted, or contradicts itself.
        frozen: the tensors that no update changes, so that none of this is about them.
    """

    dynamics: Dynamics | None
    reason: str = ""
    inputs: Mapping[str, int] = field(default_factory=dict)
    default_inputs: int | None = None
    averaged: Mapping[str, bool] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    frozen: frozenset[str] = frozenset()

    def inputs_of(self, tensor: str) -> int | None:
        """m_l of a tensor; None when unknown, or the tensor is frozen."""
        return None if tensor in self.frozen else self.inputs.get(tensor, self.default_inputs)

    def lacks_inputs(self, tensor: str) -> str:
        """Why there is no m_l of a tensor; empty where there is one."""
        if tensor in self.frozen:
            return "it was not trained when the run began"
        return "" if self.inputs_of(tensor) is not None else "m_l is not recorded; give --m"


def training_of(
    run: RunRecord | None,
    log: Sequence[Mapping[str, Any]],
    given: Given,
    saved: Iterable[str] = (),
    *,
    epochs: bool = False,
) -> Training | None:
    """What is known of a run; None when nothing is: no record, no log, nothing stated.

    Args:
        run: its record.
        log: its log's records, in the order written.
        given: what the user states.
        saved: names of what else the snapshots hold; Adam's running averages tell of it.
        epochs: the snapshots are numbered by epochs.
    """
    if run is None and not log and not given.anything:
        return None
    run = run or RunRecord()
    lines = [line for _, line in sorted({line["step"]: line for line in log}.items())]
    remarks: list[str] = []
    try:
        if run.optimiser is None and any(ADAPTIVE.search(name) for name in saved):
            raise UsageError(
                "no bound: the snapshots hold the state of Adam or its kin (exp_avg), which divide "
                "the gradient elementwise; the theorem is about SGD"
            )
        if epochs:
            raise UsageError(
                "no bound: the snapshots are numbered by epochs and the bound counts updates; "
                "name them by step"
            )
        dynamics, reason = _dynamics(run, lines, given, remarks), ""
    except UsageError as error:
        dynamics, reason = None, str(error)
    recorded = {one.name: one.inputs_per_sample for one in run.matrices}
    return Training(
        dynamics,
        reason,
        {name: inputs for name, inputs in recorded.items() if inputs is not None},
        given.inputs,
        {one.name: one.averaged for one in run.matrices},
        tuple(remarks),
        frozenset(one.name for one in run.matrices if not one.trained),
    )


def _dynamics(
    run: RunRecord, log: Sequence[Mapping[str, Any]], given: Given, remarks: list[str]
) -> Dynamics:
    """`UsageError` says why there is no bound."""
    optimiser = run.optimiser or Optimiser()
    check_optimiser(optimiser.name)
    momentum = _momentum(run.optimiser, log, given, remarks)
    nesterov = optimiser.nesterov if given.nesterov is None else given.nesterov
    if optimiser.dampening and momentum:
        raise UsageError(f"no bound for dampening {optimiser.dampening:g}, only for 0")
    mu = _step_sizes(run.hyperparameters, log, given, remarks)
    decay = _decays(run.hyperparameters, log, given, remarks)
    batch = _batches(run.hyperparameters, log, given, remarks)
    starts = sorted({start for steps in (mu, decay, batch) for start, _ in steps})
    phases = tuple(
        Phase(start, _at(mu, start), _at(decay, start), int(_at(batch, start))) for start in starts
    )
    return Dynamics(phases, momentum, nesterov)


def _momentum(
    known: Optimiser | None,
    log: Sequence[Mapping[str, Any]],
    given: Given,
    remarks: list[str],
) -> float:
    if given.momentum is not None:
        return given.momentum
    logged = [float(line["momentum"]) for line in log if line.get("momentum") is not None]
    momentum = known.momentum if known is not None else logged[0] if logged else 0.0
    if any("momentum" in line and line["momentum"] is None for line in log):
        raise UsageError("the log's momentum is not always known, as the bound needs")
    if set(logged) - {momentum}:
        raise UsageError(f"the log's momentum is not always {momentum:g}, as the bound needs")
    if known is None:
        which = f"momentum {momentum:g}" if momentum else "no momentum"
        remarks.append(f"no optimiser is recorded: taken as SGD with {which}")
    return momentum


def _step_sizes(
    known: Hyperparameters | None,
    log: Sequence[Mapping[str, Any]],
    given: Given,
    remarks: list[str],
) -> Steps:
    if given.mu is not None:
        return ((0, given.mu),)
    if known is None or known.schedule is None:
        logged = _logged(log, "lr")
        _check_known(logged, "learning rate", "--mu")
        if logged:
            if known is not None:
                _compare_first("learning rate", known.lr, logged, remarks)
            return logged
        if known is None:
            raise UsageError("the learning rate is not recorded; give --mu")
        remarks.append("no schedule is recorded: the learning rate is taken as constant")
    schedule = () if known.schedule is None else known.schedule
    steps = (*(((0, known.lr),) if not schedule or schedule[0][0] > 0 else ()), *schedule)
    _compare("lr", steps, log, remarks)
    return steps


def _decays(
    known: Hyperparameters | None,
    log: Sequence[Mapping[str, Any]],
    given: Given,
    remarks: list[str],
) -> Steps:
    if given.weight_decay is not None:
        return ((0, given.weight_decay),)
    logged = _logged(log, "weight_decay")
    if known is not None and (not logged or (known.schedule is not None and len(logged) == 1)):
        steps = ((0, known.weight_decay),)
        _compare("weight_decay", steps, log, remarks)
        return steps
    _check_known(logged, "weight decay", "--weight-decay or --lambda")
    if known is not None:
        # It has no schedule for the weight decay, which changed or is another one.
        _compare_first("weight decay", known.weight_decay, logged, remarks, " of it")
    if not logged:
        raise UsageError("the weight decay is not recorded; give --weight-decay or --lambda")
    return logged


def _batches(
    known: Hyperparameters | None,
    log: Sequence[Mapping[str, Any]],
    given: Given,
    remarks: list[str],
) -> Steps:
    if given.batch is not None:
        return ((0, given.batch),)
    if known is not None:
        _compare("batch_size", ((0, known.batch_size),), log, remarks)
        return ((0, known.samples_per_update),)
    logged = _logged(log, "batch_size")
    _check_known(logged, "batch size", "--B")
    if not logged or any(batch != int(batch) for _, batch in logged):
        raise UsageError("the batch size is not recorded; give --B")
    remarks.append("the log's batch size is taken as that of a whole update")
    return logged


def _logged(log: Sequence[Mapping[str, Any]], key: str) -> Steps:
    """What the log says: a line's value is that of the updates since the line before it.

    Null says that no value of theirs is known that all matrices share, and is `UNKNOWN` here; a
    line without the key says nothing.
    """
    found: list[tuple[int, float]] = []
    start = 0
    for line in log:
        step = line["step"]
        if key not in line or step == 0:
            continue
        value = UNKNOWN if line[key] is None else line[key]
        if not found or found[-1][1] != value:
            found.append((start, value))
        start = step
    return tuple(found)


def _check_known(logged: Steps, what: str, flag: str) -> None:
    for start, value in logged:
        if value == UNKNOWN:
            since = f" of the updates from {start} on" if start else ""
            raise UsageError(f"the {what}{since} is not recorded; give {flag}")


def _compare_first(
    what: str, recorded: float, logged: Steps, remarks: list[str], of: str = ""
) -> None:
    """Remark on a log that begins otherwise than the record, and holds."""
    first = logged[0][1]
    if not math.isclose(first, recorded, rel_tol=SAME):
        remarks.append(
            f"the first {what} is {recorded:g} in run.json and {first:g} in log.jsonl; "
            f"log.jsonl holds, as run.json has no schedule{of}"
        )


def _compare(key: str, steps: Steps, log: Sequence[Mapping[str, Any]], remarks: list[str]) -> None:
    """Remark on the first line of the log that says another thing than the record.

    Compared is the last update before a line: a log with few lines does not tell when, since the
    line before, a value has changed.
    """
    for line in log:
        seen, update = line.get(key), line["step"] - 1
        if seen is None or update < 0:
            continue
        recorded = _at(steps, update)
        if not math.isclose(recorded, seen, rel_tol=SAME):
            remarks.append(
                f"{key} of update {update} is {recorded:g} in run.json and {seen:g} in log.jsonl; "
                "run.json holds"
            )
            return


def _at(steps: Steps, update: int) -> float:
    return steps[bisect_right(steps, update, key=lambda change: change[0]) - 1][1]
