"""The walk with momentum against the count of each step by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.bounds.dynamics import Dynamics, Phase
from rankscope.walk import steps_needed_at

RATES = st.sampled_from([0.0, 1e-3, 0.01, 0.1, 0.5, 0.9])


@given(
    rates=st.lists(st.tuples(RATES, RATES), min_size=1, max_size=40),
    momentum=st.sampled_from([0.3, 0.9, 0.99]),
    nesterov=st.booleans(),
    eps=st.sampled_from([1e-3, 0.1, 0.7, 1.9]),
    steps=st.lists(st.integers(1, 60), min_size=1, max_size=8),
)
def test_is_what_each_step_needs(
    rates: list[tuple[float, float]],
    momentum: float,
    nesterov: bool,
    eps: float,
    steps: list[int],
) -> None:
    phases = tuple(Phase(start, mu, wd, 4) for start, (mu, wd) in enumerate(rates))
    dynamics = Dynamics(phases, momentum, nesterov)
    expected = {step: dynamics.steps_needed(step, eps) for step in steps}
    assert steps_needed_at(dynamics, steps, eps) == expected


def test_a_tie_is_left_to_decimals(monkeypatch: pytest.MonkeyPatch) -> None:
    dynamics = Dynamics((Phase(0, 0.1, 2.0, 1),), 0.5)
    left = dynamics.memory(60, 12)
    assert left is not None
    eps = 2 * (abs(left.current) + abs(left.previous))
    asked = []
    counted = Dynamics.steps_needed

    def noted(self: Dynamics, step: int | None, eps: float) -> int | None:
        asked.append(step)
        return counted(self, step, eps)

    monkeypatch.setattr(Dynamics, "steps_needed", noted)
    assert steps_needed_at(dynamics, [60, 7], eps) == {60: 12, 7: None}
    assert asked == [60]


def test_of_nothing_is_nothing() -> None:
    assert steps_needed_at(Dynamics((Phase(0, 0.1, 0.1, 1),), 0.9), [], 0.1) == {}
