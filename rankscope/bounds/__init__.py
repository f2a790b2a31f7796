"""P1's bounds on the rank of trained weights, as pure functions of the hyperparameters.

`closed_form` is its Theorem 3.3; `Dynamics` has the exact counts, with schedules and momentum, and
what updates leave of earlier weights. Nothing here imports NumPy. docs/theory.md has the formulas.
"""

from __future__ import annotations

from rankscope.bounds.closed import closed_form
from rankscope.bounds.dynamics import Dynamics, Memory, Phase

__all__ = ["Dynamics", "Memory", "Phase", "closed_form"]
