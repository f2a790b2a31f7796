"""What counts as level, on courses of which it is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from trainers.completion.plateau import Course, Plateau
from trainers.completion.recording import Reading

Curve = Callable[[int], float]


def reading(step: int, error: float, rank: float, norm: float, loss: float) -> Reading:
    return Reading(step, loss, None, error, error, error, error, rank, (norm,), None, None)


def always(value: float) -> Curve:
    return lambda _: value


FIVE, HUNDRED, ZERO = always(5), always(100), always(0)


def level_at(
    error: Curve,
    rank: Curve = FIVE,
    norm: Curve = HUNDRED,
    loss: Curve = ZERO,
    *,
    deep: bool = False,
) -> int | None:
    """After how many iterations it is over, read every 100."""
    course = Course(deep=deep, zero_loss=2000.0)
    for step in range(0, 60_000, 100):
        course.add(reading(step, error(step), rank(step), norm(step), loss(step)))
        if course.is_level(Plateau()):
            return step
    return None


def test_what_never_changes_is_level_after_two_windows() -> None:
    assert level_at(always(1)) == 4000


def test_a_decay_is_level_once_it_has_died_out() -> None:
    """Means of 1 + e^(-t / 3000) over two windows of 2000 differ by 1.35 e^(-t / 3000)."""
    step = level_at(lambda step: 1 + math.exp(-step / 3000))
    assert step is not None
    assert 3000 * math.log(135) == pytest.approx(step, abs=200)


@pytest.mark.parametrize("power", [0.15, 0.5, 1.0])
def test_what_creeps_as_a_power_of_the_time_is_never_level(power: float) -> None:
    assert level_at(lambda step: (step + 1.0) ** -power) is None


def test_an_error_that_falls_to_the_size_of_a_step_is_level() -> None:
    step = level_at(lambda step: math.exp(-step / 1000))
    assert step is not None
    assert 12_000 < step < 30_000


def test_jitter_is_level() -> None:
    assert (
        level_at(lambda step: 3e-6 * (1.5 + math.sin(step)), lambda step: 5 + 0.1 * math.cos(step))
        == 4000
    )


def test_all_three_have_to_be_level() -> None:
    def growing(step: int) -> float:
        return 1 + step / 1000

    assert level_at(always(1), rank=growing) is None
    assert level_at(always(1), norm=growing) is None


STAGES: Sequence[tuple[int, float, float]] = (
    (0, 1.0, 2000.0),
    (10_000, 0.3, 500.0),
    (30_000, 0.0, 0.1),
)


def staged(column: int) -> Curve:
    return lambda step: next(stage[column] for stage in reversed(STAGES) if step >= stage[0])


def test_a_deep_network_is_not_over_while_it_learns_in_stages() -> None:
    """Three level stretches; the observed entries fit in the last."""
    step = level_at(staged(1), loss=staged(2), deep=True)
    assert step is not None
    assert 30_000 < step < 50_000
    assert level_at(staged(1), loss=staged(2)) == 4000


def test_a_zero_matrix_is_level() -> None:
    course = Course(deep=False, zero_loss=1.0)
    for step in range(0, 4100, 100):
        course.add(Reading(step, 1.0, None, 1.0, 1.0, 1.0, 1.0, None, (0.0, 0.0), None, None))
    assert course.is_level(Plateau())
