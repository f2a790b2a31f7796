"""The training loop: a batch of problems, one optimiser, gradients without autograd.

    for visit in descend(tasks, plan):
        ...  # look at visit.readings, visit.product, visit.layers, visit.ended

Tasks of a batch share the optimiser, the learning rate and the networks' widths, and nothing else:
seeds, penalties, their strengths and the numbers of observed entries are each task's own. What one
task does is, to round-off, what it does alone. One that is over leaves the batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rankscope.errors import UsageError
from trainers.completion import optimisers
from trainers.completion.cell import LossName, OptimiserName
from trainers.completion.factors import gradients, partial_products
from trainers.completion.penalties import NoPenalty, Penalty
from trainers.completion.plateau import Course, Plateau
from trainers.completion.problem import Problem
from trainers.completion.recording import Reading, Targets, read

End = Literal["plateau", "iterations", "stop-loss", "diverged"]


@dataclass(frozen=True, slots=True)
class Task:
    """One network of a batch.

    Attributes:
        problem: what it completes.
        layers: W_1, ..., W_N as they start, float64, layer j of shape (d_j, d_{j-1}).
        penalty: R.
        strength: lambda.
        loss: of the observed entries.
    """

    problem: Problem
    layers: Sequence[Tensor]
    penalty: Penalty
    strength: float
    loss: LossName = "sum"

    @property
    def factor(self) -> float:
        """Of the sum of squared errors in the loss."""
        mean = 1 / int(self.problem.observed.sum())
        return {"sum": 1.0, "half-sum": 0.5, "mean": mean}[self.loss]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a batch is trained.

    Attributes:
        optimiser: which.
        lr: its learning rate.
        iterations: at most so many updates.
        plateau: where a task is over before that; None for nowhere.
        stop_loss: a task is over when its training loss is below; None for never.
        record_every: updates between two readings.
        also: further steps to read at.
        dtype: float32 or float64.
        device: as PyTorch calls it.
    """

    optimiser: OptimiserName
    lr: float
    iterations: int
    plateau: Plateau | None
    stop_loss: float | None = None
    record_every: int = 100
    also: frozenset[int] = frozenset()
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.plateau is not None and self.plateau.window < 4 * self.record_every:
            raise UsageError(
                f"record_every is {self.record_every}, expected at most "
                f"{self.plateau.window // 4}, a quarter of what a plateau is seen over"
            )

    def reads(self, step: int) -> bool:
        """Whether there is a reading after so many updates."""
        return step % self.record_every == 0 or step in self.also or step == self.iterations


@dataclass(frozen=True, slots=True)
class Visit:
    """A batch after some number of updates; the tensors change with the next.

    Attributes:
        step: updates done.
        numbers: which tasks are in the batch, in the order of its rows.
        product: W, shape (batch, m, n).
        layers: W_1, ..., W_N, each (batch, d_j, d_{j-1}).
        readings: of each row.
        ended: the numbers of the tasks that are over now, with why.
    """

    step: int
    numbers: tuple[int, ...]
    product: Tensor
    layers: Sequence[Tensor]
    readings: Sequence[Reading]
    ended: Mapping[int, End]


@contextmanager
def subnormals_flushed() -> Iterator[None]:
    """Count numbers below 1e-38 (float32) as 0.

    Adam's averages of gradients that have died out sink among them, where a CPU takes tens of
    times as long for a product.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@dataclass(slots=True)
class Batch:
    """The tasks that are not over yet, one row each, rows with the same penalty side by side."""

    numbers: list[int]
    goals: Targets
    penalties: list[Penalty]
    strengths: Tensor
    layers: list[Tensor]
    optimiser: torch.optim.Optimizer

    @staticmethod
    def of(tasks: Sequence[Task], plan: Plan) -> Batch:
        """All tasks at their start."""
        numbers = sorted(range(len(tasks)), key=lambda number: tasks[number].penalty.name)
        rows = [tasks[number] for number in numbers]
        layers = [
            torch.stack(list(parts)).to(plan.device, plan.dtype)
            for parts in zip(*(row.layers for row in rows), strict=True)
        ]
        target = torch.stack([row.problem.target for row in rows]).to(plan.device, plan.dtype)
        observed = torch.stack([row.problem.observed for row in rows]).to(plan.device)
        factor = torch.tensor([row.factor for row in rows], device=plan.device, dtype=plan.dtype)
        strengths = torch.tensor(
            [row.strength for row in rows], device=plan.device, dtype=plan.dtype
        )
        return Batch(
            numbers,
            Targets(target, observed, factor),
            [row.penalty for row in rows],
            strengths,
            layers,
            optimisers.build(plan.optimiser, layers, plan.lr),
        )

    def parts(self) -> Iterator[tuple[Penalty, slice]]:
        """The penalties, each with its rows; those of no penalty left out."""
        start = 0
        for penalty, rows in itertools.groupby(self.penalties):
            end = start + len(list(rows))
            if not isinstance(penalty, NoPenalty):
                yield penalty, slice(start, end)
            start = end

    def penalty_values(self, product: Tensor) -> Tensor:
        """R of each row, shape (batch,); NaN where there is none."""
        values = torch.full_like(self.strengths, torch.nan)
        for penalty, rows in self.parts():
            values[rows] = penalty.value_and_gradient(product[rows])[0]
        return values

    def update(self, products: Sequence[Tensor]) -> None:
        """One step of the optimiser.

        Args:
            products: `partial_products` of the layers.
        """
        product, goals = products[-1], self.goals
        pulled = 2 * goals.factor[:, None, None] * (product - goals.target) * goals.observed
        for penalty, rows in self.parts():
            slopes = penalty.value_and_gradient(product[rows])[1]
            pulled[rows] += self.strengths[rows, None, None] * slopes
        for layer, gradient in zip(
            self.layers, gradients(self.layers, products, pulled), strict=True
        ):
            layer.grad = gradient
        self.optimiser.step()

    def drop(self, ended: Collection[int]) -> None:
        """Go on without some tasks."""
        rows = [row for row, number in enumerate(self.numbers) if number not in ended]
        positions = torch.tensor(rows, dtype=torch.int64, device=self.strengths.device)
        self.layers = optimisers.keep(self.optimiser, positions)
        self.goals = self.goals.kept(positions)
        self.strengths = self.strengths[positions]
        self.penalties = [self.penalties[row] for row in rows]
        self.numbers = [self.numbers[row] for row in rows]


def descend(tasks: Sequence[Task], plan: Plan) -> Iterator[Visit]:
    """Train a batch until every task is over; comes back at each reading, the start included.

    Args:
        tasks: at least one, all of the same widths.
        plan: how.
    """
    batch = Batch.of(tasks, plan)
    courses = [Course(deep=len(task.layers) > 1, zero_loss=_zero_loss(task)) for task in tasks]
    for step in itertools.count():
        products = partial_products(batch.layers)
        if plan.reads(step):
            values = batch.penalty_values(products[-1])
            readings = read(step, products[-1], batch.layers, batch.goals, values)
            ended: dict[int, End] = {}
            for number, reading in zip(batch.numbers, readings, strict=True):
                courses[number].add(reading)
                why = _end(plan, courses[number], reading)
                if why is not None:
                    ended[number] = why
            yield Visit(step, tuple(batch.numbers), products[-1], batch.layers, readings, ended)
            if len(ended) == len(batch.numbers):
                return
            if ended:
                batch.drop(ended)
                products = partial_products(batch.layers)
        batch.update(products)


def _zero_loss(task: Task) -> float:
    target = task.problem.target[task.problem.observed]
    return task.factor * float(target.square().sum())


def _end(plan: Plan, course: Course, reading: Reading) -> End | None:
    """Why a task is over, if it is."""
    if not math.isfinite(reading.train_loss):
        return "diverged"
    if plan.stop_loss is not None and reading.train_loss < plan.stop_loss:
        return "stop-loss"
    if plan.plateau is not None and course.is_level(plan.plateau):
        return "plateau"
    return "iterations" if reading.step >= plan.iterations else None
