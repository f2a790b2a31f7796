"""Spectra in the page: what a browser unpacks, and the ranks that it reads off it.

The oracles are the spectra themselves and `rankscope.metrics`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser

from rankscope import metrics, spectrum
from rankscope.metrics.thresholded import Norm
from rankscope.pages.packing import encoded, pack
from rankscope.pages.page import SHELL, as_script, assembled, asset
from rankscope.records import Reading, Spectrum
from rankscope.scene import Curve
from tests.matrix import low_rank
from tests.pages.browser import Opened, opened

NORMS: tuple[Norm, ...] = ("frobenius", "spectral", "none")
METRICS = (metrics.rank, metrics.approximation_rank, metrics.head_mass)

RNG = np.random.default_rng(7)

# What the functions of the page get: a list of what each answers for each spectrum.
ASK = """
async (questions) => {
  const { curves } = await spectra.all();
  return questions.map(([eps, norm]) => curves.map((one) =>
    Object.values(metrics.byName).map((metric) => metric(one, eps, norm))));
}
"""
SIGMA = "async () => (await spectra.all()).curves.map((one) => [...one.sigma])"


def matrices() -> list[NDArray[np.floating[Any]]]:
    """Of every kind that a count depends on: ranks, zeros, noise, ties, scales, types."""
    gaussian = RNG.standard_normal((60, 40))
    steep = low_rank(40, 40, 40) * 1e-3
    return [
        gaussian,
        gaussian.astype(np.float32),
        np.linalg.qr(RNG.standard_normal((30, 30)))[0],  # all values tie
        steep,
        np.diag(2.0 ** -np.arange(50.0)),  # down to 2^-49, below what the Gram route resolves
        np.diag(np.repeat([1.0, 0.5, 1e-9], 5)),
        low_rank(50, 20, 3),
        low_rank(50, 20, 3).astype(np.float16),
        np.zeros((4, 6)),
        np.vstack((RNG.standard_normal((8, 5)), np.zeros((3, 5)))).T.copy(),
        np.diag([1.0, 0.0, 3.0, 0.0]),  # rows of zeros
        np.array([[2.5]]),
        np.array([[0.0]]),
        gaussian * 1e-160,
        gaussian * 1e150,
        (gaussian * 1e-30).astype(np.float32),
    ]


def curves() -> list[Curve]:
    """Each by both routes."""
    return [
        Curve("m", f"{i}.{route}", None, found)
        for i, matrix in enumerate(matrices())
        for route in ("gram", "direct")
        if isinstance(found := spectrum(matrix, route=route), Spectrum)
    ]


@pytest.fixture(scope="module")
def drawn() -> list[Curve]:
    return curves()


def page_of(path: Path, curves: Sequence[Curve], *, exact: bool) -> Path:
    """A page of nothing but spectra, and the scripts that read them."""
    data = {
        "title": "spectra",
        "eps": [1e-3],
        "norm": "frobenius",
        "provenance": {"rankscope": "test"},
        "palette": {},
        "spectra": {"curves": pack(curves, exact=exact)},
    }
    ready = "document.documentElement.dataset.ready = 'yes';"
    scripts = [asset(name) for name in SHELL if name not in ("chart.js", "table.js", "page.js")]
    path.write_text(assembled(data, [*scripts, ready]), "utf-8")
    return path


@pytest.fixture(scope="module")
def exact(
    browser: Browser, drawn: list[Curve], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    file = page_of(tmp_path_factory.mktemp("exact") / "page.html", drawn, exact=True)
    with opened(browser, file) as found:
        yield found


@pytest.fixture(scope="module")
def single(
    browser: Browser, drawn: list[Curve], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    file = page_of(tmp_path_factory.mktemp("single") / "page.html", drawn, exact=False)
    with opened(browser, file) as found:
        yield found


def thresholds(drawn: Sequence[Curve], norm: Norm) -> list[float]:
    """Thresholds at random, at the ends, on values and right beside them."""
    chosen = [0.0, 1.0, 1e-3, 1e-300, *(10.0 ** RNG.uniform(-17, 1, size=60))]
    for curve in drawn:
        one = curve.spectrum
        size = {"frobenius": one.frobenius_norm, "spectral": float(one.sigma[0]), "none": 1.0}[norm]
        if size > 0:
            value = float(RNG.choice(one.sigma)) / size
            chosen += [value, value * (1 + 1e-9), value * (1 - 1e-7)]
    return chosen


def expected(metric: Any, one: Spectrum, eps: float, norm: Norm) -> Reading:
    found: Reading = metric(one, eps, norm)
    return found


class TestExact:
    def test_values_are_the_same_to_the_bit(self, exact: Opened, drawn: list[Curve]) -> None:
        for curve, values in zip(drawn, exact.eval(SIGMA), strict=True):
            assert np.array_equal(np.array(values), curve.spectrum.sigma), curve.name

    @pytest.mark.parametrize("norm", NORMS)
    def test_readings_are_those_of_the_library(
        self, exact: Opened, drawn: list[Curve], norm: Norm
    ) -> None:
        levels = thresholds(drawn, norm)
        answers = exact.eval(ASK, [[eps, norm] for eps in levels])
        marked = 0
        for eps, of_spectra in zip(levels, answers, strict=True):
            for curve, of_metrics in zip(drawn, of_spectra, strict=True):
                for metric, found in zip(METRICS, of_metrics, strict=True):
                    want = expected(metric, curve.spectrum, eps, norm)
                    where = (metric.__name__, curve.name, eps, norm)
                    marked += not want.exact
                    if metric is metrics.head_mass and want.value is not None:
                        assert math.isclose(found["value"], want.value, rel_tol=1e-12), where
                    else:
                        assert found["value"] == want.value, where
                    assert (found["exact"], found["note"]) == (want.exact, want.note), where
        assert marked > 50  # readings that are not exact are among what was compared


class TestSingle:
    def test_values_are_off_by_a_rounding_at_most(self, single: Opened, drawn: list[Curve]) -> None:
        for curve, values in zip(drawn, single.eval(SIGMA), strict=True):
            sigma = curve.spectrum.sigma
            # What float32 has no normal number for is 38 decades below sigma_1.
            floor = float(sigma[0]) * 1e-38
            assert np.all(np.abs(np.array(values) - sigma) <= sigma * 2.0**-23.9 + floor)

    @pytest.mark.parametrize("norm", NORMS)
    def test_counts_are_the_same_or_marked(
        self, single: Opened, drawn: list[Curve], norm: Norm
    ) -> None:
        levels = thresholds(drawn, norm)
        answers = single.eval(ASK, [[eps, norm] for eps in levels])
        only_rounded = 0
        for eps, of_spectra in zip(levels, answers, strict=True):
            for curve, of_metrics in zip(drawn, of_spectra, strict=True):
                for metric, found in zip(METRICS[:2], of_metrics[:2], strict=True):
                    want = expected(metric, curve.spectrum, eps, norm)
                    where = (metric.__name__, curve.name, eps, norm)
                    assert found["value"] == want.value or not found["exact"], where
                    assert want.exact or not found["exact"], where
                    only_rounded += want.exact and not found["exact"]
        assert only_rounded > 0  # of thresholds right beside a value

    def test_few_counts_are_marked_for_their_rounding_alone(self, single: Opened) -> None:
        levels = [[float(eps), "frobenius"] for eps in 10.0 ** RNG.uniform(-4, 0, size=50)]
        answers = single.eval(ASK, levels)
        notes = [one["note"] for of in answers for row in of for one in row]
        assert sum("float32" in note for note in notes) <= len(notes) / 1000


def test_descending_values_take_half_the_room() -> None:
    values = np.sort(np.abs(RNG.standard_normal(100_000)))[::-1].astype(np.float32)
    assert len(encoded(values)) < 0.6 * values.nbytes


def test_nothing_is_a_pack_too() -> None:
    assert pack([], exact=True) == {"type": "float64", "data": "AwA=", "curves": []}


def test_a_script_element_holds_the_document() -> None:
    text = as_script({"a": "</script><!-- & \u2028 \u2029"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028 \u2029"}
