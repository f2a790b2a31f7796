"""P2's penalties: against autograd, finite differences and NumPy's SVD, and where those fail."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankscope.errors import UsageError
from trainers.completion.penalties import Penalty, parse, ratio_printed, spectra
from trainers.completion.spectral import decompose

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ),
]
NORMS = ("nuclear", "schatten:1/3", "schatten:1/2", "schatten:2/3", "schatten:2", "schatten:3.5")
RATIOS = ("ratio", "schatten:1/2:2/3", "schatten:1/3:2/3", "schatten:1/3:1/2", "schatten:2:1")
SHAPES = ((4, 4), (6, 3), (3, 6), (1, 5), (5, 1))

Values = Callable[[Tensor], Tensor]


def naive(name: str) -> Values:
    """The penalty of singular values, shape (..., k), written from its definition."""
    exponents = {"nuclear": [1.0], "ratio": [1.0, 2.0]}.get(name)
    if exponents is None:
        above, *below = name.removeprefix("schatten:").split(":")
        exponents = [float(Fraction(text)) for text in (above, *below)]

    def norm(sigma: Tensor, p: float) -> Tensor:
        total: Tensor = (sigma**p).sum(-1) ** (1 / p)
        return total

    if len(exponents) == 1:
        return lambda sigma: norm(sigma, exponents[0])
    return lambda sigma: norm(sigma, exponents[0]) / norm(sigma, exponents[1])


def of_numpy(name: str, matrix: NDArray[np.float64], rank: int | None = None) -> float:
    """The penalty of one matrix, of its first `rank` singular values if given."""
    sigma = np.linalg.svd(matrix, compute_uv=False)[:rank]
    return float(naive(name)(torch.from_numpy(sigma.copy())))


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def orthonormal(*shape: int, seed: int = 0) -> Tensor:
    basis: Tensor = torch.linalg.qr(gaussian(*shape, seed=seed))[0]
    return basis


def with_spectrum(sigma: list[float] | Tensor, m: int, n: int, seed: int = 0) -> Tensor:
    """One matrix, shape (1, m, n), of these singular values."""
    values = torch.as_tensor(sigma, dtype=torch.float64)
    left = orthonormal(1, m, len(values), seed=2 * seed)
    return (left * values) @ orthonormal(1, n, len(values), seed=2 * seed + 1).mT


def differences(name: str, W: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of one matrix's penalty, entry by entry."""
    matrix = W[0].numpy()
    gradient = np.empty_like(matrix)
    for entry in np.ndindex(matrix.shape):
        move = np.zeros_like(matrix)
        move[entry] = step
        ahead, behind = of_numpy(name, matrix + move), of_numpy(name, matrix - move)
        gradient[entry] = (ahead - behind) / (2 * step)
    return torch.from_numpy(gradient)[None]


def relative(found: Tensor, expected: Tensor) -> float:
    """How far apart, as a share of the expected one's Frobenius norm."""
    return float((found.double() - expected).norm() / expected.norm())


class TestGenericMatrices:
    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("name", [*NORMS, *RATIOS])
    def test_autograd_agrees(self, name: str, shape: tuple[int, int], device: str) -> None:
        W = gaussian(7, *shape).to(device).requires_grad_()
        expected = naive(name)(torch.linalg.svdvals(W))
        (slope,) = torch.autograd.grad(expected.sum(), W)
        for dtype, close in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
            value, gradient = parse(name).value_and_gradient(W.to(dtype))
            assert value.dtype == gradient.dtype == dtype
            assert value.device == gradient.device == W.device
            torch.testing.assert_close(value.double(), expected, rtol=close, atol=0)
            # 1 x 5 has one singular value: a ratio is 1 and its gradient 0.
            torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=close * 50)

    @pytest.mark.parametrize("shape", [(4, 4), (4, 3), (3, 4)])
    @pytest.mark.parametrize("name", [*NORMS, *RATIOS])
    def test_finite_differences_agree(self, name: str, shape: tuple[int, int]) -> None:
        W = with_spectrum([5.0, 2.0, 0.7], *shape)
        if shape == (4, 4):
            W = with_spectrum([5.0, 2.0, 0.7, 0.4], 4, 4)
        _, gradient = parse(name).value_and_gradient(W)
        assert relative(gradient, differences(name, W)) < 1e-7

    def test_no_penalty(self) -> None:
        value, gradient = parse("none").value_and_gradient(gaussian(3, 4, 5))
        assert value.shape == (3,)
        assert gradient.shape == (3, 4, 5)
        assert not value.any()
        assert not gradient.any()

    def test_nothing_is_recorded_for_autograd(self) -> None:
        value, gradient = parse("ratio").value_and_gradient(gaussian(2, 3, 3).requires_grad_())
        assert not value.requires_grad
        assert not gradient.requires_grad


class TestEquation12:
    W = with_spectrum([4.0, 1.5, 0.5, 0.2], 5, 4)

    def test_the_corrected_one_is_the_gradient(self) -> None:
        _, gradient = parse("ratio").value_and_gradient(self.W)
        assert relative(gradient, differences("ratio", self.W)) < 1e-7

    def test_the_printed_one_is_not(self) -> None:
        value, printed = parse("ratio-as-printed").value_and_gradient(self.W)
        assert relative(printed, differences("ratio", self.W)) > 0.5
        assert float(value) == pytest.approx(of_numpy("ratio", self.W[0].numpy()), rel=1e-14)

    def test_it_is_what_is_printed(self) -> None:
        left, sigma, right = np.linalg.svd(self.W[0].numpy(), full_matrices=False)
        nuclear, frobenius = sigma.sum(), np.sqrt((sigma**2).sum())
        expected = left @ right - nuclear / frobenius * (left * sigma) @ right
        _, printed = ratio_printed(self.W)
        assert relative(printed[0], torch.from_numpy(expected / frobenius**2)) < 1e-13

    def test_both_are_one_where_the_frobenius_norm_is_1(self) -> None:
        scaled = self.W / self.W.norm()
        _, gradient = parse("ratio").value_and_gradient(scaled)
        _, printed = ratio_printed(scaled)
        assert relative(printed, gradient) < 1e-13

    def test_descent_along_it_grows_what_it_should_shrink(self) -> None:
        # sigma = 1.5 lies between 1 / R = 0.69 and F / R = 2.98.
        left, _, right = torch.linalg.svd(self.W[0])
        u, v = left[:, 1], right[1]
        _, gradient = parse("ratio").value_and_gradient(self.W)
        _, printed = ratio_printed(self.W)
        assert u @ gradient[0] @ v > 0.01
        assert u @ printed[0] @ v < -0.01


class TestEqualSingularValues:
    """W = 3 Q, and values that come in pairs: the penalties are differentiable there."""

    @pytest.mark.parametrize("sigma", [[3.0, 3.0, 3.0, 3.0], [5.0, 5.0, 0.5, 0.5]])
    @pytest.mark.parametrize("name", [*NORMS, *RATIOS])
    def test_the_derivative_from_either_side(self, name: str, sigma: list[float]) -> None:
        W = with_spectrum(sigma, 4, 6)
        _, gradient = parse(name).value_and_gradient(W)
        matrix, here = W[0].numpy(), of_numpy(name, W[0].numpy())
        for seed in range(5):
            move = gaussian(4, 6, seed=100 + seed)
            expected = float((gradient[0] * move).sum())
            for step in (1e-7, -1e-7):
                slope = (of_numpy(name, matrix + step * move.numpy()) - here) / step
                assert slope == pytest.approx(expected, abs=2e-5 * max(1, float(gradient.norm())))

    def test_autograd_through_the_vectors_is_not_finite(self) -> None:
        W = 3 * torch.eye(4, dtype=torch.float64)[None].requires_grad_()
        left, _, right = torch.linalg.svd(W)
        weights = gaussian(4, 4)
        (slope,) = torch.autograd.grad(((left @ right) * weights).sum(), W)
        assert not slope.isfinite().all()


class TestVanishingSingularValues:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("name", ["none", "ratio-as-printed", *NORMS, *RATIOS])
    def test_a_zero_matrix(self, name: str, dtype: torch.dtype) -> None:
        value, gradient = parse(name).value_and_gradient(torch.zeros(2, 4, 3, dtype=dtype))
        assert not value.any()
        assert not gradient.any()

    @pytest.mark.parametrize("name", ["schatten:1/3", "schatten:1/2", "schatten:1/3:2/3"])
    def test_autograd_is_not_finite_and_this_is(self, name: str) -> None:
        W = torch.diag(torch.tensor([3.0, 1.0, 0.0, 0.0], dtype=torch.float64))[None]
        W.requires_grad_()
        (slope,) = torch.autograd.grad(naive(name)(torch.linalg.svdvals(W)).sum(), W)
        assert not slope.isfinite().all()
        value, gradient = parse(name).value_and_gradient(W)
        expected = of_numpy(name, np.diag([3.0, 1.0]))
        assert float(value) == pytest.approx(expected, rel=1e-14)
        _, small = parse(name).value_and_gradient(W[:, :2, :2])
        torch.testing.assert_close(gradient[:, :2, :2], small, rtol=1e-13, atol=1e-15)
        assert not gradient[:, 2:].any()
        assert not gradient[:, :, 2:].any()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", [(30, 40), (40, 30)])
    @pytest.mark.parametrize("name", [*NORMS, *RATIOS])
    def test_rounding_is_no_direction(
        self, name: str, shape: tuple[int, int], dtype: torch.dtype
    ) -> None:
        """A product of rank 5, rounded to its dtype: the gradient of the product itself."""
        W = with_spectrum([9.0, 7.0, 5.0, 4.0, 3.0], *shape)
        left, sigma, right = np.linalg.svd(W[0].numpy(), full_matrices=False)
        values = torch.from_numpy(sigma[:5].copy()).requires_grad_()
        (slopes,) = torch.autograd.grad(naive(name)(values), values)
        expected = (torch.from_numpy(left[:, :5]) * slopes) @ torch.from_numpy(right[:5])
        value, gradient = parse(name).value_and_gradient(W.to(dtype))
        wanted = of_numpy(name, W[0].numpy(), rank=5)
        assert float(value) == pytest.approx(wanted, rel=2e-6)
        # Rounding W turns its singular vectors by some u F / sigma_5 = 2e-7.
        assert relative(gradient[0], expected) < 2e-6

    def test_the_nuclear_norm_has_its_least_subgradient(self) -> None:
        W = with_spectrum([4.0, 1.0], 5, 6)
        value, gradient = parse("nuclear").value_and_gradient(W)
        for seed in range(20):
            other = W + gaussian(1, 5, 6, seed=seed) * 10.0 ** -(seed % 4)
            there = of_numpy("nuclear", other[0].numpy())
            assert there >= float(value) + float((gradient * (other - W)).sum()) - 1e-12
        # Subgradients are U V^T + Z, ||Z||_2 <= 1 beyond W's spaces: where this one has nothing.
        sigma = torch.linalg.svdvals(gradient[0])
        torch.testing.assert_close(sigma, sigma.new_tensor([1, 1, 0, 0, 0]), rtol=0, atol=1e-14)


class TestInvariance:
    # Where the squares of float64 numbers, and of float32 ones, would be 0 or infinite.
    @pytest.mark.parametrize(
        ("dtype", "scale"),
        [
            (torch.float32, 1e-30),
            (torch.float32, 1e30),
            (torch.float64, 1e-200),
            (torch.float64, 1e200),
        ],
    )
    @pytest.mark.parametrize("name", [*NORMS, *RATIOS])
    def test_no_scale_is_out_of_range(self, name: str, dtype: torch.dtype, scale: float) -> None:
        W = gaussian(3, 6, 5, dtype=dtype)
        value, gradient = parse(name).value_and_gradient(W)
        scaled, along = parse(name).value_and_gradient(W * scale)
        value, along = (value, along * scale) if name in RATIOS else (value * scale, along)
        torch.testing.assert_close(scaled, value, rtol=5e-6, atol=0)
        torch.testing.assert_close(along, gradient, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("name", RATIOS)
    def test_its_gradient_is_orthogonal_to_the_matrix(self, name: str) -> None:
        W = gaussian(3, 6, 5)
        _, gradient = parse(name).value_and_gradient(W)
        assert (gradient.norm(dim=(1, 2)) > 0.02).all()
        assert (gradient * W).sum((1, 2)).abs().max() < 1e-12

    @pytest.mark.parametrize("name", NORMS)
    def test_a_norm_grows_with_scale(self, name: str) -> None:
        W = gaussian(3, 6, 5)
        value, gradient = parse(name).value_and_gradient(W)
        # Euler, for functions of degree 1; what a p-th power, of degree p, would not obey.
        torch.testing.assert_close((gradient * W).sum((1, 2)), value, rtol=1e-12, atol=0)
        torch.testing.assert_close(parse(name).value_and_gradient(3 * W)[0], 3 * value)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("name", [*NORMS, *RATIOS])
    def test_rotations_and_transposition(self, name: str, dtype: torch.dtype) -> None:
        W = with_spectrum([5.0, 3.0, 2.0, 1.0], 4, 7)
        Q = orthonormal(1, 4, 4, seed=9)
        value, gradient = parse(name).value_and_gradient(W.to(dtype))
        turned, along = parse(name).value_and_gradient((Q @ W).mT.to(dtype))
        close = 1e-12 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(turned, value, rtol=close, atol=0)
        assert relative(along.mT, Q @ gradient.double()) < close


def completion_spectrum(floor: float) -> Tensor:
    """Rank 5 of 100 with a tail, as late in matrix completion, in float32, shape (1, 100, 100)."""
    strong = torch.linspace(100, 60, 5, dtype=torch.float64)
    tail = torch.logspace(0, np.log10(100 * floor), 95, dtype=torch.float64)
    return with_spectrum(torch.cat([strong, tail]), 100, 100).float()


class TestIllConditioned:
    """float32 against NumPy's SVD in float64 of the same float32 numbers."""

    @pytest.mark.parametrize("floor", [1e-4, 1e-6])
    def test_each_direction_of_the_polar_factor(self, floor: float) -> None:
        W = completion_spectrum(floor)
        left, sigma, right = np.linalg.svd(W[0].double().numpy())
        _, polar = parse("nuclear").value_and_gradient(W)
        errors = np.linalg.norm((polar[0].double().numpy() - left @ right) @ right.T, axis=0)
        # The Gram matrix in float64, u = 1.1e-16, knows sigma = r sigma_1 to u / r^2; and rounding
        # the result to float32, of which 3e-7 was measured. float32's own SVD errs by 0.04 at 1e-5.
        share = sigma / sigma[0]
        assert share.min() < 5 * floor
        assert (errors < 1e-6 + 5e-16 / share**2).all()

    @pytest.mark.parametrize("floor", [1e-4, 1e-6])
    def test_each_singular_value(self, floor: float) -> None:
        W = completion_spectrum(floor)
        expected = np.linalg.svd(W[0].double().numpy(), compute_uv=False)
        found = decompose(W).sigma[0].sort(descending=True).values.numpy()
        # The Gram matrix's eigenvalues themselves err by 1e-16 / 1e-6^2 there.
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    @pytest.mark.parametrize("name", [*NORMS, *RATIOS])
    def test_values_and_gradients(self, name: str) -> None:
        W = completion_spectrum(1e-5)
        left, sigma, right = np.linalg.svd(W[0].double().numpy())
        values = torch.from_numpy(sigma).requires_grad_()
        expected = naive(name)(values)
        (slopes,) = torch.autograd.grad(expected, values)
        slope = (torch.from_numpy(left) * slopes) @ torch.from_numpy(right)
        value, gradient = parse(name).value_and_gradient(W)
        assert float(value) == pytest.approx(float(expected.detach()), rel=1e-6)
        assert relative(gradient[0], slope) < 1e-5


class TestBatches:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("name", ["ratio", "nuclear", "schatten:1/2", "schatten:1/3:2/3"])
    def test_each_matrix_on_its_own(self, name: str, dtype: torch.dtype) -> None:
        W = gaussian(6, 20, 30, dtype=dtype) * torch.logspace(-3, 3, 6, dtype=dtype)[:, None, None]
        penalty = parse(name)
        values, gradients = penalty.value_and_gradient(W)
        close = 1e-13 if dtype == torch.float64 else 1e-5
        for i in range(6):
            value, gradient = penalty.value_and_gradient(W[i : i + 1])
            torch.testing.assert_close(values[i : i + 1], value, rtol=close, atol=0)
            assert relative(gradients[i : i + 1], gradient.double()) < close

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    @pytest.mark.parametrize("name", ["ratio-as-printed", *NORMS, *RATIOS])
    def test_one_that_diverged(self, name: str, bad: float, dtype: torch.dtype) -> None:
        W = gaussian(3, 5, 4, dtype=dtype)
        expected = parse(name).value_and_gradient(W)
        W[1, 2, 3] = bad
        for found, clean in zip(parse(name).value_and_gradient(W), expected, strict=True):
            assert found[1].isnan().all()
            torch.testing.assert_close(found[[0, 2]], clean[[0, 2]], rtol=1e-5, atol=1e-5)

    def test_views_of_larger_tensors(self) -> None:
        whole = gaussian(3, 8, 9, dtype=torch.float32)
        view = whole[:, ::2, 1:6]
        for found, expected in zip(
            parse("ratio").value_and_gradient(view),
            parse("ratio").value_and_gradient(view.contiguous()),
            strict=True,
        ):
            torch.testing.assert_close(found, expected)


class TestSpectra:
    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_numpy_agrees(self, shape: tuple[int, int], dtype: torch.dtype, device: str) -> None:
        W = gaussian(3, *shape)
        W[1] = torch.nan
        found = spectra(W.to(dtype).to(device)).cpu()
        assert found.dtype == dtype
        assert found[1].isnan().all()
        for i in (0, 2):
            expected = np.linalg.svd(W[i].numpy(), compute_uv=False)
            np.testing.assert_allclose(found[i], expected, rtol=0, atol=8e-7)


class TestParse:
    @pytest.mark.parametrize("name", ["none", "nuclear", "ratio", "ratio-as-printed"])
    def test_names(self, name: str) -> None:
        assert parse(name).name == name

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("schatten:1/2", "schatten:1/2"),
            ("schatten:0.5", "schatten:1/2"),
            ("schatten:1/3:2/4", "schatten:1/3:1/2"),
            ("schatten:2", "schatten:2"),
            ("schatten:0.1", "schatten:1/10"),
            ("schatten:10/99", "schatten:10/99"),
        ],
    )
    def test_exponents(self, text: str, name: str) -> None:
        assert parse(text).name == name
        assert parse(parse(text).name) == parse(text)

    @pytest.mark.parametrize(
        ("one", "other"), [("nuclear", "schatten:1"), ("ratio", "schatten:1:2")]
    )
    def test_two_names_of_one_penalty(self, one: str, other: str) -> None:
        W = gaussian(2, 5, 4)
        for found, expected in zip(
            parse(one).value_and_gradient(W), parse(other).value_and_gradient(W), strict=True
        ):
            assert torch.equal(found, expected)

    @pytest.mark.parametrize(
        "text",
        ["", "Ratio", "l2", "schatten", "schatten:1/2:2/3:1", "nuclear:1/2", "ratio ", "none:"],
    )
    def test_no_such_penalty(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"no penalty is called.*none, nuclear, ratio"):
            parse(text)

    @pytest.mark.parametrize(
        "exponent",
        [
            *("0", "0.05", "1/11", "-1/2", "1/0", "1/00", "nan", "inf", "1e-1", "1e999999999"),
            *("", "a", " 1", "1\n", "1/2/3", ".5", "1_0", "\u0663"),
        ],
    )
    def test_no_such_exponent(self, exponent: str) -> None:
        for text in (f"schatten:{exponent}", f"schatten:2/3:{exponent}"):
            with pytest.raises(UsageError, match=r"the exponent.*schatten:1/2"):
                parse(text)

    def test_equal_exponents_are_no_penalty(self) -> None:
        with pytest.raises(UsageError, match="1 for every matrix"):
            parse("schatten:1/2:0.5")

    def test_the_least_exponent_fits_into_float32(self) -> None:
        """A thousand equal singular values, but for one at the resolution of float32."""
        penalty: Penalty = parse("schatten:1/10")
        sigma = torch.ones(1000)
        sigma[0] = 1.3e-7
        value, gradient = penalty.value_and_gradient(torch.diag(sigma)[None])
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        assert (gradient[0].diagonal() > 0).all()
