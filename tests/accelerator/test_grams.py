"""Spectra by way of a device, against NumPy, the CPU routes and mpmath."""

from __future__ import annotations

import math

import ml_dtypes
import mpmath
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rankscope.accelerator import streaming
from rankscope.accelerator.streaming import grams_on
from rankscope.records import Spectrum, Unmeasured
from rankscope.resolution import SQUARING, uncertainties
from rankscope.solvers import norm_mismatch, solve
from tests.accelerator.conftest import Grams, Solver, rates_for
from tests.matrix import Array, ArrayMatrix, ConstantRows, low_rank

SHAPES = [(1, 1), (1, 40), (40, 1), (23, 23), (200, 31), (31, 200), (7, 5000), (5000, 7)]
TYPES = [
    np.float64,
    np.float32,
    np.float16,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
]


def drawn(shape: tuple[int, int], dtype: type = np.float32, seed: int = 3) -> Array:
    array: Array = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return array


def one(grams: Grams, array: Array) -> Spectrum:
    (found,) = grams([ArrayMatrix(array)])
    assert found is not None
    return found


def assert_within_resolution(found: Spectrum, expected: Array) -> None:
    """Each value as near as the record says, and the oracle's own rounding."""
    largest = expected[0]
    if largest == 0:
        assert not found.sigma.any()
        return
    allowed = (uncertainties(found) + 4 * len(expected) * 2.0**-53) * largest
    assert (np.abs(found.sigma - expected) <= allowed).all()


class TestAgainstNumPy:
    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_values_norms_and_record(
        self, grams: Grams, slices: int, shape: tuple[int, int], dtype: type
    ) -> None:
        array = drawn(shape, dtype)
        exact = array.astype(np.float64)
        found = one(grams, array)
        assert_within_resolution(found, np.linalg.svd(exact, compute_uv=False))
        assert found.frobenius_norm == pytest.approx(np.linalg.norm(exact), rel=1e-13)
        rows, columns = np.linalg.norm(exact, axis=1), np.linalg.norm(exact, axis=0)
        assert found.max_row_norm == pytest.approx(rows.max(), rel=1e-13)
        assert found.max_column_norm == pytest.approx(columns.max(), rel=1e-13)
        host = solve(ArrayMatrix(array), "gram")
        assert isinstance(host, Spectrum)
        for name in ("shape", "dtype", "resolution", "zeros"):
            assert getattr(found, name) == getattr(host, name)
        assert found.route == ("cuda32" if slices else "cuda")
        assert found.route in SQUARING
        assert not norm_mismatch(found)

    def test_a_batch_of_mixed_shapes(self, grams: Grams) -> None:
        rng = np.random.default_rng(0)
        shapes = [(int(m), int(n)) for m, n in rng.integers(1, 30, (60, 2))]
        arrays = [drawn(shape, seed=i) for i, shape in enumerate(shapes)]
        for array, found in zip(arrays, grams(list(map(ArrayMatrix, arrays))), strict=True):
            assert found is not None
            expected = np.linalg.svd(array.astype(np.float64), compute_uv=False)
            assert_within_resolution(found, expected)

    @pytest.mark.parametrize("max_elements", [1, 64, 500])
    @pytest.mark.parametrize("shape", [(50, 20), (20, 50), (33, 33)])
    def test_the_size_of_blocks_does_not_matter(
        self, grams: Grams, shape: tuple[int, int], max_elements: int
    ) -> None:
        array = drawn(shape)
        (found,) = grams([ArrayMatrix(array, max_elements)])
        assert found is not None
        assert_within_resolution(found, np.linalg.svd(array.astype("f8"), compute_uv=False))

    def test_more_lines_than_a_panel_and_a_slice(
        self, grams: Grams, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rankscope.solvers.torchsum.PANEL", 16)
        monkeypatch.setattr("rankscope.accelerator.splitting.SLICE_LENGTH", 32)
        array = drawn((50, 101))
        found = one(grams, array)
        assert_within_resolution(found, np.linalg.svd(array.astype("f8"), compute_uv=False))

    @pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_however_it_lies_in_memory(self, grams: Grams, dtype: str, order: str) -> None:
        base = drawn((9, 12))
        array = np.asarray(base.astype(dtype), order=order)  # type: ignore[call-overload]
        array.flags.writeable = False
        np.testing.assert_allclose(
            one(grams, array).sigma, np.linalg.svd(base.astype("f8"))[1], rtol=1e-12
        )


class TestExtremes:
    @pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-200, 1e-38, 1e38, 1e200, 1e306])
    def test_scales_of_float64(self, grams: Grams, scale: float) -> None:
        array = drawn((12, 8), np.float64) * scale
        found = one(grams, array)
        factor = 2.0 ** -np.frexp(np.abs(array).max())[1] if scale > 1e-300 else 2.0**1000
        expected = np.linalg.svd(array * factor, compute_uv=False)
        np.testing.assert_allclose(found.sigma * factor, expected, rtol=1e-9, atol=5e-324 * factor)

    def test_scales_of_narrower_types(self, grams: Grams) -> None:
        for array in (
            (drawn((20, 9)) * 1e38).clip(-3e38, 3e38).astype(np.float32),
            np.full((20, 9), 1e-45, np.float32),  # subnormal
            np.full((20, 9), 65504, np.float16),  # squares overflow fp16
            np.full((20, 9), 448, ml_dtypes.float8_e4m3fn),
            np.full((20, 9), 2.0**-16, ml_dtypes.float8_e5m2),
        ):
            expected = np.linalg.svd(array.astype("f8"), compute_uv=False)
            assert_within_resolution(one(grams, array), expected)

    def test_lines_of_zeros_are_exact_zeros(self, grams: Grams) -> None:
        array = drawn((9, 30))
        array[[2, 5]] = 0
        for matrix in (array, array.T):
            found = one(grams, matrix)
            assert found.zeros == 2
            assert (found.sigma[-2:] == 0).all()
            assert (found.sigma[:-2] > 0).all()
        assert one(grams, np.diag([1.0, 1e-200, 0.0])).zeros == 1

    def test_a_zero_matrix(self, grams: Grams) -> None:
        found = one(grams, np.zeros((3, 5), np.float32))
        assert not found.sigma.any()
        assert (found.zeros, found.frobenius_norm) == (3, 0.0)

    @pytest.mark.parametrize("shape", [(2, 1000), (3, 30_000), (8, 3000), (3000, 2), (2, 400_000)])
    def test_constant_rows_whose_rounding_is_biased(
        self, grams: Grams, shape: tuple[int, int]
    ) -> None:
        """Rank one exactly: everything but sigma_1 must lie below the resolution."""
        levels = np.linspace(0.3, 0.9, min(shape))
        array: Array = np.repeat(levels[:, None], max(shape), axis=1).astype(np.float32)
        found = one(grams, array if shape[0] < shape[1] else array.T)
        assert found.sigma[1] <= found.resolution * found.sigma[0]

    def test_what_the_resolution_promises(self, grams: Grams) -> None:
        rng = np.random.default_rng(5)
        sigma = np.geomspace(1, 1e-12, 60)
        left = np.linalg.qr(rng.standard_normal((80, 60)))[0]
        right = np.linalg.qr(rng.standard_normal((60, 60)))[0]
        found = one(grams, (left * sigma) @ right)
        assert (np.abs(found.sigma - sigma) / sigma[0] <= uncertainties(found)).all()
        assert 1e-8 < found.resolution < 2e-7

    @pytest.mark.parametrize("tall", [False, True])
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize(
        ("levels", "length"),
        [
            ([1 / 3], 2**20),
            ([0.7], 2**20),
            ([0.69927786, 0.80149836], 2**20),
            ([0.3, 0.5, 0.8], 2**19),
        ],
    )
    def test_sums_along_millions_of_equal_entries(
        self, grams: Grams, levels: list[float], length: int, dtype: type, tall: bool
    ) -> None:
        """A bit lost of each product of low order adds up: 3.5 times what the record says."""
        matrix = ConstantRows(np.array(levels, dtype), length, tall)
        (found,) = grams([matrix])
        assert found is not None
        matrix.assert_within_rounding(found)

    def test_a_small_matrix_to_a_hundred_digits(self, grams: Grams) -> None:
        array = drawn((4, 6))
        with mpmath.workdps(100):
            exact = mpmath.svd_r(mpmath.matrix(array.astype("f8").tolist()), compute_uv=False)
            expected = np.array([float(value) for value in exact])
        np.testing.assert_allclose(one(grams, array).sigma, expected, rtol=1e-14)


class TestLeftToTheCpu:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", TYPES[:4])
    def test_what_is_not_finite(
        self, grams: Grams, dtype: type, bad: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        array, good = drawn((5, 3), dtype), drawn((5, 3), dtype)
        array[2, 1] = bad
        sizes: list[int] = []
        right: Solver = torch.linalg.eigvalsh

        def counted(stack: torch.Tensor) -> torch.Tensor:
            sizes.append(len(stack))
            return right(stack)

        monkeypatch.setattr(torch.linalg, "eigvalsh", counted)
        found = grams([ArrayMatrix(array), ArrayMatrix(good)])
        assert found[0] is None
        assert found[1] is not None
        assert sizes == [1]  # no eigensolver has seen it

    def test_what_is_empty(self, grams: Grams) -> None:
        assert grams([ArrayMatrix(np.zeros((0, 4))), ArrayMatrix(np.zeros((4, 0)))]) == [None] * 2

    def test_a_norm_beyond_float64(self, grams: Grams) -> None:
        matrix = ArrayMatrix(np.full((2, 2), 1.7e308))
        assert grams([matrix]) == [None]
        assert isinstance(solve(matrix, "gram"), Unmeasured)


TYPE = st.sampled_from(TYPES)
SIDE = st.one_of(st.integers(1, 12), st.integers(30, 60))


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Of any rank, scale and type; entries of very different size, lines of zeros."""
    rows, columns, seed = draw(SIDE), draw(SIDE), draw(st.integers(0, 2**32 - 1))
    rank = min(draw(st.integers(1, 60)), rows, columns)
    exponent, spread = draw(st.integers(-60, 60)), draw(st.integers(0, 40))
    rng = np.random.default_rng(seed)
    wide = low_rank(rows, columns, rank, seed)
    wide = wide * np.exp2(rng.integers(-spread, 1, wide.shape) + exponent)
    wide[rng.integers(0, rows, draw(st.integers(0, 3)))] = 0
    with np.errstate(all="ignore"):
        array: Array = wide.astype(draw(TYPE))
    return array


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(array=arrays())
def test_any_matrix(grams: Grams, array: Array) -> None:
    """As near as it says, and as the CPU's record in all else."""
    exact = array.astype(np.float64)
    (found,) = grams([ArrayMatrix(array)])
    if not np.isfinite(exact).all():
        assert found is None
        return
    assert found is not None
    assert_within_resolution(found, np.linalg.svd(exact, compute_uv=False))
    host = solve(ArrayMatrix(array), "gram")
    assert isinstance(host, Spectrum)
    assert found.zeros == host.zeros
    if not host.sigma.any():
        return
    allowed = (uncertainties(found) + uncertainties(host)) * host.sigma[0]
    assert (np.abs(found.sigma - host.sigma) <= allowed).all()


def test_the_record_s_tolerance_is_no_wider_than_the_cpu_s(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = drawn((64, 80))
    for count in (0, 4):
        monkeypatch.setattr(streaming, "rates_of", lambda _, n=count: rates_for(n))
        ((_, found),) = grams_on(device, [ArrayMatrix(array)])
        assert found.resolution == math.sqrt((64 + 128 + 80 / 2048) * 2.0**-53)
