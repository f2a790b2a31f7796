"""The route of factors, against the singular values of the product formed in fp64 and beyond."""

from __future__ import annotations

from typing import Literal

import ml_dtypes
import mpmath
import numpy as np
import pytest

from rankscope import solvers
from rankscope.checkpoints.memory import MemoryCheckpoint
from rankscope.products import LowRankProduct
from rankscope.records import Factors, MatrixSpec, Part, Route, Spectrum, Unmeasured
from rankscope.resolution import uncertainties
from rankscope.solvers import factors, norm_mismatch, solve
from tests.matrix import DENSE, Array, ArrayMatrix

RNG = np.random.default_rng(7)
SHAPES = [(1, 1, 1), (1, 30, 2), (30, 1, 2), (40, 25, 4), (25, 40, 4), (9, 9, 9), (6, 11, 20)]
TYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]


def whole(name: str, array: Array) -> MatrixSpec:
    rows, columns = array.shape
    return MatrixSpec(name, name, (), 1, (rows, columns), array.dtype.name, "linear")


def product(
    left: Array,
    right: Array,
    scale: float = 1.0,
    *,
    transposed: bool = False,
    part: Part | None = None,
) -> LowRankProduct:
    shape = (left.shape[0], right.shape[1])
    shape = shape[::-1] if transposed else shape
    if part is not None:
        shape = (part.rows, shape[1])
    spec = MatrixSpec(
        "w", "w", (), 1, shape, left.dtype.name, "linear", transposed, part,
        factors=Factors(whole("left", left), whole("right", right), scale),
    )  # fmt: skip
    return LowRankProduct(MemoryCheckpoint({"left": left, "right": right}), spec)


def spectrum_of(matrix: LowRankProduct, route: Route = "factors") -> Spectrum:
    found = solve(matrix, route)
    assert isinstance(found, Spectrum), found
    return found


def formed(matrix: LowRankProduct, axis: Literal[0, 1] = 0, max_elements: int = 50) -> Array:
    blocks: Array = np.concatenate(list(matrix.blocks(axis, max_elements)), axis=axis)
    return blocks


def gaussian(*shape: int) -> Array:
    return RNG.standard_normal(shape)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "columns", "rank"), SHAPES)
def test_singular_values_and_norms(rows: int, columns: int, rank: int, dtype: type) -> None:
    left: Array = gaussian(rows, rank).astype(dtype)
    right: Array = gaussian(rank, columns).astype(dtype)
    spectrum = spectrum_of(product(left, right, -0.75))
    exact = -0.75 * left.astype(np.float64) @ right.astype(np.float64)
    expected = np.linalg.svd(exact, compute_uv=False)
    np.testing.assert_allclose(spectrum.sigma, expected, rtol=1e-11, atol=1e-13 * expected[0])
    assert spectrum.frobenius_norm == pytest.approx(np.linalg.norm(exact), rel=1e-13)
    lines, stacks = np.linalg.norm(exact, axis=1), np.linalg.norm(exact, axis=0)
    assert spectrum.max_row_norm == pytest.approx(lines.max(), rel=1e-13)
    assert spectrum.max_column_norm == pytest.approx(stacks.max(), rel=1e-13)
    told = (spectrum.shape, spectrum.dtype, spectrum.route)
    assert told == ((rows, columns), left.dtype.name, "factors")


def test_factors_may_have_different_types() -> None:
    left, right = gaussian(20, 3).astype(np.float16), gaussian(3, 30)
    expected = np.linalg.svd(left.astype(np.float64) @ right, compute_uv=False)
    sigma = spectrum_of(product(left, right)).sigma
    np.testing.assert_allclose(sigma, expected, rtol=1e-10, atol=1e-13 * expected[0])


@pytest.mark.parametrize(("rows", "columns", "rank"), SHAPES)
def test_what_is_beyond_the_rank_is_exactly_zero(rows: int, columns: int, rank: int) -> None:
    spectrum = spectrum_of(product(gaussian(rows, rank), gaussian(rank, columns)))
    assert len(spectrum.sigma) == min(rows, columns)
    assert spectrum.zeros == max(0, min(rows, columns) - rank)
    assert not spectrum.sigma[rank:].any()
    assert (spectrum.sigma[: min(rank, rows, columns)] > 1e-8).all()


def test_a_column_of_zeros_in_either_factor_takes_a_direction() -> None:
    left, right = gaussian(20, 5), gaussian(5, 30)
    left[:, 1] = 0
    right[3] = 0
    assert spectrum_of(product(left, right)).zeros == 20 - 3


@pytest.mark.parametrize("zero", ["left", "right", "scale"])
def test_a_fresh_adapter_adds_nothing(zero: str) -> None:
    """LoRA begins with B = 0."""
    left, right = gaussian(20, 4) * (zero != "left"), gaussian(4, 10) * (zero != "right")
    spectrum = spectrum_of(product(left, right, 2.0 * (zero != "scale")))
    assert not spectrum.sigma.any()
    assert (spectrum.frobenius_norm, spectrum.zeros) == (0.0, 10)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("part", [None, Part("k", 3, 6, 2, 4)])
def test_of_a_part_and_of_a_transposed_product(transposed: bool, part: Part | None) -> None:
    left, right = gaussian(18, 3), gaussian(3, 18)
    matrix = product(left, right, 0.5, transposed=transposed, part=part)
    exact = 0.5 * left @ right
    exact = exact.T if transposed else exact
    if part is not None:
        exact = exact.reshape(3, 6, 18)[:, 2:4].reshape(6, 18)
    for axis in (0, 1):
        np.testing.assert_allclose(formed(matrix, axis), exact, rtol=1e-12, atol=1e-14)
    expected = np.linalg.svd(exact, compute_uv=False)
    sigma = spectrum_of(matrix).sigma
    np.testing.assert_allclose(sigma, expected, rtol=1e-10, atol=1e-13 * expected[0])


@pytest.mark.parametrize("route", DENSE)
def test_the_routes_of_a_formed_matrix_agree(route: Route) -> None:
    matrix = product(gaussian(60, 5), gaussian(5, 40), 3.0)
    through, across = spectrum_of(matrix), spectrum_of(matrix, route)
    assert across.route == route
    errors = uncertainties(through) + uncertainties(across)
    assert (np.abs(through.sigma - across.sigma) <= errors * through.sigma[0]).all()
    assert across.frobenius_norm == pytest.approx(through.frobenius_norm, rel=1e-13)


def test_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = product(gaussian(300, 4), gaussian(4, 500))
    expected = spectrum_of(matrix)
    monkeypatch.setattr(factors, "BLOCK_ELEMENTS", 20)
    found = spectrum_of(matrix)
    np.testing.assert_allclose(found.sigma, expected.sigma, rtol=1e-12)
    assert found.frobenius_norm == pytest.approx(expected.frobenius_norm, rel=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["left", "right"])
@pytest.mark.parametrize("dtype", TYPES[:4])
def test_nonfinite_never_reaches_lapack(
    bad: float, place: str, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guarded(array: Array, **_: object) -> Array:
        assert np.isfinite(array).all(), "LAPACK was called"
        return np.triu(array[: array.shape[1]])

    monkeypatch.setattr(np.linalg, "qr", guarded)
    monkeypatch.setattr(np.linalg, "svd", guarded)
    left: Array = gaussian(9, 3).astype(dtype)
    right: Array = gaussian(3, 8).astype(dtype)
    (left if place == "left" else right)[-1, -1] = bad
    found = solve(product(left, right), "factors")
    assert isinstance(found, Unmeasured)
    assert found.status == "nonfinite"


# Of either factor: together up to 1e600, where neither the product nor the plain product of the
# scales can be held.
@pytest.mark.parametrize(
    ("of_left", "of_right"),
    [(1e-300, 1e300), (1e300, 1e-300), (1e150, 1e150), (1e-150, 1e-150), (1e-200, 1.0)],
)
def test_extreme_scales(of_left: float, of_right: float) -> None:
    left, right = gaussian(12, 3), gaussian(3, 8)
    expected = np.linalg.svd(left @ right, compute_uv=False) * (of_left * of_right)
    spectrum = spectrum_of(product(left * of_left, right * of_right))
    assert spectrum.route == "factors"
    np.testing.assert_allclose(spectrum.sigma, expected, rtol=1e-10, atol=1e-13 * expected[0])
    norm = np.linalg.norm(expected / expected[0]) * expected[0]
    assert spectrum.frobenius_norm == pytest.approx(norm, rel=1e-12)


def test_a_scale_that_brings_it_back() -> None:
    left, right = gaussian(12, 3), gaussian(3, 8)
    expected = np.linalg.svd(left @ right, compute_uv=False)
    spectrum = spectrum_of(product(left * 2.0**900, right * 2.0**900, 2.0**-1000))
    np.testing.assert_allclose(spectrum.sigma[:3], expected[:3] * 2.0**800, rtol=1e-12)


def test_a_product_beyond_float64_is_said_to_be() -> None:
    found = solve(product(gaussian(12, 3) * 1e200, gaussian(3, 8) * 1e200), "factors")
    assert found == Unmeasured("failed", "its norm is beyond the range of float64")


def exact_sigma(left: Array, right: Array) -> Array:
    """By mpmath with 60 digits, from the core of its own QR."""
    with mpmath.workdps(60):
        core = mpmath.matrix(left.tolist()) * mpmath.matrix(right.tolist())
        values = mpmath.svd_r(core, compute_uv=False)
        return np.array(sorted((float(value) for value in values), reverse=True))


@pytest.mark.parametrize("grade", [0.0, 4.0, 8.0])
@pytest.mark.parametrize("shared", [0.0, 1e3, 1e7])
def test_what_the_resolution_promises(grade: float, shared: float) -> None:
    """With columns of very different length, and with columns that nearly cancel."""
    weights = 10.0 ** -np.linspace(0, grade, 4)
    left, right = gaussian(14, 4) * weights, (gaussian(10, 4) * weights).T
    # The same line added to one and taken from the other: it cancels in the product.
    left[:, 1] = left[:, 0] + left[:, 1] / max(1.0, shared)
    right[1] = -right[0] + right[1] / max(1.0, shared)
    expected = exact_sigma(left, right)
    for route in ("factors", *DENSE):
        spectrum = spectrum_of(product(left, right), route)
        assert spectrum.route == route
        errors = np.abs(spectrum.sigma - expected) / spectrum.sigma[0]
        assert (errors <= uncertainties(spectrum) + 1e-16).all(), (errors, spectrum.resolution)
    # What cancels is lost, and no more.
    reach = np.linalg.norm(left, axis=0) @ np.linalg.norm(right, axis=1) / expected[0]
    units = spectrum_of(product(left, right)).resolution / 2.0**-53
    assert 100 * reach < units < 200 * reach


def test_graded_columns_cost_no_digits() -> None:
    """Factors scaled against each other, as (B D) (D^-1 A): the product is the same."""
    left, right = gaussian(30, 4), gaussian(4, 20)
    scales = 10.0 ** np.array([-8.0, -2.0, 3.0, 8.0])
    plain, graded = (
        spectrum_of(product(left, right)),
        spectrum_of(product(left * scales, right / scales[:, None])),
    )
    assert graded.resolution == pytest.approx(plain.resolution, rel=1e-6)
    np.testing.assert_allclose(graded.sigma, plain.sigma, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("rows", "rank"), [(30_000, 2), (200_000, 1), (5000, 64)])
def test_constant_columns_whose_rounding_is_biased(rows: int, rank: int, dtype: type) -> None:
    left: Array = np.full((rows, rank), 0.1, dtype) * np.arange(1, rank + 1, dtype=dtype)
    right: Array = np.full((rank, 3), 0.3, dtype)
    spectrum = spectrum_of(product(left, right))
    entry = left[0].astype(np.longdouble) @ right[:, 0].astype(np.longdouble)
    expected = float(entry * np.sqrt(np.longdouble(3 * rows)))
    error = abs(spectrum.sigma[0] - expected) / expected
    assert error <= spectrum.resolution
    assert (spectrum.sigma[1:] <= spectrum.resolution * spectrum.sigma[0]).all()


def test_a_wrong_core_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Singular values off by 1e-6 contradict the norm of the factors; the direct route answers."""
    true_svd = np.linalg.svd
    matrix = product(gaussian(40, 3), gaussian(3, 30))
    expected = spectrum_of(matrix).sigma

    def wrong(array: Array, *, compute_uv: bool) -> Array:
        assert not compute_uv
        sigma: Array = true_svd(array, compute_uv=False)
        return sigma * (1 + 1e-6) if array.shape == (3, 3) else sigma

    monkeypatch.setattr(np.linalg, "svd", wrong)
    spectrum = spectrum_of(matrix)
    assert spectrum.route == "direct"
    np.testing.assert_allclose(spectrum.sigma[:3], expected[:3], rtol=1e-12)


@pytest.mark.parametrize("which", [0, 1])
def test_a_wrong_triangle_is_noticed(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    true_qr = np.linalg.qr
    matrix = product(gaussian(40, 3), gaussian(3, 30))
    calls: list[int] = []

    def wrong(array: Array, *, mode: Literal["r"]) -> Array:
        triangle: Array = np.asarray(true_qr(array, mode=mode))
        calls.append(0)
        return triangle * (1 + 1e-6) if len(calls) == which + 1 else triangle

    monkeypatch.setattr(np.linalg, "qr", wrong)
    spectrum = spectrum_of(matrix)
    assert (spectrum.route, len(calls) > 2) == ("direct", True)


def test_a_matrix_that_is_stored_as_it_is_has_no_factors() -> None:
    with pytest.raises(TypeError, match="is not stored as factors"):
        solvers.ROUTES["factors"](ArrayMatrix(np.eye(3)))


def test_the_norm_of_a_sound_spectrum_is_not_doubted() -> None:
    """Cancelling columns leave sigma and the norm both off, and both within what is told."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        base = rng.standard_normal((8, 1))
        left = base + 1e-7 * rng.standard_normal((8, 4))
        right = rng.standard_normal((4, 6))
        right -= right.mean(axis=0)
        spectrum = spectrum_of(product(left, right))
        assert spectrum.route == "factors"
        assert norm_mismatch(spectrum) == ""
