"""Sums over the updates against `Dynamics`, which walks through them in decimals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.bounds.cumulated import Cumulated
from rankscope.bounds.dynamics import Dynamics, Phase

RATES = st.sampled_from([0.0, 1e-6, 1e-3, 0.01, 0.1, 0.5, 0.9])


@st.composite
def schedules(draw: st.DrawFn) -> Dynamics:
    starts = sorted({0, *draw(st.lists(st.integers(1, 200), max_size=12))})
    phases = tuple(
        Phase(start, draw(RATES), draw(RATES), draw(st.integers(1, 9))) for start in starts
    )
    momentum = draw(st.sampled_from([0.0, 0.0, 0.9]))
    return Dynamics(phases, momentum, nesterov=momentum > 0 and draw(st.booleans()))


@given(dynamics=schedules(), step=st.integers(1, 300), eps=st.sampled_from([0.5, 0.1, 1e-3, 1.9]))
def test_steps_needed_are_those_of_a_walk(dynamics: Dynamics, step: int, eps: float) -> None:
    assert Cumulated(dynamics).steps_needed(step, eps) == dynamics.steps_needed(step, eps)


@given(dynamics=schedules(), step=st.integers(1, 300), data=st.data())
def test_samples_are_those_of_a_walk(dynamics: Dynamics, step: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, step))
    assert Cumulated(dynamics).samples(step, n) == dynamics.samples(step, n)


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_a_tie_is_decided_in_decimals(n: int) -> None:
    dynamics = Dynamics((Phase(0, 0.1, 2.0, 1),))  # 1 - mu wd = 0.8
    eps = float(2 * 0.8**n)
    assert Cumulated(dynamics).steps_needed(100, eps) == dynamics.steps_needed(100, eps)


def test_a_phase_for_every_step_is_not_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    phases = tuple(Phase(step, 0.1 / (1 + step / 1000), 0.01, 8) for step in range(50_000))
    dynamics = Dynamics(phases)
    walked = dynamics.steps_needed(49_950, 0.01)
    sums = Cumulated(dynamics)
    monkeypatch.delattr(Dynamics, "steps_needed")
    needed = {step: sums.steps_needed(step, 0.01) for step in range(20_000, 50_000, 50)}
    assert needed[49_950] == walked
