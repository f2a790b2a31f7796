"""OptSpace's parts against naive ones, and what descent has to do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from rankscope.errors import UsageError
from trainers.completion.baselines import optspace
from trainers.completion.problem import draw

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]


def problem(shape: tuple[int, int], rank: int, observed: int, seed: int) -> tuple[Matrix, Mask]:
    drawn = draw(shape, rank, observed, seed)
    return drawn.target.numpy(), drawn.observed.numpy()


def equations(left: Matrix, right: Matrix, observed: Mask) -> Matrix:
    """One row for each observed entry: what multiplies each S_ab in (X S Y^T)_ij."""
    return np.array(
        [np.outer(left[i], right[j]).ravel() for i, j in zip(*np.nonzero(observed), strict=True)]
    )


def least(left: Matrix, right: Matrix, target: Matrix, observed: Mask) -> float:
    """F(X, Y) from the list of equations; it depends on the spans only."""
    terms = equations(left, right, observed)
    core = np.linalg.lstsq(terms, target[observed])[0]
    return float(np.sum((terms @ core - target[observed]) ** 2)) / 2


def frames(shape: tuple[int, int], rank: int, seed: int) -> tuple[Matrix, Matrix]:
    random = np.random.default_rng(seed)
    left, right = (np.linalg.qr(random.standard_normal((n, rank)))[0] for n in shape)
    return left, right


def masks(count: int) -> Iterator[Mask]:
    """Every choice of `count` of the entries of a 2x2 matrix."""
    for chosen in itertools.combinations(range(4), count):
        yield np.isin(np.arange(4), chosen).reshape(2, 2)


def data(target: Matrix, observed: Mask) -> optspace.Observations:
    return optspace.Observations(np.where(observed, target, 0.0), observed)


@pytest.mark.parametrize("seed", range(3))
def test_the_core_is_that_of_least_squares(seed: int) -> None:
    target, observed = problem((9, 7), 3, 45, seed)
    left, right = frames((9, 7), 3, seed)
    found = optspace.best_core(left, right, data(target, observed))
    expected = np.linalg.lstsq(equations(left, right, observed), target[observed])[0]
    np.testing.assert_allclose(found.core.ravel(), expected, rtol=1e-9)
    value = optspace.objective(found, data(target, observed))
    assert value == pytest.approx(least(left, right, target, observed), rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_against_finite_differences(seed: int) -> None:
    target, observed = problem((8, 6), 3, 36, seed)
    left, right = frames((8, 6), 2, seed)
    found = optspace.best_core(left, right, data(target, observed))
    along_left, along_right = optspace.gradient(found, data(target, observed))
    # Not only tangent directions: F knows spans only, so that its slope along X is 0.
    numeric_left, numeric_right = np.zeros_like(left), np.zeros_like(right)
    step = 1e-5
    for frame, numeric in ((left, numeric_left), (right, numeric_right)):
        for index in np.ndindex(frame.shape):
            kept = frame[index]
            values = []
            for moved in (kept + step, kept - step):
                frame[index] = moved
                values.append(least(left, right, target, observed))
            frame[index] = kept
            numeric[index] = (values[0] - values[1]) / (2 * step)
    np.testing.assert_allclose(along_left, numeric_left, atol=1e-7)
    np.testing.assert_allclose(along_right, numeric_right, atol=1e-7)


def test_geodesics_against_the_matrix_exponential() -> None:
    frame, _ = frames((7, 7), 3, 0)
    random = np.random.default_rng(1).standard_normal((7, 3))
    direction = random - frame @ (frame.T @ random)
    for time in (0.0, 0.1, 2.0):
        moved = optspace.geodesic(frame, direction, time)
        turn = direction @ frame.T - frame @ direction.T
        expected = scipy.linalg.expm(time * turn) @ frame
        np.testing.assert_allclose(moved, expected, atol=1e-12)


def test_steps_leave_the_frames_orthonormal() -> None:
    frame, _ = frames((9, 9), 3, 0)
    random = np.random.default_rng(1)
    for _ in range(5000):
        push = random.standard_normal((9, 3))
        frame = optspace.geodesic(frame, push - frame @ (frame.T @ push), 0.1)
    np.testing.assert_allclose(frame.T @ frame, np.eye(3), atol=1e-11)


def test_a_step_keeps_the_core() -> None:
    # Along the gradient F falls by its square: the first step succeeds as it is proposed.
    target, observed = problem((14, 11), 2, 75, 0)
    factors = optspace.best_core(*frames((14, 11), 2, 0), data(target, observed))
    slopes = optspace.gradient(factors, data(target, observed))
    step = 1e-6
    moved = optspace.Factors(
        optspace.geodesic(factors.left, -slopes[0], step),
        factors.core,
        optspace.geodesic(factors.right, -slopes[1], step),
    )
    fall = optspace.objective(factors, data(target, observed)) - optspace.objective(
        moved, data(target, observed)
    )
    squared = np.sum(slopes[0] ** 2) + np.sum(slopes[1] ** 2)
    assert fall == pytest.approx(step * squared, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_every_iteration_descends(seed: int) -> None:
    target, observed = problem((14, 11), 2, 75, seed)
    fits = []
    for iterations in range(1, 25):
        found = optspace.complete(target, observed, 2, max_iterations=iterations)
        assert (found.iterations, found.converged) == (iterations, False)
        fits.append(np.linalg.norm((found.estimate - target)[observed]))
    assert (np.diff(fits) < 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_trimming_by_counting(seed: int) -> None:
    random = np.random.default_rng(seed)
    observed = random.random((20, 8)) < 0.15
    observed[random.integers(20)] = True
    observed[:, random.integers(8)] = True
    target = random.standard_normal((20, 8))
    expected = np.zeros((20, 8))
    total = sum(1 for _ in zip(*np.nonzero(observed), strict=True))
    for i, j in zip(*np.nonzero(observed), strict=True):
        in_row = sum(bool(entry) for entry in observed[i])
        in_column = sum(bool(entry) for entry in observed[:, j])
        if in_row <= 2 * total / 20 and in_column <= 2 * total / 8:
            expected[i, j] = target[i, j]
    assert np.array_equal(optspace.trim(data(target, observed)), expected)
    assert (expected != np.where(observed, target, 0)).any()


def test_the_start_is_right_on_average() -> None:
    # No row or column of a 2x2 matrix can have more than twice the average of 1.
    target = np.array([[1.0, -2.0], [3.0, 5.0]])
    starts = [optspace.complete(target, mask, 2, max_iterations=0).estimate for mask in masks(2)]
    np.testing.assert_allclose(np.mean(starts, axis=0), target, atol=1e-14)


def test_all_observed_the_start_is_the_nearest_of_its_rank() -> None:
    target = np.random.default_rng(0).standard_normal((7, 5))
    observed = np.ones((7, 5), bool)
    start = optspace.complete(target, observed, 2, max_iterations=0).estimate
    tail = np.linalg.svd(target)[1][2:]
    assert np.linalg.matrix_rank(start) == 2
    assert np.linalg.norm(start - target) == pytest.approx(np.linalg.norm(tail))
    # Nothing is left to gain.
    found = optspace.complete(target, observed, 2)
    assert (found.iterations, found.converged) == (0, True)
    np.testing.assert_allclose(found.estimate, start, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_enough_observations_give_the_target_back(seed: int) -> None:
    target, observed = problem((30, 24), 2, 360, seed)
    found = optspace.complete(target, observed, 2, tolerance=1e-10)
    assert found.converged
    assert found.note.startswith("fitted")
    np.testing.assert_allclose(found.estimate, target, atol=1e-8)


def test_where_the_rank_does_not_fit_it_stops_at_a_minimum() -> None:
    target, observed = problem((15, 12), 5, 150, 0)
    found = optspace.complete(target, observed, 2)
    assert found.converged
    assert found.note.startswith("stationary")
    assert np.linalg.matrix_rank(found.estimate) == 2
    left, _, right = np.linalg.svd(found.estimate)
    best = least(left[:, :2], right[:2].T, target, observed)
    there = optspace.best_core(left[:, :2], right[:2].T, data(target, observed))
    steepness = np.linalg.norm(np.vstack(optspace.gradient(there, data(target, observed))))
    assert steepness <= 1.1e-6 * np.sqrt(2 * best) * np.linalg.norm(there.core, 2)
    random = np.random.default_rng(0)
    for _ in range(20):
        sides = [
            frame + 1e-3 * random.standard_normal(frame.shape)
            for frame in (left[:, :2], right[:2].T)
        ]
        assert least(sides[0], sides[1], target, observed) > best


@pytest.mark.parametrize("rank", [0, 5])
def test_no_such_rank_is_refused(rank: int) -> None:
    with pytest.raises(UsageError, match="expected 1 to 4"):
        optspace.complete(np.ones((5, 4)), np.ones((5, 4), bool), rank)
