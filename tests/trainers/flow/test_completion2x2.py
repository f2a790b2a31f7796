"""P3's completion problem: what it bounds, where its print is not followed, its constants."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import rankscope
from rankscope import metrics
from trainers.flow.completion2x2 import (
    Problem,
    determinant_sign,
    distance_bound,
    effective_rank_bound,
    norm_bound,
)
from trainers.flow.factors import Matrix

SQUARE = Problem()

ENTRIES = st.floats(-1e3, 1e3, allow_subnormal=False)


def entropy(share: mpmath.mpf) -> mpmath.mpf:
    """H(1 - e, e)."""
    return -(1 - share) * mpmath.log(1 - share) - share * mpmath.log(share)


def effective_rank(weight: Matrix) -> float:
    """Roy & Vetterli's, naively."""
    shares = np.linalg.svd(weight, compute_uv=False)
    shares = shares[shares > 0] / shares.sum()
    return math.exp(-float((shares * np.log(shares)).sum()))


def near_solution(loss: float, stretch: float) -> Matrix:
    """Determinant `stretch` > 0: W_12 = W_21 = 1 and all of the loss in W_22."""
    corner = math.sqrt(2 * loss)
    return np.array([[(1 + stretch) / corner, 1.0], [1.0, corner]])


class TestEntropy:
    def test_the_print_bounds_it_by_the_share_which_is_false_for_small_ones(self) -> None:
        crossing = mpmath.findroot(lambda e: entropy(e) - e, 0.6)
        assert float(crossing) == pytest.approx(0.648, abs=5e-4)
        assert float(entropy(mpmath.mpf("0.01"))) == pytest.approx(0.056, abs=5e-4)
        for share in np.linspace(1e-6, 0.64, 200):
            assert entropy(mpmath.mpf(share)) > share

    def test_with_a_logarithm_it_holds(self) -> None:
        for share in [*np.geomspace(1e-30, 0.5, 200), *np.linspace(0.5, 1 - 1e-9, 200)]:
            with mpmath.workdps(60):
                exact = mpmath.mpf(share)
                assert entropy(exact) <= exact * (1 + mpmath.log(1 / exact))


class TestProblem:
    def test_it_is_p3s(self) -> None:
        assert SQUARE.targets.tolist() == [[0, 1], [1, 0]]
        assert SQUARE.observed.tolist() == [[0, 1], [1, 1]]
        weight = np.array([[5.0, 1.5], [0.5, 2.0]])
        assert SQUARE.loss(weight) == 0.5 * (0.25 + 0.25 + 4)

    def test_its_gradient_is_that_of_its_loss(self) -> None:
        problem = Problem(4, 3, 1)
        weight = np.random.default_rng(0).standard_normal((4, 3))
        for place in np.ndindex(4, 3):
            moved = np.zeros((4, 3))
            moved[place] = 1e-6
            rise = problem.loss(weight + moved) - problem.loss(weight - moved)
            assert rise / 2e-6 == pytest.approx(problem.gradient(weight)[place], abs=1e-8)

    @pytest.mark.parametrize("problem", [SQUARE, Problem(5, 4), Problem(4, 6, 2)])
    def test_solutions_come_near_the_infimal_rank_and_not_below(self, problem: Problem) -> None:
        distances = []
        for corner in (1e2, 1e4, 1e6):
            solution = problem.targets.copy()
            solution[0, 0] = corner
            assert problem.loss(solution) == 0
            assert determinant_sign(problem, solution) == -1
            sigma = np.linalg.svd(solution, compute_uv=False)
            assert sigma[problem.infimal_rank - 1] > 0.9
            distances.append(float(np.linalg.norm(sigma[problem.infimal_rank :])))
        assert distances == pytest.approx([1e-2, 1e-4, 1e-6], rel=1e-3)

    def test_the_sign_of_a_determinant_that_rounding_hides_is_0(self) -> None:
        assert determinant_sign(SQUARE, np.array([[2.0, 1.0], [1.0, 0.5 + 1e-12]])) == 1
        assert determinant_sign(SQUARE, np.array([[2.0, 1.0], [1.0, 0.5 - 1e-12]])) == -1
        assert determinant_sign(SQUARE, np.array([[3.0, 1.0], [1.0, 1 / 3]])) == 0
        assert determinant_sign(Problem(3, 4, 1), -np.eye(3, 4)) == -1


class TestBounds:
    """For every matrix with a positive determinant; no flow is needed for that."""

    @given(ENTRIES, ENTRIES, ENTRIES, ENTRIES)
    def test_hold(self, a: float, b: float, c: float, d: float) -> None:
        weight = np.array([[a, b], [c, d]])
        assume(determinant_sign(SQUARE, weight) > 0)
        loss = SQUARE.loss(weight)
        spectrum = rankscope.spectrum(weight, route="direct")
        slack = 1 + 1e-12
        for norm in (metrics.spectral_norm, metrics.frobenius_norm, metrics.nuclear_norm):
            assert (norm(spectrum).value or 0.0) * slack >= norm_bound(loss)
        assert np.linalg.svd(weight, compute_uv=False)[1] <= distance_bound(loss) * slack
        assert effective_rank(weight) <= (effective_rank_bound(SQUARE, loss) or 0.0) * slack

    def test_none_does_with_a_negative_determinant(self) -> None:
        weight = np.array([[0.5, 1.0], [1.0, 1e-6]])
        loss = SQUARE.loss(weight)
        sigma = np.linalg.svd(weight, compute_uv=False)
        assert sigma.sum() < norm_bound(loss)
        assert sigma[1] > 1e5 * distance_bound(loss)
        assert effective_rank(weight) > (effective_rank_bound(SQUARE, loss) or 0.0)

    def test_the_distances_constant_cannot_be_smaller(self) -> None:
        """sigma_2 <= sqrt(2 l), where P3 goes through sigma_2 <= c_1 + c_2 sqrt(l)."""
        for loss in (1e-2, 1e-6):
            distance = np.linalg.svd(near_solution(loss, 1e4), compute_uv=False)[1]
            assert 0.99 * distance_bound(loss) < distance <= distance_bound(loss)

    def test_the_norms_constant_cannot_be_larger(self) -> None:
        for loss in (1e-6, 1e-8):
            weight = near_solution(loss, 1e-9)
            assert np.linalg.norm(weight) * math.sqrt(loss) == pytest.approx(2**-0.5, rel=1e-4)

    def test_the_effective_ranks_constant_is_the_supremum(self) -> None:
        """1.0 for 2 x 2, approached at W = 0, where the effective rank is 2 and the loss 1."""
        generator = np.random.default_rng(0)
        largest = 0.0
        for size in np.repeat(np.geomspace(1e-3, 10, 60), 200).tolist():
            weight = size * generator.standard_normal((2, 2))
            if np.linalg.det(weight) > 0:
                ratio = (effective_rank(weight) - 1) / math.sqrt(SQUARE.loss(weight))
                largest = max(largest, float(ratio))
        angles = np.linspace(0, 2 * np.pi, 60).tolist()
        for angle, size in itertools.product(angles, (1e-6, 1e-2, 0.3, 1.0)):
            cosine, sine = size * math.cos(angle), size * math.sin(angle)
            weight = np.array([[cosine, -sine], [sine, cosine]])
            largest = max(largest, 1 / math.sqrt(SQUARE.loss(weight)))
        assert 0.999 < largest <= 1

    @pytest.mark.parametrize("problem", [Problem(3, 3), Problem(5, 4)])
    def test_and_of_larger_ones_with_a_diagonal_beside_the_block(self, problem: Problem) -> None:
        generator = np.random.default_rng(1)
        rest = min(problem.rows, problem.columns) - 2
        largest = 0.0
        for size in np.repeat(np.geomspace(1e-4, 3, 40), 150):
            weight = np.zeros((problem.rows, problem.columns))
            weight[:2, :2] = size * (np.eye(2) + 0.3 * generator.standard_normal((2, 2)))
            diagonal = range(2, 2 + rest)
            weight[diagonal, diagonal] = size * generator.uniform(0, 1.5, rest)
            if determinant_sign(problem, weight) > 0:
                ratio = (effective_rank(weight) - 1) / math.sqrt(problem.loss(weight))
                largest = max(largest, ratio)
        assert 0.97 * (rest + 1) < largest <= rest + 1

    def test_with_ones_beside_the_block_no_constant_does(self) -> None:
        assert effective_rank_bound(Problem(3, 3, 1), 0.1) is None
        ratios = []
        for loss in (1e-4, 1e-8, 1e-12):
            weight = np.eye(3)
            weight[:2, :2] = near_solution(loss, 1.0)
            ratios.append((effective_rank(weight) - 1) / math.sqrt(loss))
        assert np.diff(ratios) == pytest.approx(math.log(1e2) / 2**0.5, rel=0.05)


def test_the_effective_rank_falls_as_the_loss_times_its_logarithm() -> None:
    """P3's H <= e would have it fall as the loss: the ratio to that grows without bound."""
    by_loss, by_logarithm = [], []
    for loss in np.geomspace(1e-10, 1e-2, 9):
        # In exact arithmetic of 30 digits: the effective rank less 1 is lost beside 1.
        with mpmath.workdps(30):
            weight = mpmath.matrix(near_solution(float(loss), 1.0).tolist())
            sigma = sorted(mpmath.svd_r(weight, compute_uv=False), reverse=True)
            share = sigma[1] / (sigma[0] + sigma[1])
            excess = float(mpmath.expm1(entropy(share)))
        by_loss.append(excess / loss)
        by_logarithm.append(excess / (loss * math.log(1 / loss)))
    assert by_loss == sorted(by_loss, reverse=True)
    assert by_loss[0] > 3 * by_loss[-1]
    assert max(by_logarithm) < 1
