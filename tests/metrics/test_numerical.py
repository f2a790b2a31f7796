"""The rounding floor, and the delicate readings against mpmath."""

from __future__ import annotations

import dataclasses
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
        [1.0, 1e-30],
        [1.0 - 2e-16, 1e-20, 1e-200],
        [1e300, 1.0, 1e-300],
    ],
)
def test_delicate_readings_against_mpmath(sigma: list[float]) -> None:
    with mpmath.workdps(700):  # 1 + 1e-600 is not 1
        s = [mpmath.mpf(value) for value in sigma]
        total = mpmath.fsum(s)
        entropy = -mpmath.fsum((x / total) * mpmath.log(x / total) for x in s)
        squares = mpmath.fsum(x**2 for x in s)
        expected = {
            "effective_rank": mpmath.exp(entropy),
            "spectral_entropy": entropy,
            "head_mass": mpmath.fsum(x for x in s if x > max(s) / 1000) / total,
            "participation_ratio": squares**2 / mpmath.fsum(x**4 for x in s),
            "nuclear_norm": total,
            "nuclear_ratio": total / mpmath.sqrt(squares),
            "stable_rank": squares / max(s) ** 2,
        }
        half = mpmath.fsum(mpmath.sqrt(x) for x in s) ** 2
    spectrum = with_sigma(sigma, resolution=1e-15)
    for name, value in expected.items():
        given = (1e-3, "spectral") if name == "head_mass" else ()
        reading = getattr(metrics, name)(spectrum, *given)
        assert reading.value == pytest.approx(float(value), rel=1e-13, abs=0), name
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


@pytest.mark.parametrize("route", ["gram", "direct"])
@pytest.mark.parametrize("tail", [1e-3, 1e-6, 1e-9, 1e-12])
def test_entropy_next_to_rank_one_is_exact_while_its_own_digits_are_known(
    tail: float, route: Any
) -> None:
    """Moved by its uncertainty, the value changes by a millionth of the entropy or it does not."""
    resolution = 1e-14 if route == "direct" else 1e-7
    reading = metrics.spectral_entropy(with_sigma([1.0, tail], route=route, resolution=resolution))
    off = resolution if route == "direct" else resolution**2 / max(2 * tail, resolution)
    moved = metrics.spectral_entropy(with_sigma([1.0, tail + off], resolution=1e-16))
    assert reading.value is not None
    assert moved.value is not None
    change = abs(moved.value - reading.value) / reading.value
    assert reading.exact == (change < 1e-6)
    # Its exponential is known to a millionth of 1 throughout but where the Gram route is blind.
    effective = metrics.effective_rank(with_sigma([1.0, tail], route=route, resolution=resolution))
    assert effective.exact == (route == "direct" or tail > resolution)


def test_entropy_of_rank_one_is_zero_and_of_a_single_value_exactly_so() -> None:
    single = metrics.spectral_entropy(with_sigma([5.0]))
    assert (str(single.value), single.exact) == ("0.0", True)
    low = metrics.spectral_entropy(with_sigma([5.0, 0.0, 0.0]))
    assert low.value == 0.0
    assert not low.exact  # what is not resolved may be anything above 0


class TestHeadMass:
    def test_a_tie_matters_by_its_mass(self) -> None:
        """The same tie: of a tenth of the mass, and of a ten-millionth."""
        heavy = metrics.head_mass(with_sigma([1.0, 0.1, 0.01]), 0.1, "spectral")
        assert heavy.value == pytest.approx(1 / 1.11)
        assert not heavy.exact
        assert "tie" in heavy.note
        sigma = [1.0, 1e-7, 1e-8]
        light = with_sigma(sigma)
        assert not metrics.rank(light, 1e-7, "spectral").exact
        assert metrics.head_mass(light, 1e-7, "spectral").exact
        assert metrics.head_mass(light, 1e-7, "spectral").note == ""

    def test_nothing_in_the_head_is_exactly_zero_unless_tied(self) -> None:
        for spectrum in (with_sigma([1.0, 0.5]), with_sigma([1.0, 0.5], route="gram")):
            above = metrics.head_mass(spectrum, 1.5, "spectral")
            assert (above.value, above.exact) == (0.0, True)
            at = metrics.head_mass(spectrum, 1.0, "spectral")
            assert (at.value, at.exact) == (0.0, False)

    def test_all_in_the_head_is_one_whatever_the_uncertainty(self) -> None:
        loose = with_sigma([1.0, 0.9, 0.8], route="direct", resolution=1e-3)
        assert metrics.head_mass(loose, 0.1, "spectral").exact
        assert metrics.head_mass(loose, 0.1, "spectral").value == 1.0
        assert not metrics.head_mass(loose, 0.85, "spectral").exact

    def test_the_gram_route_is_asked_again_where_the_tail_is_unresolved(self) -> None:
        sigma = [1.0, *[1e-9] * 100]
        blind = with_sigma(sigma, route="gram", resolution=1e-7)
        assert metrics.rank(blind, 1e-3).exact
        assert not metrics.head_mass(blind, 1e-3).exact
        assert metrics.head_mass(with_sigma(sigma), 1e-3).exact
        below = metrics.head_mass(blind, 1e-8)
        assert not below.exact
        assert "below what the gram route resolves" in below.note

    @pytest.mark.parametrize(("sigma", "worst"), [([1.0] + [0.5] * 100, 3), ([1.0, 0.1], 1)])
    def test_exact_as_long_as_no_error_of_head_and_tail_moves_it(
        self, sigma: list[float], worst: float
    ) -> None:
        """`worst`: all of the head off by the resolution one way and all of the tail the other."""
        head, tail, n = sigma[0], sum(sigma[1:]), len(sigma) - 1
        off = 1e-9
        least, value = (head - off) / (head + tail + (n - 1) * off), head / (head + tail)
        assert (value - least) / value == pytest.approx(worst * off, rel=0.03)
        for resolution, exact in ((0.9e-6 / worst, True), (1.1e-6 / worst, False)):
            spectrum = with_sigma(sigma, resolution=resolution)
            assert metrics.head_mass(spectrum, 0.75, "spectral").exact == exact

    def test_known_zeros_hold_no_mass(self) -> None:
        spectrum = dataclasses.replace(with_sigma([1.0, 0.5, 0.01], resolution=0.1), zeros=1)
        reading = metrics.head_mass(spectrum, 0.0)
        assert (reading.value, reading.exact) == (1.0, True)
