"""The 2 x 2 matrices of momentum, against the update rule written out with fractions."""

from __future__ import annotations

from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.bounds.transfer import DIGITS, IDENTITY, Transfer, exactly, precisely, update

# Decimals with few digits, so that fractions stay small; mu wd < 1 in all pairs.
mus = st.sampled_from((0.0, 1e-4, 0.05, 0.3, 1.0))
decays = st.sampled_from((0.0, 1e-5, 5e-4, 0.1, 0.9))
momenta = st.sampled_from((0.0, 0.5, 0.9, 0.99))

Pair = tuple[Fraction, Fraction]


def torch_update(pair: Pair, mu: float, wd: float, momentum: float, nesterov: bool) -> Pair:
    """What PyTorch's documentation of SGD says, with gradient 0 and dampening 0."""
    rate, decay, beta = (Fraction(repr(number)) for number in (mu, wd, momentum))
    weight, buffer = pair
    gradient = decay * weight
    buffer = beta * buffer + gradient
    gradient = gradient + beta * buffer if nesterov else buffer
    return weight - rate * gradient, buffer


def columns(mu: float, wd: float, momentum: float, nesterov: bool) -> tuple[Fraction, ...]:
    """a, b, c, d by applying the rule to (1, 0) and (0, 1)."""
    zero, one = Fraction(0), Fraction(1)
    a, c = torch_update((one, zero), mu, wd, momentum, nesterov)
    b, d = torch_update((zero, one), mu, wd, momentum, nesterov)
    return a, b, c, d


@given(mus, decays, momenta, st.booleans())
def test_an_update_is_what_torch_does(
    mu: float, wd: float, momentum: float, nesterov: bool
) -> None:
    with precisely():
        one = update(mu, wd, momentum, nesterov=nesterov)
    assert tuple(map(Fraction, (one.a, one.b, one.c, one.d))) == columns(mu, wd, momentum, nesterov)


@given(mus, decays, momenta, st.booleans(), st.integers(0, 40))
def test_a_power_is_that_many_updates(
    mu: float, wd: float, momentum: float, nesterov: bool, count: int
) -> None:
    with precisely():
        power = update(mu, wd, momentum, nesterov=nesterov).power(count)
        pair = (Fraction(3), Fraction(-2))
        for _ in range(count):
            pair = torch_update(pair, mu, wd, momentum, nesterov)
        for found, expected in zip(
            (3 * power.a - 2 * power.b, 3 * power.c - 2 * power.d), pair, strict=True
        ):
            assert abs(Fraction(found) - expected) <= Fraction(1, 10**36)


def test_the_later_update_stands_on_the_left() -> None:
    with precisely():
        first = update(0.3, 0.1, 0.9, nesterov=False)
        second = update(0.05, 0.9, 0.9, nesterov=False)
        both = second.times(first)
        row = first.after(second.after(IDENTITY))
    expected = dense(second) @ dense(first)
    np.testing.assert_allclose(dense(both), expected, rtol=1e-14)
    np.testing.assert_allclose([float(x) for x in row], expected[0], rtol=1e-14)


@given(mus, decays, momenta, st.booleans())
def test_oscillates_where_numpy_finds_complex_eigenvalues(
    mu: float, wd: float, momentum: float, nesterov: bool
) -> None:
    with precisely():
        one = update(mu, wd, momentum, nesterov=nesterov)
        eigenvalues = np.linalg.eigvals(dense(one))
        assert one.oscillates == (abs(eigenvalues.imag).max() > 1e-7)
    # As the search for n* takes for granted: none grows, and none is below 0.
    assert abs(eigenvalues).max() <= 1 + 1e-12
    assert one.oscillates or eigenvalues.real.min() >= 0


def test_there_are_both_kinds() -> None:
    with precisely():
        assert update(1.0, 0.1, 0.9, nesterov=False).oscillates
        assert not update(1.0, 1e-4, 0.9, nesterov=False).oscillates


def test_a_small_decay_keeps_its_digits() -> None:
    # (1 - 1e-12)^(10^12) in floating point is off from the fifth digit on.
    with precisely():
        power = update(1e-6, 1e-6, 0.0, nesterov=False).power(10**12)
        expected = (10**12 * (1 - Decimal("1e-12")).ln()).exp()
        assert abs(power.a / expected - 1) < Decimal("1e-25")


@pytest.mark.parametrize(
    ("number", "text"), [(0.1, "0.1"), (5e-4, "0.0005"), (1, "1"), (1e-320, "1e-320")]
)
def test_a_number_is_taken_as_it_is_written(number: float, text: str) -> None:
    assert exactly(number) == Decimal(text)
    assert exactly(np.float64(number)) == Decimal(text)


def test_digits_are_set_within_and_only_there() -> None:
    before = getcontext().prec
    with precisely():
        assert getcontext().prec == DIGITS
    assert getcontext().prec == before


def dense(one: Transfer) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([[float(one.a), float(one.b)], [float(one.c), float(one.d)]])
