"""One choice of hyperparameters and the bound that it gives; or one of them from the bound."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from rankscope.bounds.closed import closed_form
from rankscope.bounds.dynamics import Dynamics, Phase
from rankscope.errors import UsageError

Unknown = Literal["width", "eps", "lambda", "mu", "B"]

FORGETS_NOTHING = (
    "no bound: with lambda or mu 0 nothing of the initial weights is ever forgotten; "
    "give both above 0"
)

# How often a range is halved in search of a number that will do. With momentum it need not be next
# to one that does: past critical damping, mu wd = (1 - sqrt(momentum))^2, the count goes up and
# down. With momentum 0.9999 and one mu that is 2^-28 of the range.
HALVINGS = 40


@dataclass(frozen=True, slots=True)
class Setting:
    """What the bound depends on, each with one value.

    Attributes:
        batch: samples per device and step, before accumulation.
        mu: the constant step size; ignored with a schedule.
        weight_decay: PyTorch's, twice the theorem's lambda.
        eps: distance from a low-rank matrix, relative to the norm.
        inputs: m_l, how many inputs the layer has for one sample.
        momentum: PyTorch's, dampening 0.
        nesterov: whether the momentum is Nesterov's.
        world_size: devices whose gradients are averaged.
        accumulation: batches whose gradients make one step.
        schedule: (step, mu) pairs from step 0 on.
        step: how long was trained; None for long after the last change.
        width: the smaller side of a matrix; None when it is not asked about.
    """

    batch: int = 1
    mu: float = 1.0
    weight_decay: float = 0.0
    eps: float = 1.0
    inputs: int = 1
    momentum: float = 0.0
    nesterov: bool = False
    world_size: int = 1
    accumulation: int = 1
    schedule: tuple[tuple[int, float], ...] = ()
    step: int | None = None
    width: int | None = None

    @property
    def effective_batch(self) -> int:
        """Samples per step, over all devices and accumulated batches."""
        return self.batch * self.world_size * self.accumulation

    @property
    def last_mu(self) -> float:
        """The step size of the last update."""
        changes = [mu for start, mu in self.schedule if self.step is None or start < self.step]
        return changes[-1] if changes else self.mu

    def dynamics(self) -> Dynamics:
        """The updates; `UsageError` where a step would not shrink the weights."""
        changes = self.schedule or ((0, self.mu),)
        phases = (
            Phase(start, mu, self.weight_decay, self.effective_batch) for start, mu in changes
        )
        return Dynamics(tuple(phases), self.momentum, self.nesterov)

    def count(self) -> tuple[int, int] | None:
        """n* and the exact bound, m_l times the samples of n* updates; None without a bound."""
        dynamics = self.dynamics()
        steps = dynamics.steps_needed(self.step, self.eps)
        if steps is None:
            return None
        return steps, self.inputs * dynamics.samples(self.step, steps)

    def closed_form(self) -> float | None:
        """Theorem 3.3's bound, with the last step size; None with momentum, which it leaves out."""
        if self.momentum:
            return None
        decay = self.weight_decay
        return closed_form(self.inputs, self.effective_batch, self.last_mu, decay, self.eps)

    @property
    def below(self) -> bool:
        """Whether the exact bound is below the width."""
        found = self.count()
        return found is not None and self.width is not None and found[1] < self.width

    def why_none(self) -> str:
        """Why there is no bound, where there is none."""
        if not self.weight_decay or not self.last_mu:
            return FORGETS_NOTHING
        if self.step is None:
            return (
                f"no bound: with mu {self.last_mu:g} and lambda {self.weight_decay / 2:g} a step "
                "forgets too little of the initial weights to be told from nothing"
            )
        return f"no bound yet: {self.step} steps are too few to forget the initial weights"


def solve(setting: Setting, unknown: Unknown) -> Setting:
    """The setting with its unknown filled in: the least, or for B the largest, that will do.

    The exact bound is below `width` with it, and with the next smaller number (larger B) not. With
    momentum the bound goes up and down with lambda and mu, so that some smaller one may do as well.
    `UsageError` when none will do, or with momentum none was found.
    """
    return _SOLVERS[unknown](setting)


def _solve_width(setting: Setting) -> Setting:
    found = setting.count()
    if found is None:
        raise UsageError(setting.why_none())
    return replace(setting, width=found[1] + 1)


def _solve_batch(setting: Setting) -> Setting:
    # Of a batch of one; the count of steps does not depend on the batch.
    found = replace(setting, batch=1).count()
    if found is None:
        raise UsageError(setting.why_none())
    largest = ((setting.width or 1) - 1) // found[1]
    if largest < 1:
        raise UsageError(
            f"no B brings the bound below width {setting.width}: with B 1 it is {found[1]}"
        )
    return replace(setting, batch=largest)


def _solve_eps(setting: Setting) -> Setting:
    # From 1 on the zero matrix is near enough, and there is nothing to bound.
    return _least(setting, "eps", 1.0, lambda eps: replace(setting, eps=eps))


def _solve_mu(setting: Setting) -> Setting:
    return _least(setting, "mu", _inverse(setting.weight_decay), lambda mu: replace(setting, mu=mu))


def _solve_lambda(setting: Setting) -> Setting:
    fastest = max(mu for _, mu in setting.schedule or ((0, setting.mu),))
    return _least(
        setting, "lambda", _inverse(fastest), lambda decay: replace(setting, weight_decay=decay)
    )


def _inverse(rate: float) -> float:
    """The end of the other rate's range, mu wd < 1; floating point may end before."""
    if rate == 0:
        raise UsageError(FORGETS_NOTHING)
    return min(1 / rate, sys.float_info.max)


def _least(
    setting: Setting, unknown: Unknown, end: float, given: Callable[[float], Setting]
) -> Setting:
    """The setting with the least number below `end` that brings the bound below the width."""
    # The largest that the checks let through: 1 / fastest may round up.
    most = end * (1 - 2.0**-50)
    fractions = [most / 2**halvings for halvings in range(HALVINGS)]
    high = min((value for value in fractions if given(value).below), default=None)
    if high is None:
        raise UsageError(_why_unsolved(setting, unknown, given(most)))
    low = high / 2
    while low > 0 and given(low).below:
        low, high = low / 2, low
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if given(middle).below else (middle, high)
    return given(high)


def _why_unsolved(setting: Setting, unknown: Unknown, most: Setting) -> str:
    """Why no value of the unknown will do; `most` has the largest that it can have."""
    found = most.count()
    if found is None:
        return most.why_none()
    none = f"no {unknown} brings the bound below width {setting.width}"
    one = setting.inputs * setting.effective_batch
    if setting.width is not None and one >= setting.width:
        return f"{none}: one step alone adds m B = {one} directions"
    if setting.momentum and unknown != "eps":
        return f"{none}, of those tried: with momentum the bound stays at some {found[1]}"
    return f"{none}: with the largest possible it is {found[1]}"


_SOLVERS: dict[Unknown, Callable[[Setting], Setting]] = {
    "width": _solve_width,
    "eps": _solve_eps,
    "lambda": _solve_lambda,
    "mu": _solve_mu,
    "B": _solve_batch,
}
