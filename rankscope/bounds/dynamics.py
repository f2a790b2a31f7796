"""P1's bounds on the rank of trained weights, as pure functions of the hyperparameters.

P1 is Galanti, Siegel, Gupte & Poggio, "SGD and Weight Decay Secretly Minimize the Rank of Your
Neural Network". Its loss carries lambda ||W||^2, so that one update of plain SGD multiplies the
weights by 1 - 2 mu lambda; PyTorch's `weight_decay` is 2 lambda, and is what stands here.

n updates leave W_T = a W_{T-n} + b W_{T-n-1} + U, where U is a sum of gradients of single samples,
each of rank at most m_l. Plain SGD has b = 0 and a = prod (1 - mu_j wd_j), which is Lemma 3.2.
Momentum has a state of two matrices and so a second term.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from rankscope.bounds.closed import check_eps, check_rates
from rankscope.bounds.transfer import IDENTITY, Row, Transfer, exactly, precisely, update
from rankscope.errors import UsageError

# What is above eps / 2 by this share is at it: floating point knows numbers to 2^-53 only, and must
# not turn a tie, as 0.8^3 = 0.512, into one more step.
TIE = Decimal(2) ** -50

# A decay by less than this a step is none: the digits of transfer.py end.
LEAST_DECAY = 1e-25


# n* grows as 1 / (1 - momentum), and its search with it: 0.1 s here.
MOST_MOMENTUM = 0.9999


@dataclass(frozen=True, slots=True)
class Phase:
    """Updates with the same hyperparameters.

    Attributes:
        start: the first of them; update t leads from W_t to W_{t+1}.
        mu: step size.
        weight_decay: PyTorch's, twice the theorem's lambda.
        batch: samples per update, over all devices and accumulated batches.
    """

    start: int
    mu: float
    weight_decay: float
    batch: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What n updates leave of the weights before them.

    W_T - current W_{T-n} - previous W_{T-n-1} is a sum of gradients of `samples` samples, so of
    rank at most m_l * samples.
    """

    current: float
    previous: float
    samples: int


@dataclass(frozen=True, slots=True)
class Dynamics:
    """How SGD moved the weights.

    Attributes:
        phases: by their start, the first at 0; the last has no end.
        momentum: PyTorch's, with dampening 0.
        nesterov: whether the momentum is Nesterov's.
    """

    phases: tuple[Phase, ...]
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        for phase in self.phases:
            check_rates(phase.mu, phase.weight_decay)
            if phase.batch < 1:
                raise UsageError(f"the batch size is {phase.batch}, expected at least 1")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum is {self.momentum:g}, expected a number from 0 below 1")
        if self.momentum > MOST_MOMENTUM:
            raise UsageError(
                f"momentum is {self.momentum!r}, expected at most {MOST_MOMENTUM}: the count takes "
                "1 / (1 - momentum) steps and more"
            )

    def phase(self, update: int) -> Phase:
        """The phase of an update, at least 0."""
        return self.phases[bisect_right(self.phases, update, key=lambda one: one.start) - 1]

    def memory(self, step: int, n: int) -> Memory | None:
        """What the last n updates before `step` leave; 1 <= n <= step.

        None where the update before them had mu = 0, which hides its momentum.

        With momentum the state is (W, v), v_0 = 0, and the last updates multiply it by
        Phi = A_{T-1} ... A_{T-n}. The buffer v_{T-n} follows from two weights: heavy ball has
        v_t = (W_{t-1} - W_t) / mu; Nesterov's has beta v_t = (W_{t-1} - W_t) / mu - wd W_{t-1} - g,
        with one gradient g more, which counts among the samples.
        """
        with precisely():
            row = IDENTITY
            for phase, count in self._back(step, n):
                row = self._update(phase).power(count).after(row)
            terms = self._from_weights(row, step - n)
        return (
            None
            if terms is None
            else Memory(float(terms[0]), float(terms[1]), self.samples(step, n))
        )

    def transfer(self, start: int, end: int) -> tuple[float, float, float, float]:
        """What the updates from `start` to before `end` do to (W, v), gradients aside, by rows."""
        with precisely():
            whole = Transfer(Decimal(1), Decimal(0), Decimal(0), Decimal(1))
            for phase, count in self._back(end, end - start):
                whole = whole.times(self._update(phase).power(count))
        return float(whole.a), float(whole.b), float(whole.c), float(whole.d)

    def momentum_factors(self, step: int) -> tuple[Decimal, Decimal] | None:
        """(f, g) with v_t = f (g W_{t-1} - W_t) up to a gradient, at step t > 0.

        None where the update before had mu = 0, which hides its momentum.
        """
        before = self.phase(step - 1)
        if before.mu == 0:
            return None
        with precisely():
            mu, wd, beta = map(exactly, (before.mu, before.weight_decay, self.momentum))
            return (1 / (mu * beta), 1 - mu * wd) if self.nesterov else (1 / mu, Decimal(1))

    def steps_needed(self, step: int | None, eps: float) -> int | None:
        """n*: the least n for which |a| + |b| <= eps / 2 over the last n updates before `step`.

        With ||W_{T-n}||, ||W_{T-n-1}|| <= 2 ||W_T||, the assumption of Theorem 3.3, W_T is then
        within eps ||W_T|| of a sum of gradients.

        Args:
            step: T; None for any T long after the start of the last phase.
            eps: in (0, 2).

        Returns:
            None where all updates so far are too few, or none decays.
        """
        check_eps(eps)
        with precisely():
            target = exactly(eps) / 2 * (1 + TIE)
            if self.momentum == 0:
                return self._plain_steps(step, target)
            return self._momentum_steps(step, target)

    def samples(self, step: int | None, n: int) -> int:
        """How many samples' gradients the last n updates before `step` hold; 1 <= n <= step."""
        if step is None:
            return n * self.phases[-1].batch + self.nesterov_samples(step, n)
        total = sum(count * phase.batch for phase, count in self._back(step, n))
        return total + self.nesterov_samples(step, n)

    def nesterov_samples(self, step: int | None, n: int) -> int:
        """The samples before the last n updates that Nesterov's momentum brings in."""
        if not self.nesterov or self.momentum == 0 or n == step:
            return 0
        return (self.phases[-1] if step is None else self.phase(step - n - 1)).batch

    def _back(self, step: int, n: int) -> Iterator[tuple[Phase, int]]:
        """The phases of the last n updates before `step`, the latest first, with their lengths."""
        end = step
        last = bisect_right(self.phases, step - 1, key=lambda one: one.start)
        for index in reversed(range(last)):
            phase = self.phases[index]
            start = max(phase.start, step - n)
            if start >= end:
                return
            yield phase, end - start
            end = start

    def _plain_steps(self, step: int | None, target: Decimal) -> int | None:
        steps = 0
        for phase, length in self._phases_before(step):
            shrink = self._update(phase).a
            if length < math.inf and target < (left := shrink ** int(length)):
                target /= left
                steps += int(length)
            elif phase.mu * phase.weight_decay < LEAST_DECAY:
                return None
            else:
                return steps + max(1, math.ceil(target.ln() / shrink.ln()))
        return None

    def _momentum_steps(self, step: int | None, target: Decimal) -> int | None:
        row, steps = IDENTITY, 0
        for phase, length in self._phases_before(step):
            # The weights before any update but its first are of this phase too.
            found = self._within(row, phase, length - 1, target)
            if found is not None:
                return steps + found
            if length == math.inf:
                return None
            row = self._update(phase).power(int(length)).after(row)
            steps += int(length)
            if self._size(row, phase.start) <= target:
                return steps
        return None

    def _phases_before(self, step: int | None) -> Iterator[tuple[Phase, float]]:
        if step is None:
            yield self.phases[-1], math.inf
        else:
            yield from self._back(step, step)

    def _within(self, row: Row, phase: Phase, most: float, target: Decimal) -> int | None:
        """The least number of updates of one phase, up to `most`, that bring a row to `target`."""
        if most == math.inf and phase.mu * phase.weight_decay < LEAST_DECAY:
            return None
        inside = phase.start + 1
        one = self._update(phase)
        if one.oscillates:
            # Each step shrinks what is left by the root of momentum, so that few are needed.
            return self._scan(one.after(row), one, inside, most, target)
        # a and b are sums of two exponentials that do not grow. While neither changes its sign, so
        # is |a| + |b|, which then falls, or rises and falls: from above the target it comes down
        # to it once. Each sign changes once at most (it can after the learning rate was raised).
        steps, signs = 0, None

        def turns(later: Row) -> bool:
            return self._size(later, inside) <= target or self._signs(later, inside) != signs

        while (count := _first(turns, row, one, most - steps)) is not None:
            row = one.power(count).after(row)
            steps += count
            if self._size(row, inside) <= target:
                return steps
            signs = self._signs(row, inside)
        return None

    def _scan(self, row: Row, one: Transfer, step: int, most: float, target: Decimal) -> int | None:
        """The first of `most` rows, each an update further, that is within the target."""
        steps = 1
        while steps <= most:
            if self._size(row, step) <= target:
                return steps
            row = one.after(row)
            steps += 1
        return None

    def _signs(self, row: Row, step: int) -> tuple[bool, ...]:
        terms = self._from_weights(row, step)
        return () if terms is None else tuple(term < 0 for term in terms)

    def _update(self, phase: Phase) -> Transfer:
        return update(phase.mu, phase.weight_decay, self.momentum, nesterov=self.nesterov)

    def _size(self, row: Row, step: int) -> Decimal:
        """|a| + |b| for a row of Phi that begins at `step`."""
        terms = self._from_weights(row, step)
        return Decimal(math.inf) if terms is None else abs(terms[0]) + abs(terms[1])

    def _from_weights(self, row: Row, step: int) -> Row | None:
        """The row x W_t + y v_t as a W_t + b W_{t-1}, up to a gradient; None where mu hides v."""
        x, y = row
        if step == 0 or y == 0:  # momentum starts at 0
            return x, Decimal(0)
        factors = self.momentum_factors(step)
        if factors is None:
            return None
        share = y * factors[0]
        return x - share, share * factors[1]


def _first(turns: Callable[[Row], bool], row: Row, one: Transfer, most: float) -> int | None:
    """The least number of updates, up to `most`, after which a row turns; it does not turn back."""
    # By powers of two up until it has turned, then down.
    powers = [one]
    while 2 ** len(powers) <= most and not turns(powers[-1].after(row)):
        powers.append(powers[-1].times(powers[-1]))
    steps = 0
    for exponent in reversed(range(len(powers))):
        further = powers[exponent].after(row)
        if steps + 2**exponent <= most and not turns(further):
            row = further
            steps += 2**exponent
    return steps + 1 if steps + 1 <= most else None
