"""Gram matrices of PyTorch's tensors, summed so that their rounding is that of NumPy's."""

from __future__ import annotations

from collections.abc import Iterator

import torch

# As few rows as are worth a product of their own: of a symmetric result only the lower half is
# made, in so many columns at a time.
PANEL = 1024

# Terms of an entry that are added in one go; see `add_product`. From the order on at which the
# pieces are long enough for m / 2048 of them, they are products of their own; below, a batch.
PIECE = 256
SMALL_ORDER = 768


def add_product(gram: torch.Tensor, block: torch.Tensor) -> None:
    """Add block @ block.T to the lower half of `gram`, in float64.

    A card's library may add all the terms of an entry one after the other. Of equal signs, n of
    them are then off by up to n / 2 unit round-offs, so that they are added in pieces: (128 + k /
    2) units for a piece, and m / 2048 for the pieces, are within `entries.rounding`.

    Args:
        gram: shape (k, k).
        block: float64, shape (k, p).
    """
    order, length = block.shape
    piece = PIECE + order
    if order < SMALL_ORDER:
        piece = PIECE
        whole = length - length % piece
        parts = block[:, :whole].reshape(order, -1, piece).transpose(0, 1)
        gram.add_(torch.bmm(parts, parts.mT).sum(dim=0))
        block = block[:, whole:]
    for first in range(0, block.shape[1], piece):
        part = block[:, first : first + piece]
        for start, stop in panels(order):
            gram[start:, start:stop].addmm_(part[start:], part[start:stop].T)


def panels(order: int) -> Iterator[tuple[int, int]]:
    """Start and stop of the columns of a lower half that are made at once."""
    for start in range(0, order, PANEL):
        yield start, min(start + PANEL, order)
