"""Spectra computed where a tensor lies, against NumPy in float64 and against the other routes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rankscope.checkpoints.memory import MemoryCheckpoint
from rankscope.records import MatrixSpec, Route, Spectrum, Unmeasured
from rankscope.resolution import uncertainties
from rankscope.resolving import resolved_spectrum
from rankscope.solvers import solve
from rankscope.solvers.device import DeviceMatrix
from rankscope.storedmatrix import StoredMatrix

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ),
]
SHAPES = [(1, 1), (1, 7), (7, 1), (40, 90), (90, 40), (64, 64)]


def on_device(weights: torch.Tensor, device: str = "cpu") -> DeviceMatrix:
    return DeviceMatrix(weights.to(device), str(weights.dtype).removeprefix("torch."))


def in_memory(weights: torch.Tensor) -> StoredMatrix:
    rows, columns = weights.shape
    dtype = str(weights.dtype).removeprefix("torch.")
    spec = MatrixSpec("w", "w", (), 1, (rows, columns), dtype, "linear")
    return StoredMatrix(MemoryCheckpoint({"w": weights}), spec)


def solved(matrix: DeviceMatrix | StoredMatrix, route: Route) -> Spectrum:
    found = solve(matrix, route)
    assert isinstance(found, Spectrum)
    return found


def drawn(shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(dtype)


@pytest.mark.parametrize("device", DEVICES)
def test_long_sums_of_equal_signs_are_as_exact_as_is_said(device: str) -> None:
    """PyTorch adds the terms of an entry in another order than NumPy's BLAS."""
    rows = torch.randn((3, 1), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    weights = rows.float().expand(3, 30_000)
    found = solved(on_device(weights, device), "gram")
    assert (found.sigma[1:] <= found.resolution * found.sigma[0]).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("route", ["gram", "direct"])
class TestAgainstNumPy:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_singular_values(
        self, shape: tuple[int, int], dtype: torch.dtype, route: Route, device: str
    ) -> None:
        weights = drawn(shape, dtype)
        found = solved(on_device(weights, device), route)
        expected = np.linalg.svd(weights.double().numpy(), compute_uv=False)
        allowed = 1.01 * uncertainties(found) * expected[0] + 1e-15 * expected[0]
        assert (np.abs(found.sigma - expected) <= allowed).all()
        assert found.route == route

    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_record_is_as_that_of_the_host(
        self, shape: tuple[int, int], route: Route, device: str
    ) -> None:
        weights = drawn(shape)
        found, host = solved(on_device(weights, device), route), solved(in_memory(weights), route)
        for name in ("frobenius_norm", "max_row_norm", "max_column_norm"):
            assert getattr(found, name) == pytest.approx(getattr(host, name), rel=1e-13)
        same = ("shape", "dtype", "resolution", "route", "zeros")
        assert [getattr(found, name) for name in same] == [getattr(host, name) for name in same]

    @pytest.mark.parametrize("scale", [1e-300, 1e150, 1e300, 5e-324])
    def test_extreme_scales_neither_overflow_nor_vanish(
        self, scale: float, route: Route, device: str
    ) -> None:
        weights = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64) * scale
        found = solved(on_device(weights, device), route)
        np.testing.assert_allclose(found.sigma, [4 * scale, 3 * scale], rtol=1e-12)

    def test_lines_of_zeros_are_exact_zeros(self, route: Route, device: str) -> None:
        weights = drawn((6, 9))
        weights[[1, 4]] = 0
        found = solved(on_device(weights, device), route)
        assert found.zeros == 2
        assert (found.sigma[-2:] == 0).all()
        assert (found.sigma[:-2] > 0).all()

    def test_zero_matrix(self, route: Route, device: str) -> None:
        found = solved(on_device(torch.zeros(3, 5), device), route)
        assert not found.sigma.any()
        assert found.zeros == 3

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    def test_what_is_not_finite(self, bad: float, route: Route, device: str) -> None:
        weights = drawn((4, 4))
        weights[2, 1] = bad
        found = solve(on_device(weights, device), route)
        assert isinstance(found, Unmeasured)
        assert found.status == "nonfinite"


def test_a_tensor_with_gradients_is_left_as_it_is() -> None:
    weights = drawn((5, 4)).requires_grad_()
    solved(on_device(weights), "gram")
    assert weights.grad_fn is None
    assert weights.requires_grad


def test_a_view_in_another_order() -> None:
    weights = drawn((5, 4)).T
    np.testing.assert_allclose(
        solved(on_device(weights), "gram").sigma, np.linalg.svd(weights)[1], rtol=1e-6
    )


@pytest.mark.parametrize("device", DEVICES)
def test_what_the_gram_route_leaves_open_is_resolved(device: str) -> None:
    left, right = drawn((40, 4), torch.float64), drawn((4, 60), torch.float64)
    weights = left @ right  # 36 values at 1e-17, which squares cannot tell from 1e-9
    found = resolved_spectrum(on_device(weights, device))
    assert isinstance(found, Spectrum)
    assert found.route == "direct"
    assert found.sigma[4] < 1e-13 * found.sigma[0]
    full = resolved_spectrum(on_device(drawn((40, 60)), device))
    assert isinstance(full, Spectrum)
    assert full.route == "gram"


def test_a_spectrum_that_contradicts_the_norm_is_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda gram: right(gram) * (1 + 1e-9))
    found = solved(on_device(drawn((8, 9))), "gram")
    assert found.route == "direct"


def test_what_does_not_converge_goes_the_direct_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(gram: torch.Tensor) -> torch.Tensor:
        raise torch.linalg.LinAlgError("did not converge")  # type: ignore[attr-defined]

    monkeypatch.setattr(torch.linalg, "eigvalsh", fails)
    assert solved(on_device(drawn((8, 9))), "gram").route == "direct"
