"""When a run is over: its metrics are level, not its loss small.

The loss of P2's problems is below any threshold long before the matrix is recovered: with Adam and
the ratio penalty the observed entries fit to 1e-7 while the others are still off by a tenth, and
its authors' stop at a loss of 1e-7 would end the run there.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from trainers.completion.recording import Reading

# Descent in deep networks learns one singular value after another with level stretches between,
# each about as long as all before it: before the observed entries fit to this share of the loss
# at W = 0, such a stretch is not taken for the end. Every completed problem is far below it.
FITTED = 0.01

# Errors below this share of the target's are all the same: one Adam step of the learning rate 1e-3
# moves every entry by as much as its root.
JITTER = 1e-6


@dataclass(frozen=True, slots=True)
class Plateau:
    """What counts as level: means over the last window and over the one before agree.

    Attributes:
        window: its shortest length in iterations.
        share: of the iterations done, its length where that is more: what creeps as a power of the
            time, as Adagrad does, changes less and less in any fixed number of iterations.
        tolerance: relative difference of the unobserved-entry error, the effective rank and the
            Frobenius norm.
    """

    window: int = 2000
    share: float = 0.1
    tolerance: float = 0.01


@dataclass(slots=True)
class Course:
    """How one network has gone so far.

    Attributes:
        deep: whether it has more than one layer, and so level stretches.
        zero_loss: the training loss at W = 0.
        steps: at which it was read.
        values: relative unobserved-entry error, effective rank and Frobenius norm, at each.
        loss: the training loss at the last.
    """

    deep: bool
    zero_loss: float
    steps: list[int] = field(default_factory=list)
    values: list[tuple[float, float, float]] = field(default_factory=list)
    loss: float = float("inf")

    def add(self, reading: Reading) -> None:
        """Go on by one reading."""
        rank = 0.0 if reading.effective_rank is None else reading.effective_rank
        self.steps.append(reading.step)
        self.values.append((reading.relative_unobserved, rank, reading.frobenius_norm))
        self.loss = reading.train_loss

    def is_level(self, plateau: Plateau) -> bool:
        """Whether it is over."""
        now = self.steps[-1]
        window = max(plateau.window, plateau.share * now)
        if now < 2 * window or (self.deep and self.loss > FITTED * self.zero_loss):
            return False
        before = self._means(now - 2 * window, now - window)
        after = self._means(now - window, now)
        slack = (JITTER, 0.0, 0.0)
        return all(
            abs(new - old) <= plateau.tolerance * abs(old) + extra
            for old, new, extra in zip(before, after, slack, strict=True)
        )

    def _means(self, after: float, until: float) -> list[float]:
        first, last = bisect_right(self.steps, after), bisect_right(self.steps, until)
        return [
            sum(column) / (last - first) for column in zip(*self.values[first:last], strict=True)
        ]
