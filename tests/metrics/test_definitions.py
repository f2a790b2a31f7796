"""Every metric against its definition, by both routes and over shapes and types."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

import rankscope
from rankscope.metrics import METRICS
from rankscope.metrics.condition import CONDITION_RTOL
from rankscope.question import Question
from rankscope.records import Route, Spectrum
from rankscope.resolution import READING_RTOL
from rankscope.solvers import solve
from tests.matrix import DENSE, Array, ArrayMatrix, low_rank
from tests.metrics import naive

RNG = np.random.default_rng(7)
GAUSSIAN: dict[str, Array] = {
    f"{rows}x{columns} {dtype.__name__}": RNG.standard_normal((rows, columns)).astype(dtype)
    for (rows, columns), dtype in itertools.product(
        [(1, 1), (1, 6), (6, 1), (12, 12), (30, 7), (7, 30)],
        [np.float64, np.float32, np.float16, ml_dtypes.bfloat16],
    )
}
DECAYING: dict[str, Array] = {
    "geometric": (RNG.standard_normal((20, 20)) * 0.5 ** np.arange(20)).astype(np.float32),
    "one direction": low_rank(9, 5, 1) + 1e-3 * RNG.standard_normal((9, 5)),
}


def spectrum_of(array: Array, route: Route) -> Spectrum:
    found = solve(ArrayMatrix(array), route)
    assert isinstance(found, Spectrum)
    return found


def test_every_metric_has_a_definition() -> None:
    defined = {name.partition("(")[0] for name in naive.DEFINITIONS}
    assert defined == {metric.name for metric in METRICS}


@pytest.mark.parametrize("route", DENSE)
@pytest.mark.parametrize("name", naive.DEFINITIONS)
@pytest.mark.parametrize("case", [*GAUSSIAN, *DECAYING])
def test_agrees_with_its_definition(case: str, name: str, route: Route) -> None:
    array = GAUSSIAN[case] if case in GAUSSIAN else DECAYING[case]
    (column,) = Question((name,)).columns()
    reading = column.read(spectrum_of(array, route))
    # A Gram reading that calls itself inexact is the direct route's business.
    if route == "gram" and not reading.exact:
        assert case == "geometric"
        return
    expected = naive.DEFINITIONS[name](array)
    if column.metric.integer:
        assert reading.value == expected
    else:
        near_resolution = route == "gram" and case == "geometric"
        promised = CONDITION_RTOL if name == "condition_number" else READING_RTOL
        tolerance = promised if near_resolution else 1e-9
        assert reading.value == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("norm", ["frobenius", "spectral", "none"])
@pytest.mark.parametrize("eps", [0.3, 0.03, 1e-3, 0.0])
@pytest.mark.parametrize("case", DECAYING)
def test_thresholded_metrics_over_eps_and_norms(case: str, eps: float, norm: str) -> None:
    array = DECAYING[case]
    spectrum = spectrum_of(array, "direct")
    rank, approximation, mass = Question(
        ("rank", "approximation_rank", "head_mass"),
        (eps,),
        norm,  # type: ignore[arg-type]
    ).columns()
    assert rank.read(spectrum).value == naive.rank(array, eps, norm)
    expected = naive.head_mass(array, eps, norm)
    assert mass.read(spectrum).value == pytest.approx(expected, rel=1e-12)
    if eps > 0:  # at eps = 0 the truncation's own rounding is above the threshold
        assert approximation.read(spectrum).value == naive.approximation_rank(array, eps, norm)


def test_zero_matrix_has_rank_zero_and_no_ratios() -> None:
    for route in DENSE:
        spectrum = spectrum_of(np.zeros((4, 3)), route)
        for metric in METRICS:
            parameters = {"p": 0.5, "q": 0.7, "r": 1}
            given = [parameters[name] for name in metric.parameters[: metric.required]]
            reading = metric.function(spectrum, *given)
            undefined = {
                "effective_rank",
                "stable_rank",
                "participation_ratio",
                "nuclear_ratio",
                "condition_number",
                "schatten_ratio",
                "spectral_entropy",
                "head_mass",
            }
            assert reading.value == (None if metric.name in undefined else 0)
            assert reading.exact
            assert bool(reading.note) == (metric.name in undefined)


@pytest.mark.parametrize(
    ("sigma", "eps"),
    [([1.0, 1e-170], 0.0), ([1.0, 1e-200, 1e-300], 1e-250), ([3.0, 3.0, 0.1], 0.02356368148131365)],
)
def test_the_rank_is_never_above_the_approximation_rank(sigma: list[float], eps: float) -> None:
    """Where squares underflow beside sigma_1, and where a threshold is an ulp off."""
    spectrum = rankscope.spectrum(np.diag(sigma))
    found = rankscope.metrics.rank(spectrum, eps=eps).value
    bounded = rankscope.metrics.approximation_rank(spectrum, eps=eps).value
    assert found is not None
    assert bounded is not None
    assert found <= bounded
