"""How long measuring takes and what limits it, from the work and a machine's rates.

The makespan is that of a simulation: tasks go to workers in the very order in which
`rankscope.measure` hands them out, and each takes what the rates say of its matrices.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from rankscope import plan
from rankscope.engines import INLINE_FLOPS
from rankscope.rates import Rates
from rankscope.taskcosts import Costs, Phases, Work, costs_of, spectrum_bytes, task_flops

# What a prediction is off by although the machine is quiet: 16 of 18 were within (docs/scale.md).
MODEL_ERROR = 0.25

# A thread that has let go of the interpreter gets it back when another one's 5 ms are over
# (sys.getswitchinterval): matrices that take less gain nothing from several threads. Measured:
# 2,000 of order 128 on two threads take 1.3 times as long as on one.
SWITCH_SECONDS = 0.005

GAIN = 0.05  # of the time: workers beyond those that come as close to the least time gain nothing


@dataclass(frozen=True, slots=True)
class Prediction:
    """What so many workers take.

    Attributes:
        workers: that were asked for.
        used: no more than there are tasks.
        seconds: of the whole command, from its start to its end.
        least: where the machine does as well as at its best while it was measured.
        most: where it does as badly as at its worst.
        memory_bytes: of all processes, an upper bound.
        worker_bytes: of each worker, an upper bound.
        phases: of all workers together.
        limit: what the time hangs on: arithmetic, reading, the largest task, collecting, start.
    """

    workers: int
    used: int
    seconds: float
    least: float
    most: float
    memory_bytes: int
    worker_bytes: int
    phases: Phases
    limit: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What measuring takes, for several numbers of workers.

    Attributes:
        predictions: by ascending number of workers; the last one's is what was asked for.
        matrices: to be decomposed.
        known: others, whose spectra the store has.
        bytes: to be read.
        store_bytes: that the store grows by; 0 without one.
        direct_seconds: with the workers asked for, if every matrix needs the direct route too.
        useful: more workers than this gain less than a twentieth of the time.
        rates: that were reckoned with.
    """

    predictions: tuple[Prediction, ...]
    matrices: int
    known: int
    bytes: int
    store_bytes: int
    direct_seconds: float
    useful: int
    rates: Rates

    @property
    def asked(self) -> Prediction:
        """With the workers asked for."""
        return self.predictions[-1]

    def to_document(self) -> dict[str, Any]:
        """The part of a JSON document."""
        told = {part.name: getattr(self, part.name) for part in fields(self)}
        told["predictions"] = [asdict(one) for one in self.predictions]
        return told | {"rates": self.rates.to_document()}


def predict(work: Work, rates: Rates, workers: int, known: int = 0) -> Plan:
    """What the work takes with 1, 2, 4, ... and the workers asked for.

    Args:
        work: what there is to do.
        rates: of the machine.
        workers: that are asked for.
        known: matrices that the store has.
    """
    counts = [1 << power for power in range(workers.bit_length()) if 1 << power < workers]
    costs = costs_of(work, rates)
    direct = costs_of(replace(work, direct=True), rates)
    specs = work.specs
    return Plan(
        predictions=tuple(prediction(costs, count) for count in (*counts, workers)),
        matrices=len(specs),
        known=known,
        bytes=sum(map(plan.stored_bytes, specs)),
        store_bytes=sum(map(spectrum_bytes, specs)) if work.stored else 0,
        direct_seconds=prediction(direct, workers).seconds,
        useful=useful_workers(costs),
        rates=rates,
    )


def prediction(costs: Costs, workers: int) -> Prediction:
    """What the work takes with so many workers."""
    work, rates = costs.work, costs.rates
    used = max(1, min(workers, len(work.tasks)))
    kinds = costs.phases(used)
    each = [one.total for one in kinds]
    seconds = [each[kind] for kind in costs.kinds]
    summed = Phases()
    for kind, count in Counter(costs.kinds).items():
        summed = summed.plus(kinds[kind], count)
    several = in_processes(work)
    shared = 0.0 if several else _serial(costs, kinds)
    bounds = _bounds(costs, max(seconds, default=0.0), shared)
    whole = max(makespan(seconds, used), *bounds.values())
    start = rates.workers if several else 0.0
    total = rates.command + work.listing + start + whole
    waited = Phases(start=used * start, idle=used * whole - sum(seconds))
    spread = max(MODEL_ERROR, rates.spread)
    cost = plan.cost(work.specs)
    return Prediction(
        workers=workers,
        used=used,
        seconds=total,
        least=total / (1 + spread),
        most=total * (1 + spread),
        # An upper bound of processes is one of threads, which share one.
        memory_bytes=cost.memory(used),
        worker_bytes=plan.PROCESS_BYTES + cost.peak,
        phases=summed.plus(waited),
        limit=_limit(whole, total, bounds),
    )


def in_processes(work: Work) -> bool:
    """Whether `measure` starts worker processes for it, not threads."""
    return work.isolated or sum(map(task_flops, work.tasks)) >= INLINE_FLOPS


def _serial(costs: Costs, kinds: Sequence[Phases]) -> float:
    """What threads of one interpreter do one after the other, in seconds."""
    total = 0.0
    for kind, task in zip(costs.kinds, costs.work.tasks, strict=True):
        phases = kinds[kind]
        matrix = (phases.total - phases.overhead) / max(1, len(task))
        total += phases.total if matrix < SWITCH_SECONDS else phases.overhead
    return total


def _bounds(costs: Costs, largest: float, shared: float) -> dict[str, float]:
    """What no number of workers makes shorter, in seconds.

    Args:
        costs: of the work.
        largest: seconds of the largest task.
        shared: what one interpreter does for all workers, where they are its threads.
    """
    work, storage = costs.work, costs.rates.storage
    cold = storage.cold_bytes(sum(map(plan.stored_bytes, work.specs)))
    return {
        "the largest task": largest,
        "reading": cold / storage.cold if storage.cold else 0.0,
        "collecting": sum(map(len, work.tasks)) * costs.rates.row + shared,
    }


def _limit(whole: float, total: float, bounds: Mapping[str, float]) -> str:
    if whole < total / 2:
        return "start"
    name = max(bounds, key=lambda one: bounds[one])
    return name if bounds[name] >= (1 - GAIN) * whole else "arithmetic"


def makespan(seconds: Sequence[float], workers: int) -> float:
    """When the last of tasks is done that are taken in order by whichever worker is free first."""
    free = [0.0] * workers
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def useful_workers(costs: Costs) -> int:
    """How many workers come within a twentieth of the least time that any number takes."""
    low, high = 1, max(1, len(costs.work.tasks))
    enough = prediction(costs, high).seconds * (1 + GAIN)
    while low < high:
        middle = (low + high) // 2
        if prediction(costs, middle).seconds <= enough:
            high = middle
        else:
            low = middle + 1
    return low
