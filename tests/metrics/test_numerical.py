"""The rounding floor, and the delicate readings against mpmath."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest

from rankscope import metrics
from rankscope.records import Spectrum
from rankscope.solvers import solve
from tests.matrix import ArrayMatrix, low_rank, with_sigma


def spectrum_of(array: Any, route: Any = "direct") -> Spectrum:
    found = solve(ArrayMatrix(array), route)
    assert isinstance(found, Spectrum)
    return found


@pytest.mark.parametrize("r", [8, 16])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
@pytest.mark.parametrize("shape", [(256, 256), (512, 128)])
def test_a_low_rank_product_reads_its_rank_in_every_type(
    shape: tuple[int, int], dtype: Any, r: int
) -> None:
    spectrum = spectrum_of(low_rank(*shape, r).astype(dtype))
    assert metrics.numerical_rank(spectrum).value == r
    # numpy's rule, for comparison, takes the rounding noise for signal.
    assert metrics.numerical_rank(spectrum, "numpy").value == min(shape)


def test_the_gram_route_says_that_it_cannot_tell_in_fp32() -> None:
    product = low_rank(300, 200, 16).astype(np.float32)
    by_gram, by_direct = spectrum_of(product, "gram"), spectrum_of(product)
    assert not metrics.numerical_rank(by_gram).exact
    assert metrics.numerical_rank(by_direct).exact
    assert metrics.numerical_rank(by_direct).value == 16


def test_numpy_rule_is_numpys() -> None:
    for array in (low_rank(30, 20, 5), np.random.default_rng(0).standard_normal((9, 9))):
        expected = int(np.linalg.matrix_rank(array))
        assert metrics.numerical_rank(spectrum_of(array), "numpy").value == expected


@pytest.mark.parametrize(
    "sigma",
    [
        [1.0, 1e-12],
        [1.0] * 500,
        [3.0, 2.0, 1.0, 1e-9, 1e-10],
        list(np.geomspace(1, 1e-7, 40)),
        [1e300, 1e299],
        [1e-300, 2e-300],
    ],
)
def test_delicate_readings_against_fifty_digits(sigma: list[float]) -> None:
    with mpmath.workdps(50):
        s = [mpmath.mpf(value) for value in sigma]
        total = mpmath.fsum(s)
        entropy = -mpmath.fsum((x / total) * mpmath.log(x / total) for x in s)
        squares = mpmath.fsum(x**2 for x in s)
        expected = {
            "effective_rank": mpmath.exp(entropy),
            "participation_ratio": squares**2 / mpmath.fsum(x**4 for x in s),
            "nuclear_norm": total,
            "nuclear_ratio": total / mpmath.sqrt(squares),
            "stable_rank": squares / max(s) ** 2,
        }
        half = mpmath.fsum(mpmath.sqrt(x) for x in s) ** 2
    spectrum = with_sigma(sigma, resolution=1e-15)
    for name, value in expected.items():
        reading = getattr(metrics, name)(spectrum)
        assert reading.value == pytest.approx(float(value), rel=1e-13), name
    assert metrics.schatten_norm(spectrum, 0.5).value == pytest.approx(float(half), rel=1e-13)


def test_a_tie_is_flagged() -> None:
    tied = with_sigma([1.0, 0.1, 0.01])
    reading = metrics.rank(tied, eps=0.1, norm="spectral")
    assert reading.value == 1
    assert "tie" in reading.note
    assert not reading.exact
    clear = metrics.rank(tied, eps=0.0999, norm="spectral")
    assert (clear.value, clear.note, clear.exact) == (2, "", True)


def test_a_threshold_below_the_resolution_is_exact_when_nothing_is_down_there() -> None:
    full = with_sigma([1.0, 0.5, 0.1], route="gram", resolution=1e-6)
    assert metrics.rank(full, eps=1e-9).exact
    low = with_sigma([1.0, 0.5, 1e-8], route="gram", resolution=1e-6)
    assert not metrics.rank(low, eps=1e-9).exact
    assert metrics.rank(low, eps=1e-3).exact


def test_condition_number_is_infinite_below_the_resolution() -> None:
    reading = metrics.condition_number(with_sigma([1.0, 1e-17]))
    assert reading.value == float("inf")
    assert "resolution" in reading.note


@pytest.mark.parametrize("scale", [1e308, 1e-300])
def test_values_at_the_ends_of_float64(scale: float) -> None:
    spectrum = spectrum_of(np.diag([1.0, 1.0]) * scale)
    assert metrics.numerical_rank(spectrum).value == 2
    assert metrics.effective_rank(spectrum).value == pytest.approx(2.0)
    assert metrics.rank(spectrum).value == 2
    nuclear = metrics.nuclear_norm(spectrum)
    if scale > 1:
        assert nuclear.value == float("inf")
        assert nuclear.note.startswith("infinite")
    else:
        assert nuclear.value == pytest.approx(2 * scale)


def test_a_ratio_beyond_float64_is_infinite_and_says_so() -> None:
    reading = metrics.schatten_ratio(with_sigma([1.0] * 600), 0.001, 1)
    assert reading.value == float("inf")
    assert reading.note.startswith("infinite")


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_exactness_does_not_depend_on_the_scale(scale: float) -> None:
    sigma = np.array([1.0, 0.5, 1e-7]) * scale
    spectrum = with_sigma(sigma, route="gram", resolution=5e-8)
    assert not metrics.condition_number(spectrum).exact
    assert metrics.rank(spectrum, eps=1e-3).exact
    tied = with_sigma(np.array([1.0, 0.1]) * scale)
    assert "tie" in metrics.rank(tied, eps=0.1, norm="spectral").note


def test_float64_noise_is_not_counted_and_the_reading_says_so() -> None:
    for array, r in ((np.full((300, 300), 0.1), 1), (low_rank(300, 300, 8), 8)):
        reading = metrics.numerical_rank(spectrum_of(array))
        assert reading.value == r
        assert not reading.exact
        assert "noise" in reading.note


@pytest.mark.parametrize(("dtype", "scale"), [(np.float16, 1e-6), (ml_dtypes.float8_e4m3fn, 1e-3)])
def test_rounding_to_subnormal_numbers_is_noise_too(dtype: Any, scale: float) -> None:
    stored = (low_rank(200, 200, 8) * scale).astype(dtype)
    reading = metrics.numerical_rank(spectrum_of(stored))
    assert reading.value is not None
    assert reading.value <= 8


def test_condition_number_is_held_to_one_percent_by_both_routes() -> None:
    near = with_sigma([1.0, 3e-16], resolution=2e-16)
    assert not metrics.condition_number(near).exact
    assert metrics.condition_number(with_sigma([1.0, 3e-13], resolution=2e-16)).exact


def test_long_rows_are_not_told_apart_from_their_rounding() -> None:
    """Two constant rows of fp32: the second singular value is rounding, whatever it reads."""
    import rankscope

    weights = np.repeat(np.array([[0.3], [0.9]], np.float32), 400_000, axis=1)
    (row,) = rankscope.analyze({"w": weights}).matrices
    assert row["numerical_rank"] == 1
    assert row["condition_number"] is None
    assert row["notes"]["condition_number"].startswith("infinite")
