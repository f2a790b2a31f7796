"""The contract of every route, with numpy.linalg.svd in fp64 as the oracle."""

from __future__ import annotations

import warnings

import ml_dtypes
import numpy as np
import pytest

from rankscope import solvers
from rankscope.records import Matrix, Route, Spectrum, Unmeasured
from rankscope.solvers import ROUTES, norm_mismatch, solve
from tests.matrix import DENSE, Array, ArrayMatrix, ConstantRows, low_rank

RNG = np.random.default_rng(3)
SHAPES = [(1, 1), (1, 40), (40, 1), (23, 23), (200, 31), (31, 200), (7, 5000), (5000, 7)]
TYPES = [
    np.float64,
    np.float32,
    np.float16,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
]


def spectrum_of(array: Array, route: Route, max_elements: int | None = None) -> Spectrum:
    found = solve(ArrayMatrix(array, max_elements), route)
    assert isinstance(found, Spectrum), found
    return found


@pytest.mark.parametrize("route", DENSE)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_and_norms(shape: tuple[int, int], dtype: type, route: Route) -> None:
    array: Array = RNG.standard_normal(shape).astype(dtype)
    exact = array.astype(np.float64)
    spectrum = spectrum_of(array, route)
    expected = np.linalg.svd(exact, compute_uv=False)
    np.testing.assert_allclose(spectrum.sigma, expected, rtol=1e-10, atol=1e-10 * expected[0])
    assert spectrum.frobenius_norm == pytest.approx(np.linalg.norm(exact), rel=1e-13)
    rows, columns = np.linalg.norm(exact, axis=1), np.linalg.norm(exact, axis=0)
    assert spectrum.max_row_norm == pytest.approx(rows.max(), rel=1e-13)
    assert spectrum.max_column_norm == pytest.approx(columns.max(), rel=1e-13)
    assert (spectrum.shape, spectrum.dtype, spectrum.route) == (shape, array.dtype.name, route)


@pytest.mark.parametrize("route", DENSE)
@pytest.mark.parametrize("max_elements", [1, 64, 500, 10_000])
@pytest.mark.parametrize("shape", [(50, 20), (20, 50), (33, 33)])
def test_the_size_of_blocks_does_not_matter(
    shape: tuple[int, int], max_elements: int, route: Route
) -> None:
    array = RNG.standard_normal(shape)
    whole, pieces = spectrum_of(array, route), spectrum_of(array, route, max_elements)
    np.testing.assert_allclose(pieces.sigma, whole.sigma, rtol=1e-9)
    assert pieces.frobenius_norm == pytest.approx(whole.frobenius_norm, rel=1e-14)


@pytest.mark.parametrize("route", DENSE)
@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-200, 1e-38, 1e38, 1e200, 1e306])
def test_extreme_scales_fp64(scale: float, route: Route) -> None:
    base = RNG.standard_normal((12, 8))
    array = base * scale
    spectrum = spectrum_of(array, route)
    # The oracle is scaled by a power of two, exactly, into LAPACK's comfortable range.
    factor = 2.0 ** -np.frexp(np.abs(array).max())[1] if scale > 1e-300 else 2.0**1000
    expected = np.linalg.svd(array * factor, compute_uv=False)
    # Singular values that are subnormal themselves are multiples of 5e-324.
    np.testing.assert_allclose(spectrum.sigma * factor, expected, rtol=1e-9, atol=5e-324 * factor)


@pytest.mark.parametrize("route", DENSE)
def test_extreme_scales_fp32_and_fp16(route: Route) -> None:
    for array in (
        (RNG.standard_normal((20, 9)) * 1e38).clip(-3e38, 3e38).astype(np.float32),
        np.full((20, 9), 1e-45, np.float32),  # subnormal
        np.full((20, 9), 65504, np.float16),  # squares overflow fp16
    ):
        expected = np.linalg.svd(array.astype(np.float64), compute_uv=False)
        sigma = spectrum_of(array, route).sigma
        np.testing.assert_allclose(sigma, expected, rtol=1e-9, atol=1e-6 * expected[0])


@pytest.mark.parametrize("route", DENSE)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", TYPES[:4])
def test_nonfinite_never_reaches_lapack(
    bad: float, dtype: type, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("LAPACK was called")

    monkeypatch.setattr(np.linalg, "eigvalsh", forbidden)
    monkeypatch.setattr(np.linalg, "svd", forbidden)
    monkeypatch.setattr(np.linalg, "qr", forbidden)
    for shape in [(5, 3), (3, 5), (1, 1)]:
        array: Array = np.ones(shape).astype(dtype)
        array[-1, -1] = bad
        found = solve(ArrayMatrix(array), route)
        assert isinstance(found, Unmeasured)
        assert found.status == "nonfinite"


@pytest.mark.parametrize("route", DENSE)
def test_empty(route: Route) -> None:
    found = solve(ArrayMatrix(np.zeros((0, 4))), route)
    assert isinstance(found, Unmeasured)
    assert found.status == "empty"


@pytest.mark.parametrize("route", DENSE)
def test_lines_of_zeros_give_zeros_that_are_known(route: Route) -> None:
    array = RNG.standard_normal((9, 30))
    array[[2, 5]] = 0
    spectrum = spectrum_of(array, route)
    assert spectrum.zeros == 2
    assert (spectrum.sigma[-2:] <= 1e-14 * spectrum.sigma[0]).all()
    assert spectrum.sigma[-3] > 1e-3


def test_what_the_resolution_promises() -> None:
    """Below it, Gram noise; above it, the direct values, within the stated uncertainty."""
    sigma = np.geomspace(1, 1e-12, 60)
    left = np.linalg.qr(RNG.standard_normal((80, 60)))[0]
    right = np.linalg.qr(RNG.standard_normal((60, 60)))[0]
    array = (left * sigma) @ right
    from rankscope.resolution import uncertainties

    for route in DENSE:
        spectrum = spectrum_of(array, route)
        error = np.abs(spectrum.sigma - sigma) / sigma[0]
        assert (error <= uncertainties(spectrum)).all()


def test_the_resolution_is_about_what_theory_says() -> None:
    array = RNG.standard_normal((1500, 1500))
    units = 1500 * 2.0**-53
    for route, expected in (("gram", np.sqrt(units)), ("direct", units)):
        found = solve(ArrayMatrix(array[:, :1500]), route)  # type: ignore[arg-type]
        assert isinstance(found, Spectrum)
        assert expected <= found.resolution <= 1.1 * expected


@pytest.mark.parametrize("route", DENSE)
@pytest.mark.parametrize("shape", [(2, 1000), (3, 30_000), (8, 3000), (3000, 2), (2, 400_000)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_constant_rows_whose_rounding_is_biased(
    shape: tuple[int, int], dtype: type, route: Route
) -> None:
    """Rank one exactly: everything but sigma_1 must lie below the resolution."""
    levels = np.linspace(0.3, 0.9, min(shape))
    array: Array = np.repeat(levels[:, None], max(shape), axis=1)
    array = (array if shape[0] < shape[1] else array.T).astype(np.float32).astype(dtype)
    spectrum = spectrum_of(array, route)
    assert spectrum.sigma[1] <= spectrum.resolution * spectrum.sigma[0]


@pytest.mark.parametrize("route", DENSE)
@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("order", "length"),
    [
        (1, 2**20),
        (2, 2**20),
        (3, 2**20),
        (5, 300_001),
        (127, 40_000),
    ],
)
def test_sums_along_millions_of_equal_entries(
    order: int, length: int, dtype: type, tall: bool, route: Route
) -> None:
    levels: Array = np.random.default_rng(order).uniform(0.3, 0.9, order).astype(dtype)
    matrix = ConstantRows(levels, length, tall)
    found = solve(matrix, route)
    assert isinstance(found, Spectrum)
    assert found.route == route
    matrix.assert_within_rounding(found)


@pytest.mark.parametrize("order", [129, 192])  # beyond what LAPACK's QR does column by column
def test_a_decomposition_of_many_equal_columns(order: int) -> None:
    levels = np.random.default_rng(order).uniform(0.3, 0.9, order)
    matrix = ConstantRows(levels, 43_000)
    found = solve(matrix, "direct")
    assert isinstance(found, Spectrum)
    matrix.assert_within_rounding(found)


@pytest.mark.parametrize("level", [0.7, 1 / 3, 0.611])
@pytest.mark.parametrize("order", [1, 2])
def test_sums_along_several_blocks(order: int, level: float) -> None:
    matrix = ConstantRows(np.linspace(level, 0.9, order), 2**22 + 2**20 + 77)
    found = solve(matrix, "gram")
    assert isinstance(found, Spectrum)
    matrix.assert_within_rounding(found)


def test_a_line_whose_squares_underflow_is_no_line_of_zeros() -> None:
    array = np.diag([1.0, 1e-200, 0.0])
    for route in DENSE:
        assert spectrum_of(array, route).zeros == 1


def test_known_zeros_are_zero_by_the_direct_route() -> None:
    rng = np.random.default_rng(0)
    for zeros in ([1, 4, 7, 10], [0, 1, 2, 3], [11]):
        array = rng.standard_normal((12, 20)) * np.geomspace(1, 1e-9, 20)
        array[zeros] = 0
        spectrum = spectrum_of(array, "direct")
        assert spectrum.zeros == len(zeros)
        assert (spectrum.sigma[-len(zeros) :] == 0).all()


def test_a_route_that_does_not_converge_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(matrix: Matrix) -> Spectrum:
        raise np.linalg.LinAlgError("did not converge")

    array = low_rank(9, 6, 4)
    monkeypatch.setattr(solvers, "ROUTES", {"gram": fails, "direct": ROUTES["direct"]})
    found = solve(ArrayMatrix(array), "gram")
    assert isinstance(found, Spectrum)
    assert found.route == "direct"
    monkeypatch.setattr(solvers, "ROUTES", {"gram": fails, "direct": fails})
    lost = solve(ArrayMatrix(array), "gram")
    assert isinstance(lost, Unmeasured)
    assert (lost.status, lost.reason) == ("failed", "direct: did not converge")


def test_a_wrong_spectrum_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    def lies(matrix: Matrix) -> Spectrum:
        honest = ROUTES["gram"](matrix)
        sigma = honest.sigma.copy()
        sigma[0] *= 1 + 1e-9
        from dataclasses import replace

        return replace(honest, sigma=sigma)

    array = RNG.standard_normal((100, 80))
    assert "sum of squares" in norm_mismatch(lies(ArrayMatrix(array)))
    monkeypatch.setattr(solvers, "ROUTES", {"gram": lies, "direct": lies})
    found = solve(ArrayMatrix(array), "gram")
    assert isinstance(found, Unmeasured)
    assert found.status == "failed"


@pytest.mark.parametrize("route", DENSE)
def test_norms_beyond_float64_are_told(route: Route) -> None:
    found = solve(ArrayMatrix(np.full((2, 2), 1.7e308)), route)
    assert isinstance(found, Unmeasured)
    assert found.status == "failed"
    assert "float64" in found.reason


def test_no_warning_on_any_of_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for array in (np.zeros((3, 3)), np.full((3, 3), np.inf), np.full((2, 2), 1e308)):
            for route in DENSE:
                solve(ArrayMatrix(array), route)
