"""Sums along the long side of a block whose rounding does not grow with its length.

BLAS and `einsum` add the terms of a sum one after the other, or some hundreds at a time. Of equal
signs, n of them may be off by n / 2 unit round-offs: a constant row of 4 million was off by 30,000
in a dot product, and by a million in `einsum`. Here pieces are added so, and then in pairs (Higham,
Accuracy and Stability of Numerical Algorithms, 2nd ed., 4.2). `torchsum` does it for PyTorch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A piece is this and the order long: (128 + k / 2) units, and a few for the pairs, are within
# `entries.rounding`.
PIECE = 256

# From this order on one product of the whole block will do. OpenBLAS adds 256 to 512 terms one
# after the other, and then those sums: of the 2^15 columns that a block has (2^22 elements, of the
# order 128) that makes 32 to 64 additions more than the 256 + k units have room for.
SMALL_ORDER = 128


def long_product(block: Floats, out: Floats) -> None:
    """Put block @ block.T, shape (k, k), into `out`.

    Args:
        block: shape (k, p).
        out: overwritten.
    """
    if len(block) >= SMALL_ORDER:
        # NumPy hands a product with one's own transpose to syrk: half the work of a product.
        np.matmul(block, block.T, out=out)
        return
    parts, rest = _pieces(block)
    np.matmul(rest, rest.T, out=out)
    if len(parts):
        out += _added(np.matmul(parts, parts.transpose(0, 2, 1)))


def long_squares(block: Floats) -> Floats:
    """The sum of squares of each line of the small side, shape (k,)."""
    parts, rest = _pieces(block)
    squares: Floats = np.einsum("ij,ij->i", rest, rest)
    if len(parts):
        squares += _added(np.einsum("pij,pij->pi", parts, parts))
    return squares


def _pieces(block: Floats) -> tuple[Floats, Floats]:
    """Views of its pieces, shape (count, k, length), and of the columns that are left."""
    order, columns = block.shape
    length = PIECE + order
    whole = columns - columns % length
    return block[:, :whole].reshape(order, -1, length).transpose(1, 0, 2), block[:, whole:]


def _added(terms: Floats) -> Floats:
    """The sum along the first axis, of one term at least, in pairs; `terms` is overwritten."""
    while (count := len(terms)) > 1:
        half = count // 2
        terms[:half] += terms[count - half :]
        terms = terms[: count - half]
    total: Floats = terms[0]
    return total
