"""Predicted rates of singular values against differences of training by PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from trainers.flow.dynamics import (
    flow_rates,
    preconditioned,
    preconditioner,
    projected,
    ratio_gradient,
    ratio_rates,
)
from trainers.flow.factors import Matrix, balanced, gradients, product

GENERATOR_SEED = 11


def weight_and_gradient(rows: int = 4, columns: int = 3) -> tuple[Matrix, Matrix]:
    generator = np.random.default_rng(GENERATOR_SEED)
    return generator.standard_normal((rows, columns)), generator.standard_normal((rows, columns))


def stack(matrix: Matrix) -> Matrix:
    """vec, column by column, written out."""
    return np.array([matrix[i, j] for j in range(matrix.shape[1]) for i in range(matrix.shape[0])])


def power(matrix: Matrix, exponent: float) -> Matrix:
    """Of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    values[values < 1e-12] = 0
    found: Matrix = vectors * values**exponent @ vectors.T
    return found


def moved(factors: Sequence[Matrix], slopes: Sequence[Matrix], lr: float) -> Matrix:
    steps = zip(factors, slopes, strict=True)
    return product([factor - lr * slope for factor, slope in steps])


def descent_rate(factors: Sequence[Matrix], gradient: Matrix, lr: float = 1e-6) -> Matrix:
    """Of each singular value, by a small step of descent forward and one backward."""
    slopes = gradients(factors, gradient)
    ahead, behind = (
        np.linalg.svd(moved(factors, slopes, sign * lr), compute_uv=False) for sign in (1, -1)
    )
    found: Matrix = (ahead - behind) / (2 * lr)
    return found


class TestGradientFlow:
    @pytest.mark.parametrize("depth", [1, 2, 3, 5])
    def test_aroras_rates(self, depth: int) -> None:
        weight, gradient = weight_and_gradient()
        factors = [weight] if depth == 1 else balanced(weight, depth)
        measured = descent_rate(factors, gradient)
        assert flow_rates(weight, gradient, depth) == pytest.approx(measured, rel=1e-6)

    @pytest.mark.parametrize("depth", [1, 2, 3, 5])
    def test_with_the_ratio_penalty_as_corrected_and_not_as_printed(self, depth: int) -> None:
        weight, gradient = weight_and_gradient()
        strength = 0.7
        tensor = torch.tensor(weight, requires_grad=True)
        ratio = torch.linalg.matrix_norm(tensor, "nuc") / torch.linalg.matrix_norm(tensor)
        (penalty,) = torch.autograd.grad(ratio, tensor)
        assert ratio_gradient(weight) == pytest.approx(penalty.numpy(), abs=1e-12)
        factors = [weight] if depth == 1 else balanced(weight, depth)
        measured = descent_rate(factors, gradient + strength * penalty.numpy())
        without = flow_rates(weight, gradient, depth)
        assert without + ratio_rates(weight, strength, depth) == pytest.approx(measured, rel=1e-6)
        sigma = np.linalg.svd(weight, compute_uv=False)
        frobenius, nuclear = np.linalg.norm(sigma), sigma.sum()
        factor = -strength * depth / frobenius**2 * (1 - nuclear / frobenius)
        printed = factor * sigma ** ((3 * depth - 2) / 2)  # P2, Eq. 7
        assert np.abs(without + printed - measured).max() > 0.1


class TestKroneckerOrder:
    """P2's Eqs. 4, 6 and 18 on balanced factors, with nothing of Adam in them."""

    @pytest.mark.parametrize("depth", [2, 3])
    def test_eq_4_is_for_stacked_columns_and_eqs_6_and_18_for_stacked_rows(
        self, depth: int
    ) -> None:
        weight, gradient = weight_and_gradient()
        factors, lr = balanced(weight, depth), 1e-6
        slopes = gradients(factors, gradient)
        velocity = (moved(factors, slopes, lr) - moved(factors, slopes, -lr)) / (2 * lr)
        eq_4 = np.zeros((12, 12))
        eq_6, eq_18 = eq_4.copy(), eq_4.copy()
        for j in range(1, depth + 1):
            late, early = (depth - j) / depth, (j - 1) / depth
            rows, columns = weight @ weight.T, weight.T @ weight
            eq_4 += np.kron(power(columns, late), power(rows, early))
            eq_6 += np.kron(power(rows, early), power(columns, late))
            eq_18 += np.kron(power(rows, late), power(columns, early))
        assert -eq_4 @ stack(gradient) == pytest.approx(stack(velocity), rel=1e-6)
        for other in (eq_6, eq_18):
            assert np.abs(-other @ stack(gradient) - stack(velocity)).max() > 0.1
            assert -other @ gradient.ravel() == pytest.approx(velocity.ravel(), rel=1e-6)
        ones = [np.ones_like(factor) for factor in factors]
        assert preconditioner(factors, ones) == pytest.approx(eq_4, abs=1e-12)


class TestAdam:
    @pytest.fixture(params=[1, 2, 3])
    def factors(self, request: pytest.FixtureRequest) -> list[Matrix]:
        """Not balanced, and of widths that tell the sides apart."""
        generator = np.random.default_rng(5)
        shapes = {1: [(4, 3)], 2: [(5, 3), (4, 5)], 3: [(2, 3), (5, 2), (4, 5)]}[request.param]
        return [generator.standard_normal(shape) for shape in shapes]

    def adam_step(
        self, factors: Sequence[Matrix], gradient: Matrix, lr: float
    ) -> tuple[Matrix, list[Matrix]]:
        """The product after three of PyTorch's updates, less that after two; and S_j of the last.

        Without momentum; the second moment remembers, so that the S_j are not signs only.
        """
        parameters = [torch.tensor(factor, requires_grad=True) for factor in factors]
        optimizer = torch.optim.Adam(parameters, lr=lr, betas=(0.0, 0.9))
        for scale in (2.0, -0.5, 1.0):
            before = product([parameter.detach().numpy().copy() for parameter in parameters])
            optimizer.zero_grad()
            weight = parameters[0]
            for parameter in parameters[1:]:
                weight = parameter @ weight
            (scale * torch.from_numpy(gradient) * weight).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        after = product([parameter.detach().numpy() for parameter in parameters])
        second = [optimizer.state[parameter]["exp_avg_sq"].numpy() for parameter in parameters]
        return after - before, [1 / (np.sqrt(v / (1 - 0.9**3)) + 1e-8) for v in second]

    def test_the_preconditioner_is_one_update(self, factors: list[Matrix]) -> None:
        _, gradient = weight_and_gradient()
        change, scales = self.adam_step(factors, gradient, 1e-7)
        matrix = preconditioner(factors, scales)
        assert preconditioned(matrix, gradient) == pytest.approx(change / 1e-7, abs=2e-5)
        rates = projected(product(factors), preconditioned(matrix, gradient))
        sigma = [
            np.linalg.svd(product(factors) + part, compute_uv=False)
            for part in (0 * change, change)
        ]
        assert rates == pytest.approx((sigma[1] - sigma[0]) / 1e-7, abs=2e-5)

    def test_it_is_symmetric_and_positive_semidefinite(self, factors: list[Matrix]) -> None:
        generator = np.random.default_rng(7)
        scales = [generator.uniform(0.01, 100, factor.shape) for factor in factors]
        matrix = preconditioner(factors, scales)
        assert matrix == pytest.approx(matrix.T)
        assert np.linalg.eigvalsh(matrix).min() > -1e-10 * np.linalg.norm(matrix)

    @pytest.mark.parametrize("depth", [2, 3])
    def test_the_prints_g_outside_is_another_matrix(self, depth: int) -> None:
        """P2, A.4: P_j G_j with balanced square factors, stacked either way."""
        generator = np.random.default_rng(9)
        factors = balanced(generator.standard_normal((3, 3)), depth)
        gradient = generator.standard_normal((3, 3))
        change, scales = self.adam_step(factors, gradient, 1e-7)
        exact = preconditioner(factors, scales)
        assert preconditioned(exact, gradient) == pytest.approx(change / 1e-7, abs=1e-5)
        weight = product(factors)
        for order in ("F", "C"):
            printed = np.zeros((9, 9))
            for j, scale in enumerate(scales, start=1):
                rows = power(weight @ weight.T, (j - 1) / depth)
                columns = power(weight.T @ weight, (depth - j) / depth)
                sides = (columns, rows) if order == "F" else (rows, columns)
                printed += np.kron(*sides) * scale.ravel(order=order)
            rate = -printed @ gradient.ravel(order=order)
            assert np.abs(rate - change.ravel(order=order) / 1e-7).max() > 0.1
            assert np.abs(printed - printed.T).max() > 0.1


def test_a_semidefinite_matrix_times_a_positive_diagonal_need_not_be_one() -> None:
    """As P2's A.4 says of P_j G_j."""
    semidefinite, diagonal = np.array([[1.0, 1.0], [1.0, 1.0]]), np.diag([1.0, 100.0])
    assert np.linalg.eigvalsh(semidefinite).min() >= 0
    vector = np.array([-1.0, 0.5])
    assert vector @ semidefinite @ diagonal @ vector < 0
