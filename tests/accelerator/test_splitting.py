"""Products in float32 that are exact, against integers and float64; and the rates that decide."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankscope.accelerator import rates as module
from rankscope.accelerator.lanes import full_float32, lane_of
from rankscope.accelerator.rates import MOST_SLICES, Rates, rates_of
from rankscope.accelerator.reading import BLOCK_ELEMENTS
from rankscope.accelerator.splitting import (
    SLICE_BITS,
    SLICE_LENGTH,
    add_exact_products,
)
from rankscope.solvers import torchsum
from rankscope.solvers.torchsum import PIECE, SMALL_ORDER, add_product
from tests.matrix import Array


def lower(order: int) -> torch.Tensor:
    return torch.zeros(order, order, dtype=torch.float64)


def split(block: Array, most: int = 8) -> torch.Tensor | None:
    gram = lower(len(block))
    return gram if add_exact_products(gram, torch.from_numpy(block), most) else None


class TestExact:
    def test_the_constants_leave_no_room_for_rounding(self) -> None:
        assert 2**SLICE_BITS * 2**SLICE_BITS * SLICE_LENGTH <= 2**24
        # Nor in float64 for the products of one weight along the longest block.
        assert 2**SLICE_BITS * 2**SLICE_BITS * MOST_SLICES * BLOCK_ELEMENTS <= 2**53

    @given(
        order=st.integers(1, 6), length=st.integers(1, 40), bits=st.integers(1, 20),
        seed=st.integers(0, 2**32 - 1),
    )  # fmt: skip
    def test_of_integers_to_the_last_bit(
        self, order: int, length: int, bits: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        whole = rng.integers(-(2**bits), 2**bits + 1, (order, length))
        found = split(whole.astype(np.float64), 4)
        assert found is not None
        assert np.array_equal(np.tril(found.numpy()).astype(np.int64), np.tril(whole @ whole.T))

    def test_of_the_largest_slices_along_a_whole_piece(self) -> None:
        block = np.full((3, SLICE_LENGTH), 1.0 - 2.0**-SLICE_BITS)
        block[1] = 1.0  # its slice is 64 of 128, with a line's power above it
        found = split(block)
        assert found is not None
        assert np.array_equal(np.tril(found.numpy()), np.tril(block @ block.T))

    @pytest.mark.parametrize("value", [1 / 3, 0.7, 0.611, 1 - 2.0**-20])
    @pytest.mark.parametrize("length", [SLICE_LENGTH, 300 * SLICE_LENGTH + 5])
    def test_no_product_of_low_order_is_lost(self, value: float, length: int) -> None:
        """Rounded are the sums of the weights alone: as many units, however long the lines."""
        block = np.full((2, length), value)
        block[1] = -value
        found = split(block)
        assert found is not None
        exact = Fraction(value) ** 2 * length
        for one, sign in ((found[0, 0], 1), (found[1, 0], -1), (found[1, 1], 1)):
            assert abs(Fraction(float(one)) / exact - sign) <= 4 * Fraction(1, 2**53)

    def test_blocks_of_other_powers_add_up(self) -> None:
        whole = np.random.default_rng(0).integers(-500, 501, (4, 90))
        gram = lower(4)
        for shift in (0, 13, -3):
            block = torch.from_numpy(whole * 2.0**shift)
            assert add_exact_products(gram, block, 4)
        expected = np.tril(whole @ whole.T) * (1 + 2.0**26 + 2.0**-6)
        assert np.array_equal(np.tril(gram.numpy()), expected)

    @pytest.mark.parametrize(
        ("dtype", "enough"),
        [(ml_dtypes.float8_e5m2, 4), (ml_dtypes.bfloat16, 4), (np.float16, 4), (np.float32, 6)],
    )
    def test_gaussian_weights_of_every_type(self, dtype: type, enough: int) -> None:
        rng = np.random.default_rng(0)
        block = rng.standard_normal((48, 3000)).astype(dtype).astype(np.float64)
        found = split(block, enough)
        assert found is not None
        exact = np.tril(block.astype(np.longdouble) @ block.T.astype(np.longdouble))
        error = np.abs(np.tril(found.numpy()) - exact).max()
        # Of float64's additions alone, of which `entries.rounding` allows 128 units.
        assert error <= 16 * 2.0**-53 * np.abs(exact).max()

    def test_lines_of_very_different_size(self) -> None:
        rng = np.random.default_rng(0)
        block = rng.standard_normal((5, 300)).astype(np.float32).astype(np.float64)
        block *= np.array([[1e-38], [1.0], [1e38], [0.0], [1e-20]])
        found = split(block)
        assert found is not None
        np.testing.assert_allclose(np.tril(found.numpy()), np.tril(block @ block.T), rtol=1e-12)


class TestWhatIsNotSplit:
    def test_an_entry_too_small_for_its_line(self) -> None:
        block = np.ones((2, 8))
        block[0, 3] = 1e-10
        assert split(block, 4) is None
        assert split(block, 8) is not None

    def test_the_sum_is_left_as_it_was(self) -> None:
        gram = lower(2) + 7
        assert not add_exact_products(gram, torch.tensor([[1.0, 1e-10], [1.0, 1.0]]).double(), 2)
        assert torch.equal(gram, lower(2) + 7)

    def test_what_is_too_small_to_matter_is(self) -> None:
        block = np.ones((2, 8))
        block[0, 3] = 1e-40
        found = split(block, 2)
        assert found is not None

    def test_what_is_not_finite(self) -> None:
        for bad in (np.nan, np.inf):
            assert split(np.array([[1.0, bad], [1.0, 2.0]])) is None


@pytest.mark.parametrize("order", [3, SMALL_ORDER + 1])
@pytest.mark.parametrize("length", [1, PIECE, 3 * PIECE + 5])
def test_pieces_of_float64_add_up(order: int, length: int) -> None:
    block = np.random.default_rng(0).standard_normal((order, length))
    gram = lower(order) + 1
    add_product(gram, torch.from_numpy(block))
    expected = np.tril(block @ block.T + 1)
    np.testing.assert_allclose(np.tril(gram.numpy()), expected, rtol=1e-11, atol=1e-11)


def test_a_constant_is_not_added_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a product's order of addition, here one after the other, as a card may do it."""

    def one_by_one(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(left), left.shape[1], right.shape[2], dtype=left.dtype)
        for i in range(left.shape[2]):
            total += left[:, :, i, None] * right[:, None, i, :]
        return total

    monkeypatch.setattr(torch, "bmm", one_by_one)
    value = float(np.float32(0.3))
    block = torch.full((1, 100 * PIECE), value, dtype=torch.float64)
    gram = lower(1)
    add_product(gram, block)
    units = abs(float(gram) / (value * value * block.shape[1]) - 1) / 2.0**-53
    assert units <= PIECE / 2 + 100 / 2
    plain = one_by_one(block[None], block.T[None])
    assert abs(float(plain) / (value * value * block.shape[1]) - 1) / 2.0**-53 > 256


class TestRates:
    @pytest.mark.parametrize(
        ("single", "expected"),
        [(0.5, 0), (1.0, 0), (2.0, 1), (16.0, 2), (32.0, 4), (64.0, 5), (1e6, MOST_SLICES)],
    )
    def test_the_faster_float32_the_more_slices(self, single: float, expected: int) -> None:
        assert Rates(1.0, single, 1.0, exact=True).slices == expected
        assert Rates(1.0, single, 1.0, exact=False).slices == 0

    def test_are_measured_once(self, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
        rates_of.cache_clear()
        found = rates_of(device)
        assert min(found.double, found.single, found.eigenvalues) > 1e6
        assert found.exact
        monkeypatch.setattr(module, "lane_of", lane_forbidden)
        assert rates_of(device) is found
        rates_of.cache_clear()

    def test_a_card_that_rounds_is_found_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = torch.Tensor.__matmul__

        def rounds(left: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            made = right(left, other)
            return made.bfloat16().to(made.dtype) if made.dtype == torch.float32 else made

        monkeypatch.setattr(torch.Tensor, "__matmul__", rounds)
        rates_of.cache_clear()
        assert not rates_of("cpu").exact
        rates_of.cache_clear()


def lane_forbidden(name: str) -> None:
    raise AssertionError(f"{name} was measured again")


def test_float32_is_float32_while_it_matters() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with full_float32():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("make", [np.ascontiguousarray, np.asfortranarray, lambda a: a[::-1]])
@pytest.mark.parametrize(
    "dtype", ["<f8", ">f8", "<f4", ">f4", "<f2", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]
)
def test_a_lane_takes_arrays_as_they_are(
    device: str, dtype: type | str, make: Callable[[Array], Array]
) -> None:
    array = make(np.arange(-6, 6).reshape(3, 4).astype(dtype))
    lane = lane_of(device)
    there = lane.sent(lane.staged(array))()
    assert there.device == torch.device(device)
    assert np.array_equal(there.double().cpu().numpy(), array.astype(np.float64))
    lane.finish()
    lane.release()


def test_panels_cover_every_line() -> None:
    assert list(torchsum.panels(2 * torchsum.PANEL + 1))[-1] == (2048, 2049)
