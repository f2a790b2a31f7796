"""A Gram matrix in float64 from products in float32 that are exact.

For a card that multiplies float32 many times faster than float64. Each entry is written as a sum
of slices, integers of few bits on a grid that its line shares; a product of two slices along a
short piece is a sum of integers below 2^24, which float32 adds without rounding in any order. Those
of one weight are then added in float64, exactly too, and the few sums with their weights
(error-free transformation: Ozaki, Ogita, Oishi & Rump 2012, doi:10.1007/s11075-011-9478-1).

What is left behind the last slice decides whether a block is split at all: it must be zero, or too
small to move an eigenvalue by more than its rounding in float64 does. So the resolution is that of
the Gram route, and what a spectrum says of itself does not hang on the way it was made.
"""

from __future__ import annotations

import torch

from rankscope.solvers.torchsum import panels

# 2 * SLICE_BITS + log2(SLICE_LENGTH) is at most 24, the bits of float32's significand.
SLICE_BITS = 7
SLICE_LENGTH = 1024

# How far what is left out may carry an eigenvalue, in unit round-offs of the largest; rounding
# has k + 128 of them already (`entries.rounding`).
LEFT_OUT_UNITS = 2.0


def add_exact_products(gram: torch.Tensor, block: torch.Tensor, most: int) -> bool:
    """As `add_product` from float32 products, where `most` slices make up the block.

    Returns:
        Whether they do; `gram` is as it was otherwise.
    """
    power = _powers(block)
    slices = _slices(block / power, power, most)
    if slices is None:
        return False
    for start, stop in panels(len(block)):
        product = _product(slices, start, stop).mul_(power[start:]).mul_(power[start:stop].T)
        gram[start:, start:stop].add_(product)
    return True


def _product(slices: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Of lines made of slices, columns `start` to `stop` of the product, rows from `start` on.

    Added weight by weight, for low-order products would be lost one by one in a sum of all. Those
    of one weight are integers: of p columns and S slices none of their sums is beyond S p 2^14,
    which is exact in float64 for S p <= 2^39 (S is 8 at most, and no block has 2^36 columns). Then
    the few sums are added, the smallest first: all rounding there is, whatever p.
    """
    count, order, columns = slices.shape
    total = torch.zeros(order - start, stop - start, dtype=torch.float64, device=slices.device)
    for place in reversed(range(2 * count - 1)):
        whole = torch.zeros_like(total)
        for first in range(0, columns, SLICE_LENGTH):
            piece = slices[:, start:, first : first + SLICE_LENGTH]
            for one in range(max(0, place - count + 1), min(place, count - 1) + 1):
                whole.add_(piece[one] @ piece[place - one, : stop - start].T)
        total.add_(whole, alpha=2.0 ** (-SLICE_BITS * (place + 2)))
    return total


def _powers(block: torch.Tensor) -> torch.Tensor:
    """For each line the power of two just above its largest entry, shape (k, 1)."""
    largest = block.abs().amax(dim=1, keepdim=True)
    # The quotient is 2^exponent exactly; a function of the exponent might round.
    quotient = largest / torch.frexp(largest).mantissa
    return torch.where(largest > 0, quotient, torch.ones_like(largest))


def _slices(lines: torch.Tensor, power: torch.Tensor, most: int) -> torch.Tensor | None:
    """The slices of lines within [-1, 1], float32, shape (count, k, p); None if `most` are few."""
    order = len(lines)
    allowed = (LEFT_OUT_UNITS / 2.0 * 2.0**-53) ** 2 / order * _squares(lines, power)
    left = lines
    found: list[torch.Tensor] = []
    while len(found) < most:
        scaled = left * 2.0**SLICE_BITS
        whole = scaled.round()
        found.append(whole.float())
        left = scaled - whole
        if _squares(left, power) * 2.0 ** (-2 * SLICE_BITS * len(found)) <= allowed:
            return torch.stack(found)
    return None


def _squares(lines: torch.Tensor, power: torch.Tensor) -> float:
    """The sum of squares of the lines times their powers."""
    return float(((lines * lines).sum(dim=1, keepdim=True) * power * power).sum())
