"""What is recorded along a path of `flow completion`, and what is said of it at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainers.flow.completion2x2 import Problem
    from trainers.flow.factors import Matrix

PATH_FILE = "path.csv"

# Near those that P3's picture passes, and the end of a run with the defaults.
SHOWN_LOSSES = (0.13, 0.013, 0.0013, 0.0001)


@dataclass(frozen=True)
class Point:
    """One point of a path: a line of `path.csv`.

    Attributes:
        method: flow or descent.
        step: updates of gradient descent by then.
        time: step times the step size.
        loss: l, half the sum of squared errors.
        w11: the entry that is not observed.
        frobenius: norm of the product, as the next two.
        nuclear: the sum of its singular values.
        spectral: the largest.
        effective_rank: exp of the entropy of the singular values' shares.
        distance: Frobenius, to the matrices of the infimal rank.
        determinant: its sign, of the leading block of 2 + ones rows; 0 where rounding hides it.
        imbalance: largest ||W_{j+1}^T W_{j+1} - W_j W_j^T||_F.
        norm_bound: what the three norms are at least, under Theorem 1's hypotheses.
        effective_rank_bound: what the effective rank is at most.
        distance_bound: what the distance is at most.
    """

    method: str
    step: int
    time: float
    loss: float
    w11: float
    frobenius: float
    nuclear: float
    spectral: float
    effective_rank: float
    distance: float
    determinant: int
    imbalance: float
    norm_bound: float
    effective_rank_bound: float | None
    distance_bound: float

    @property
    def holds(self) -> bool:
        """Whether the three bounds do."""
        rank = self.effective_rank_bound
        return (
            min(self.frobenius, self.nuclear, self.spectral) >= self.norm_bound
            and (rank is None or self.effective_rank <= rank)
            and self.distance <= self.distance_bound
        )


def point(problem: Problem, method: str, step: int, lr: float, factors: Sequence[Matrix]) -> Point:
    """What is recorded of the factors."""
    import rankscope
    from rankscope import metrics
    from trainers.flow import completion2x2
    from trainers.flow.factors import imbalance, product

    weight = product(factors)
    loss = problem.loss(weight)
    spectrum = rankscope.spectrum(weight, route="direct")
    return Point(
        method=method,
        step=step,
        time=step * lr,
        loss=loss,
        w11=float(weight[0, 0]),
        frobenius=metrics.frobenius_norm(spectrum).value or 0.0,
        nuclear=metrics.nuclear_norm(spectrum).value or 0.0,
        spectral=metrics.spectral_norm(spectrum).value or 0.0,
        effective_rank=metrics.effective_rank(spectrum).value or 0.0,
        distance=metrics.distance_to_rank(spectrum, problem.infimal_rank).value or 0.0,
        determinant=completion2x2.determinant_sign(problem, weight),
        imbalance=imbalance(factors),
        norm_bound=completion2x2.norm_bound(loss),
        effective_rank_bound=completion2x2.effective_rank_bound(problem, loss),
        distance_bound=completion2x2.distance_bound(loss),
    )


def report(points: Sequence[Point], diverged: int | None) -> str:
    """A table of both paths at a few losses and at their ends, then what held and what did not.

    Args:
        points: of both paths.
        diverged: the step by which descent had; None where it did not.
    """
    from trainers.flow.tables import show_table

    names = ("method", "step", "loss", "|W_11|", "1/sqrt(2l)", "nuclear", ">=", "erank-1", "<=")
    rows, ends = [], []
    for method in ("flow", "descent"):
        path = [one for one in points if one.method == method]
        if not path:
            continue
        near = [min(path, key=lambda one: abs(math.log(one.loss / loss))) for loss in SHOWN_LOSSES]
        rows += [_shown(one) for one in dict.fromkeys((*near, path[-1]))]
        if method == "descent" and diverged is not None:
            ends.append(f"descent: diverged by step {diverged}; its bounds are not judged")
        else:
            ends.append(_ending(method, path))
    head = (*names, "distance", "<=", "det", "imbalance")
    return "\n".join((show_table(head, rows), *ends))


def _shown(one: Point) -> tuple[object, ...]:
    bound = one.effective_rank_bound
    return (
        *(one.method, one.step, one.loss, abs(one.w11), 1 / math.sqrt(2 * one.loss)),
        *(one.nuclear, one.norm_bound),
        *(one.effective_rank - 1, None if bound is None else bound - 1),
        *(one.distance, one.distance_bound, "-0+"[one.determinant + 1], one.imbalance),
    )


def _ending(method: str, path: Sequence[Point]) -> str:
    held = sum(one.holds for one in path)
    worst = max(one.imbalance for one in path)
    left = next((one for one in path if one.determinant < 0), None)
    sign = "never negative"
    if left is not None:
        sign = f"negative on or before step {left.step} (time {left.time:.4g})"
    return (
        f"{method}: the three bounds hold at {held} of {len(path)} points; determinant {sign}; "
        f"imbalance at most {worst:.2g}"
    )
