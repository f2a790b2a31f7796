"""n* with momentum at many snapshots of one run, walking back through its updates once.

`Dynamics.steps_needed` bisects within a phase, which is no help where the learning rate changes at
every step. Here each update is applied to the rows of all snapshots after it at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rankscope.bounds.dynamics import Dynamics

# Floats are trusted to this share of the target; nearer to it, decimals decide.
DOUBT = 1e-9


def steps_needed_at(dynamics: Dynamics, steps: Sequence[int], eps: float) -> dict[int, int | None]:
    """`Dynamics.steps_needed(step, eps)` for every step, each above 0."""
    ends = np.array(sorted(set(steps), reverse=True))
    x, y = np.zeros(len(ends)), np.zeros(len(ends))
    found, doubtful = np.zeros(len(ends), np.int64), np.zeros(len(ends), bool)
    begun, target = 0, eps / 2
    for update in range(int(ends[0]) - 1 if len(ends) else -1, -1, -1):
        while begun < len(ends) and ends[begun] == update + 1:
            x[begun] = 1.0
            begun += 1
        rows = np.flatnonzero(found[:begun] == 0)
        if rows.size == 0:
            continue
        a, b, c, d = dynamics.transfer(update, update + 1)
        x[rows], y[rows] = x[rows] * a + y[rows] * c, x[rows] * b + y[rows] * d
        size = np.abs(x[rows])
        if update > 0:
            factors = dynamics.momentum_factors(update)
            if factors is None:
                continue
            share = y[rows] * float(factors[0])
            size = np.abs(x[rows] - share) + np.abs(share * float(factors[1]))
        doubtful[rows] |= np.abs(size - target) < DOUBT * target
        there = rows[size <= target]
        found[there] = ends[there] - update
    return {
        int(end): dynamics.steps_needed(int(end), eps) if unsure else int(steps) or None
        for end, steps, unsure in zip(ends, found, doubtful, strict=True)
    }
