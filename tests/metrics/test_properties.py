"""What must hold for every matrix: invariances and the inequalities between metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankscope import metrics
from rankscope.metrics import METRICS, Metric
from rankscope.metrics.condition import CONDITION_RTOL
from rankscope.records import Reading, Spectrum
from rankscope.resolution import READING_RTOL
from rankscope.solvers import solve
from tests.matrix import DENSE, Array, ArrayMatrix

PARAMETERS = {"p": 0.5, "q": 2 / 3, "r": 1}
SCALED = {"spectral_norm", "frobenius_norm", "nuclear_norm", "schatten_norm", "distance_to_rank"}


@st.composite
def matrices(draw: st.DrawFn) -> Array:
    """Gaussian matrices with a decaying spectrum of any steepness down to 1e-4."""
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    seed = draw(st.integers(0, 2**32 - 1))
    decay = draw(st.floats(0.0, 4.0))
    rng = np.random.default_rng(seed)
    k = min(rows, columns)
    left = np.linalg.qr(rng.standard_normal((rows, k)))[0]
    right = np.linalg.qr(rng.standard_normal((columns, k)))[0]
    sigma = 10.0 ** -(decay * rng.random(k))
    product: Array = (left * sigma) @ right.T
    return product


def spectrum_of(array: Array) -> Spectrum:
    found = solve(ArrayMatrix(array), "gram")
    assert isinstance(found, Spectrum)
    return found


def read(metric: Metric, array: Array) -> Reading:
    given = [PARAMETERS[name] for name in metric.parameters[: metric.required]]
    return metric.function(spectrum_of(array), *given)


def same(metric: Metric, one: Reading, other: Reading, factor: float = 1.0) -> None:
    if not (one.exact and other.exact):
        return
    assert one.value is not None
    assert other.value is not None
    if metric.integer:
        assert one.value == other.value
    else:
        # Each of the two is as right as an exact reading promises to be.
        promised = CONDITION_RTOL if metric.name == "condition_number" else READING_RTOL
        assert one.value * factor == pytest.approx(other.value, rel=2 * promised)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@settings(max_examples=25, deadline=None)
@given(array=matrices(), exponent=st.integers(-200, 200))
def test_scale(metric: Metric, array: Array, exponent: int) -> None:
    factor = 2.0**exponent
    expected = factor if metric.name in SCALED else 1.0
    same(metric, read(metric, array), read(metric, array * factor), expected)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@settings(max_examples=25, deadline=None)
@given(array=matrices())
def test_transpose(metric: Metric, array: Array) -> None:
    same(metric, read(metric, array), read(metric, np.ascontiguousarray(array.T)))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@settings(max_examples=25, deadline=None)
@given(array=matrices(), seed=st.integers(0, 1000))
def test_orthogonal_rotation(metric: Metric, array: Array, seed: int) -> None:
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(array),) * 2))[0]
    # The rounding floor of numerical_rank is taken from rows and columns, which do rotate.
    if metric.name != "numerical_rank":
        same(metric, read(metric, array), read(metric, rotation @ array))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@settings(max_examples=25, deadline=None)
@given(array=matrices(), rows=st.integers(0, 3), columns=st.integers(0, 3))
def test_padding_with_zeros(metric: Metric, array: Array, rows: int, columns: int) -> None:
    padded = np.pad(array, ((0, rows), (0, columns)))
    if metric.name == "condition_number" and min(padded.shape) > min(array.shape):
        assert read(metric, padded).value == math.inf
    else:
        same(metric, read(metric, array), read(metric, padded))


@pytest.mark.parametrize("route", DENSE)
@settings(max_examples=60, deadline=None)
@given(array=matrices(), eps=st.floats(1e-3, 0.9))
def test_inequalities(array: Array, eps: float, route: str) -> None:
    s = solve(ArrayMatrix(array), route)  # type: ignore[arg-type]
    assert isinstance(s, Spectrum)
    k, slack = min(array.shape), 1 + 1e-12

    def value(reading: Reading) -> float:
        assert reading.value is not None
        return float(reading.value)

    count = value(metrics.numerical_rank(s))
    assert value(metrics.effective_rank(s)) * slack >= 1
    assert value(metrics.effective_rank(s)) <= k * slack
    entropy = value(metrics.spectral_entropy(s))
    assert 0 <= entropy <= math.log(k) * slack + 1e-12
    assert math.exp(entropy) == value(metrics.effective_rank(s))
    assert value(metrics.stable_rank(s)) * slack >= 1
    assert value(metrics.stable_rank(s)) <= value(metrics.participation_ratio(s)) * slack
    assert value(metrics.participation_ratio(s)) <= value(metrics.effective_rank(s)) ** 2 * slack
    assert value(metrics.stable_rank(s)) <= count * slack
    assert value(metrics.nuclear_ratio(s)) * slack >= 1
    assert value(metrics.nuclear_ratio(s)) <= math.sqrt(k) * slack
    assert value(metrics.nuclear_ratio(s)) ** 2 <= count * slack
    assert value(metrics.condition_number(s)) * slack >= 1
    assert value(metrics.rank(s, eps)) <= value(metrics.approximation_rank(s, eps)) <= k
    # No counted value is smaller than one that is not.
    mass = value(metrics.head_mass(s, eps))
    assert value(metrics.rank(s, eps)) / k <= mass * slack
    assert mass <= 1
    # The Frobenius norm is the larger one, so that its threshold is the higher.
    assert value(metrics.rank(s, eps)) <= value(metrics.rank(s, eps, "spectral"))
    assert value(metrics.rank(s, eps, "spectral")) == value(
        metrics.approximation_rank(s, eps, "spectral")
    )


@settings(max_examples=40, deadline=None)
@given(array=matrices(), levels=st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_rank_falls_as_eps_grows(array: Array, levels: list[float]) -> None:
    spectrum = spectrum_of(array)
    for metric in (metrics.rank, metrics.approximation_rank):
        counts = [metric(spectrum, eps).value for eps in sorted(levels)]
        assert counts == sorted(counts, key=lambda count: -float(count or 0))
    masses = [metrics.head_mass(spectrum, eps).value or 0.0 for eps in sorted(levels)]
    assert masses == sorted(masses, reverse=True)
