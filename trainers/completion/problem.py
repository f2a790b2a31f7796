"""A matrix to complete: P2's random low-rank targets, of which some entries are observed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rankscope.errors import UsageError


@dataclass(frozen=True, slots=True)
class Problem:
    """A target and which of its entries are known.

    Attributes:
        target: W*, shape (m, n), float64.
        observed: which entries are known, shape (m, n), bool; at least one is not.
        rank: that of the target.
    """

    target: Tensor
    observed: Tensor
    rank: int


def draw(
    shape: tuple[int, int], rank: int, observed: int, seed: int, *, scaled: bool = True
) -> Problem:
    """W* = U V^T with standard normal U, shape (m, rank), and V, shape (n, rank).

    The observed entries are drawn uniformly without repetition (P2, appendix A.1). Neither depends
    on anything but the arguments, and fewer observed entries are a part of more.

    Args:
        shape: (m, n).
        rank: of W*, at most the smaller side.
        observed: how many entries are known, at least 1 and not all.
        seed: of both draws.
        scaled: whether W* is scaled to ||W*||_F = sqrt(m n), which is n for a square one: the mean
            square of its entries is then 1, and that of an error is relative.

    Raises:
        UsageError: the rank or the number of entries does not fit the shape.
    """
    rows, columns = shape
    if not 1 <= rank <= min(shape):
        raise UsageError(f"rank is {rank}, expected 1 to {min(shape)} for {rows}x{columns}")
    if not 1 <= observed < rows * columns:
        raise UsageError(
            f"observed is {observed}, expected 1 to {rows * columns - 1} of {rows}x{columns} "
            "entries: one has to be left to predict"
        )
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(columns, rank, generator=generator, dtype=torch.float64)
    known = torch.zeros(rows * columns, dtype=torch.bool)
    known[torch.randperm(rows * columns, generator=generator)[:observed]] = True
    target = left @ right.T
    if scaled:
        target *= math.sqrt(rows * columns) / torch.linalg.matrix_norm(target)
    return Problem(target, known.view(rows, columns), rank)
