"""Theorem 3.3 of P1 in closed form, and the range that the theorem speaks of."""

from __future__ import annotations

import math

from rankscope.bounds.transfer import exactly
from rankscope.errors import UsageError


def closed_form(inputs: int, batch: int, mu: float, weight_decay: float, eps: float) -> float:
    """The bound of P1's Theorem 3.3, m_l B log(2/eps) / (2 mu lambda); infinite without decay.

    For plain SGD with constant hyperparameters. The proof counts whole steps, so that the bound
    is safe only from eps <= 2 e^-2 on; `Dynamics.steps_needed` has the exact count.

    >>> round(closed_form(1, 8, 0.5, 5e-4, 1e-3))
    243229
    """
    check_rates(mu, weight_decay)
    check_eps(eps)
    shrink = mu * weight_decay
    return inputs * batch * (math.log(2) - math.log(eps)) / shrink if shrink > 0 else math.inf


def check_rates(mu: float, weight_decay: float) -> None:
    """`UsageError` unless Theorem 3.3 speaks of such a step."""
    for name, value in (("mu", mu), ("weight decay", weight_decay)):
        if not 0 <= value < math.inf:
            raise UsageError(f"{name} is {value:g}, expected a number from 0")
    if exactly(mu) * exactly(weight_decay) >= 1:
        raise UsageError(
            f"mu lambda is {mu * weight_decay / 2:g}, expected less than 0.5: a step would not "
            f"shrink the weights; with mu {mu:g}, lambda has to be below {0.5 / mu:g} "
            f"(weight decay below {1 / mu:g})"
        )


def check_eps(eps: float) -> None:
    """`UsageError` unless eps is in (0, 2)."""
    if not 0 < eps < 2:
        raise UsageError(
            f"eps is {eps:g}, expected a number between 0 and 2: at 2 the bound on "
            "||W_T - W|| / ||W_T|| holds for any W of that norm"
        )
