"""The flow by the solver against other solvers and P3's claims; where descent leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trainers.flow import paths
from trainers.flow.completion import first_product
from trainers.flow.completion2x2 import Problem, determinant_sign, distance_bound
from trainers.flow.completionargs import Args
from trainers.flow.dynamics import flow_rates
from trainers.flow.factors import Matrix, balanced, gradients, imbalance, product

SQUARE = Problem()
IDENTITY = 8e-3 * np.eye(2)
TOLERANCE = 1e-10


def random_start(seed: int, *, scale: float = 8e-3) -> Matrix:
    return first_product(Args(Path("run"), start="random", seed=seed, scale=scale))


@pytest.fixture(scope="module")
def deep() -> paths.Flow:
    """P3's: depth 3 from the identity."""
    return paths.flow(SQUARE, IDENTITY, 3, 1e-3, TOLERANCE)


def time_at(flow: paths.Flow, loss: float) -> float:
    low, high = 0.0, flow.stop
    for _ in range(60):
        middle = (low + high) / 2
        smaller = SQUARE.loss(product(flow.factors(middle))) < loss
        low, high = (low, middle) if smaller else (middle, high)
    return low


class TestFactors:
    @pytest.mark.parametrize("depth", [2, 3, 5])
    def test_gradients_by_finite_differences(self, depth: int) -> None:
        problem = Problem(3, 4)
        generator = np.random.default_rng(depth)
        shapes = [(2, 4), *[(2, 2)] * (depth - 2), (3, 2)]
        factors = [generator.standard_normal(shape) for shape in shapes]
        found = gradients(factors, problem.gradient(product(factors)))
        for which, slope in enumerate(found):
            for place in np.ndindex(slope.shape):
                ends = []
                for sign in (1, -1):
                    moved = [factor.copy() for factor in factors]
                    moved[which][place] += sign * 1e-6
                    ends.append(problem.loss(product(moved)))
                assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope[place], abs=1e-6)

    @pytest.mark.parametrize("depth", [2, 3, 5])
    def test_balanced_factors_are_and_have_the_product(self, depth: int) -> None:
        weight = np.random.default_rng(0).standard_normal((4, 3))
        factors = balanced(weight, depth)
        assert product(factors) == pytest.approx(weight, abs=1e-12)
        assert imbalance(factors) < 1e-13
        factors[0] = 2 * factors[0]
        assert imbalance(factors) > 1


class TestFlow:
    @pytest.mark.parametrize("depth", [2, 3, 4])
    def test_another_solver_on_the_products_own_equation(self, depth: int) -> None:
        """P3, Theorem 2: dW/dt = - sum_j [W W^T]^((j-1)/L) G [W^T W]^((L-j)/L)."""
        start = random_start(1, scale=0.5)

        def rate(_: float, state: Matrix) -> Matrix:
            left, sigma, right = np.linalg.svd(state.reshape(2, 2))
            total = np.zeros((2, 2))
            for j in range(1, depth + 1):
                above = left * sigma ** (2 * (j - 1) / depth) @ left.T
                below = right.T * sigma ** (2 * (depth - j) / depth) @ right
                total -= above @ SQUARE.gradient(state.reshape(2, 2)) @ below
            return total.ravel()

        flow = paths.flow(SQUARE, start, depth, 0.1, TOLERANCE)
        times = np.linspace(0, flow.stop, 7)
        oracle = solve_ivp(
            rate, (0, flow.stop), start.ravel(), "DOP853", times, rtol=1e-11, atol=1e-13
        )
        for time, state in zip(times, oracle.y.T, strict=True):
            weight = product(flow.factors(time)).ravel()
            assert weight == pytest.approx(state, rel=1e-7, abs=1e-8)

    def test_it_keeps_its_invariants(self, deep: paths.Flow) -> None:
        for time in np.geomspace(1e-3, deep.stop, 300):
            factors = deep.factors(float(time))
            assert imbalance(factors) < 1e-10
            assert determinant_sign(SQUARE, product(factors)) == 1
        assert SQUARE.loss(product(deep.factors(deep.stop))) == pytest.approx(1e-3, rel=1e-9)

    def test_the_free_entry_is_as_large_as_known(self, deep: paths.Flow) -> None:
        """About 1 / sqrt(2 l)."""
        found = [product(deep.factors(time_at(deep, loss)))[0, 0] for loss in (0.13, 0.013, 0.0013)]
        assert found == pytest.approx([1.6, 6.1, 19.8], rel=0.06)
        assert found[1:] == pytest.approx([0.026**-0.5, 0.0026**-0.5], rel=0.03)

    def test_lemma_5s_exponent_is_alpha(self, deep: paths.Flow) -> None:
        """sigma' = g sigma^alpha with alpha = 2 (1 - 1/L) and not sigma^(2 alpha)."""
        for time in np.geomspace(0.5, deep.stop / 2, 12):
            ends = [product(deep.factors(time * (1 + shift))) for shift in (1e-4, -1e-4)]
            above, below = (np.linalg.svd(weight, compute_uv=False) for weight in ends)
            measured = (above - below) / (2e-4 * time)
            weight = product(deep.factors(time))
            sigma = np.linalg.svd(weight, compute_uv=False)
            rates = flow_rates(weight, SQUARE.gradient(weight), 3)
            assert measured == pytest.approx(rates, rel=2e-3)
            printed = rates * sigma ** (2 - 2 / 3)  # the same g with the exponent 2 alpha
            assert np.abs(printed / measured - 1).max() > 0.1

    @pytest.mark.parametrize("seed", [0, 1])
    def test_at_depth_2_a_direction_below_the_resolution_is_taken_out(self, seed: int) -> None:
        flow = paths.flow(SQUARE, random_start(seed), 2, 0.012, TOLERANCE)
        assert [segment.shapes for segment in flow.segments] == [
            ((2, 2), (2, 2)),
            ((1, 2), (2, 1)),
        ]
        for time in np.geomspace(1e-3, flow.stop, 200):
            factors = flow.factors(float(time))
            weight = product(factors)
            assert determinant_sign(SQUARE, weight) >= 0
            assert imbalance(factors) < 1e-10
            loss = SQUARE.loss(weight)
            assert np.linalg.svd(weight, compute_uv=False)[1] <= distance_bound(loss)
        # Nothing of the product is lost there but rounding.
        seam = flow.segments[0]
        before = product(seam.factors(seam.stop))
        after = product(flow.segments[1].factors(seam.stop))
        assert after == pytest.approx(before, abs=1e-13)

    @pytest.mark.parametrize("depth", [2, 3])
    def test_a_negative_determinant_stays_and_keeps_the_norms_bounded(self, depth: int) -> None:
        start = first_product(Args(Path("run"), start="random", det="negative", seed=0))
        flow = paths.flow(SQUARE, start, depth, 1e-5, TOLERANCE)
        weight = product(flow.factors(flow.stop))
        assert determinant_sign(SQUARE, weight) == -1
        assert np.linalg.norm(weight) < 2
        assert np.linalg.svd(weight, compute_uv=False)[1] > 100 * distance_bound(1e-5)


class TestDescent:
    def test_it_follows_the_flow_at_depth_3(self, deep: paths.Flow) -> None:
        (_, early), (_, late) = paths.descent(SQUARE, IDENTITY, 3, 0.01, [500, 5000])
        assert product(early) == pytest.approx(product(deep.factors(5)), rel=0.02)
        assert product(late) == pytest.approx(product(deep.factors(50)), rel=2e-3)

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_at_depth_2_it_crosses_a_zero_determinant_and_ends_bounded(self, seed: int) -> None:
        """As no flow does: the steps unbalance the factors, and sigma_2 passes through 0."""
        start = random_start(seed)
        steps = list(range(0, 2001, 20))
        found = list(paths.descent(SQUARE, start, 2, 0.03, steps))
        signs = [determinant_sign(SQUARE, product(factors)) for _, factors in found]
        assert signs[0] == 1
        assert signs[-1] == -1
        assert np.sum(np.diff(signs) != 0) == 1
        ((_, factors),) = paths.descent(SQUARE, start, 2, 0.03, [5000])
        weight = product(factors)
        assert SQUARE.loss(weight) < 1e-15
        assert np.linalg.det(weight) == pytest.approx(-1)
        assert np.linalg.norm(weight) < 8

    def test_from_the_identity_symmetry_keeps_the_sign_at_depth_2(self) -> None:
        for _, factors in paths.descent(SQUARE, IDENTITY, 2, 0.03, range(0, 2001, 100)):
            assert determinant_sign(SQUARE, product(factors)) >= 0

    def test_it_ends_where_it_diverges(self) -> None:
        found = list(paths.descent(SQUARE, np.eye(2), 3, 5.0, [0, 1, 100, 200]))
        assert [step for step, _ in found] == [0, 1]
