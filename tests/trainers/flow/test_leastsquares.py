"""Least squares: the closed form for any start against matrix exponentials, solvers and descent."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from trainers.flow.factors import Matrix
from trainers.flow.leastsquares import (
    Problem,
    closed_form,
    descended,
    integrated,
    limit,
    null_part,
)


def problem(samples: int = 5, features: int = 7, rank: int = 3, *, zero: bool = False) -> Problem:
    generator = np.random.default_rng(3)
    design = generator.standard_normal((samples, rank)) @ generator.standard_normal(
        (rank, features)
    )
    starts = generator.standard_normal((features, 4)) * (0 if zero else 1)
    return Problem(design / 4, generator.standard_normal(samples), starts)


def exponential(one: Problem, time: float) -> Matrix:
    """The affine equation b' = z - A b as one linear equation, by SciPy's matrix exponential."""
    features = one.design.shape[1]
    whole = np.zeros((features + 1, features + 1))
    whole[:features, :features] = -2 * one.design.T @ one.design
    whole[:features, features] = 2 * one.design.T @ one.observed
    start = np.vstack([one.starts, np.ones(one.starts.shape[1])])
    found: Matrix = (scipy.linalg.expm(time * whole) @ start)[:features]
    return found


def printed(one: Problem, time: float) -> Matrix:
    """P3's b_t = V Sigma_t^T U^T y: the same for every start."""
    left, sigma, right = np.linalg.svd(one.design, full_matrices=False)
    alive = sigma > 1e-12
    shares = (1 - np.exp(-2 * time * sigma[alive] ** 2)) / sigma[alive]
    found = right[alive].T @ (shares * (left[:, alive].T @ one.observed))
    return np.repeat(found[:, None], one.starts.shape[1], axis=1)


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 5), (7, 5, 5), (7, 5, 2)])
@pytest.mark.parametrize("time", [0.0, 0.01, 1.0, 30.0])
def test_the_closed_form_solves_the_flow(shape: tuple[int, int, int], time: float) -> None:
    one = problem(*shape)
    assert closed_form(one, time) == pytest.approx(exponential(one, time), abs=1e-11)


@pytest.mark.parametrize("time", [0.01, 1.0, 30.0])
def test_the_print_holds_from_0_only(time: float) -> None:
    one, other = problem(zero=True), problem()
    assert printed(one, time) == pytest.approx(exponential(one, time), abs=1e-11)
    assert np.abs(printed(other, time) - exponential(other, time)).max() > 0.1


def test_the_limit_keeps_what_the_data_do_not_see() -> None:
    one = problem()
    inverse = np.linalg.pinv(one.design, rcond=1e-12)
    projector = np.eye(7) - inverse @ one.design
    least = (inverse @ one.observed)[:, None]
    assert limit(one) == pytest.approx(least + projector @ one.starts, abs=1e-12)
    assert closed_form(one, 1e6) == pytest.approx(limit(one), abs=1e-12)
    assert np.abs(limit(one) - least).max() > 0.1  # P3's limit, X^+ y
    assert null_part(one, one.starts) == pytest.approx(projector @ one.starts, abs=1e-12)


def test_of_all_limits_that_from_0_has_the_least_norm() -> None:
    one = problem(5, 7, 5)
    norms = np.linalg.norm(limit(one), axis=0)
    assert one.loss(limit(one)) == pytest.approx(0, abs=1e-20)
    assert np.linalg.norm(limit(problem(5, 7, 5, zero=True)), axis=0).max() < norms.min()


def test_the_slope_is_minus_the_gradient() -> None:
    one = problem()
    step = 1e-6
    for row, column in np.ndindex(one.starts.shape):
        moved = np.zeros_like(one.starts)
        moved[row, column] = step
        rise = one.loss(one.starts + moved) - one.loss(one.starts - moved)
        slope = -rise[column] / (2 * step)
        assert slope == pytest.approx(one.slope(one.starts)[row, column], abs=1e-7)


def test_the_solver_agrees() -> None:
    one, times = problem(), [0.0, 0.3, 4.0, 20.0]
    found = integrated(one, times, 1e-10)
    assert len(found) == len(times)
    for time, solved in zip(times, found, strict=True):
        assert solved == pytest.approx(closed_form(one, time), abs=1e-7)


def test_descent_approaches_the_flow_in_proportion_to_its_step() -> None:
    one, errors = problem(), []
    for lr in (0.02, 0.01, 0.005):
        steps = [round(time / lr) for time in (0.2, 1.0, 5.0)]
        found = zip(steps, descended(one, lr, steps), strict=True)
        errors.append(
            max(np.abs(descent - closed_form(one, lr * step)).max() for step, descent in found)
        )
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.1)


def test_a_singular_value_that_is_only_rounding_counts_as_zero() -> None:
    one = problem()  # of rank 3 as a product, so that two singular values are about 1e-17
    assert one.decomposition().sigma.shape == (3,)
    assert np.abs(limit(one)).max() < 100
