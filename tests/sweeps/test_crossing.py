"""Where spectra cross: against all cuts tried one by one, and where the answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankscope.errors import UsageError
from rankscope.sweeps.crossing import Crossing, common_crossing, crossing

Array = NDArray[Any]

# Few values, so that ties, touching curves and several crossings are common.
curves = st.integers(0, 12).flatmap(
    lambda k: st.tuples(*[st.lists(st.integers(0, 6), min_size=k, max_size=k) for _ in "ab"])
)


def falling(values: Any) -> Array:
    return np.sort(np.asarray(values, np.float64))[::-1]


def by_trying(a: Array, b: Array) -> Crossing | None:
    """Every cut and order, counted index by index."""
    k = len(a)
    differ = sum(1 for i in range(k) if a[i] != b[i])
    best: tuple[int, int, Any] | None = None
    for c in range(k + 1):
        for above, first, then in (("a", a, b), ("b", b, a)):
            agree = sum(
                1 for i in range(k) if (first[i] > then[i] if i < c else first[i] < then[i])
            )
            if best is None or agree > best[0]:
                best = agree, c, above
    assert best is not None
    agree, c, above = best
    return Crossing(c, agree / differ, above) if 0 < c < k else None


@settings(max_examples=400)
@given(curves)
def test_agrees_with_trying_every_cut(both: tuple[list[int], list[int]]) -> None:
    a, b = map(falling, both)
    assert crossing(a, b) == by_trying(a, b)


@settings(max_examples=200)
@given(curves)
def test_exchange_of_the_two_changes_who_is_above_only(both: tuple[list[int], list[int]]) -> None:
    a, b = map(falling, both)
    one, other = crossing(a, b), crossing(b, a)
    if one is None or other is None:
        assert one is other
    else:
        assert (one.index, one.agreement) == (other.index, other.agreement)
        assert {one.above, other.above} == {"a", "b"}


@settings(max_examples=200)
@given(st.floats(0.05, 0.93), st.floats(0.05, 0.93), st.integers(40, 200))
def test_geometric_curves_of_equal_sum(r: float, s: float, k: int) -> None:
    """(1 - r) r^i and (1 - s) s^i, which meet where their logarithms do."""
    if abs(r - s) < 0.01:
        return
    indices = np.arange(k)
    meet = math.log((1 - s) / (1 - r)) / math.log(r / s)
    if not 1e-6 < meet % 1 < 1 - 1e-6:
        return
    found = crossing((1 - r) * r**indices, (1 - s) * s**indices)
    # The steeper curve holds more at its head.
    assert found == Crossing(math.ceil(meet), 1.0, "a" if r < s else "b")


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        ([], [], None),
        ([1], [1], None),
        ([2], [1], None),
        ([3, 2, 1], [3, 2, 1], None),
        ([3, 2, 1], [2, 1, 0], None),
        ([3, 2, 1], [3, 1, 1], None),  # touching is no crossing
        ([4, 1], [3, 2], Crossing(1, 1.0, "a")),
        ([3, 2], [4, 1], Crossing(1, 1.0, "b")),
        ([5, 5, 3, 1, 1], [5, 4, 3, 2, 1], Crossing(2, 1.0, "a")),  # the first of equal cuts
        # a leads, b leads at one, a leads again: no cut says more than that a leads.
        ([9, 5, 4], [8, 6, 3], None),
        # Six places where they differ, one of them against the rest.
        ([9, 7, 6, 5, 2, 1], [8, 7.5, 5, 4, 3, 2], Crossing(4, 5 / 6, "a")),
    ],
)
def test_cases(a: list[float], b: list[float], found: Crossing | None) -> None:
    assert crossing(np.array(a, np.float64), np.array(b, np.float64)) == found


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_of_two_spectra_of_equal_norm_neither_is_above_throughout(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (falling(rng.random(k)) for _ in "ab")
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    assert (a > b).any()
    assert (a < b).any()


def test_a_long_spectrum_takes_no_time() -> None:
    """Trying every cut of these would take 10^10 comparisons."""
    k = 100_000
    steep, flat = np.linspace(2, 0, k), np.linspace(1.5, 0.5, k)
    assert crossing(steep, flat) == Crossing(k // 2, 1.0, "a")


@pytest.mark.parametrize(
    ("a", "b"), [(np.ones(3), np.ones(4)), (np.ones(1), np.ones(4)), (np.ones((2, 2)),) * 2]
)
def test_other_shapes_are_refused(a: Array, b: Array) -> None:
    with pytest.raises(UsageError, match="expected spectra of equal length"):
        crossing(a, b)


class TestCommon:
    def test_curves_that_meet_in_one_point(self) -> None:
        """As in P1's Fig. 16: the larger the batch, the steeper about the same index."""
        index = np.arange(20)
        found = common_crossing([10.0 + slope * (6.5 - index) for slope in (0.1, 0.2, 0.3, 0.4)])
        assert found is not None
        assert (found.median, found.smallest, found.largest, found.agreement) == (7.0, 7, 7, 1.0)
        assert [pair and pair.above for pair in found.pairs] == ["b", "b", "b"]

    def test_curves_that_do_not(self) -> None:
        flat, early, late = np.array([4.0] * 5), np.array([6.0, 5, 3, 2, 1]), np.full(5, 2.5)
        found = common_crossing([flat, early, late])
        assert found is not None
        assert found.pairs == (Crossing(2, 1.0, "b"), Crossing(3, 1.0, "a"))
        assert (found.median, found.smallest, found.largest) == (2.5, 2, 3)

    def test_a_pair_that_does_not_cross_is_left_out(self) -> None:
        low = np.array([3.0, 2, 1])
        found = common_crossing([low, low + 1, np.array([5.0, 2, 1])])
        assert found is not None
        assert found.pairs == (None, Crossing(1, 1.0, "b"))
        assert found.median == 1

    def test_the_least_agreement_is_kept(self) -> None:
        a, b = np.array([9.0, 7, 6, 3, 2]), np.array([8, 7.5, 5, 4, 3])
        found = common_crossing([a, b, np.array([9.0, 8, 4, 3, 2])])
        assert found is not None
        assert [pair and pair.agreement for pair in found.pairs] == [0.8, 1.0]
        assert found.agreement == 0.8

    @pytest.mark.parametrize("spectra", [[], [np.ones(3)], [np.ones(3)] * 3])
    def test_nothing_crosses(self, spectra: list[Array]) -> None:
        assert common_crossing(spectra) is None
