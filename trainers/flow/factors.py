"""A matrix as a product of factors, W = W_L ... W_1: gradients, balanced starts, invariants."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Matrix: TypeAlias = NDArray[np.float64]


def product(factors: Sequence[Matrix]) -> Matrix:
    """W_L ... W_1 of (W_1, ..., W_L)."""
    return reduce(lambda below, factor: factor @ below, factors[1:], factors[0])


def gradients(factors: Sequence[Matrix], gradient: Matrix) -> list[Matrix]:
    """That of a loss with respect to each factor, from that with respect to the product.

    For factor j it is A_j^T G B_j^T with A_j = W_L ... W_{j+1}, B_j = W_{j-1} ... W_1.
    """
    below = [factors[0]]
    for factor in factors[1:-1]:
        below.append(factor @ below[-1])
    found = []
    for j in range(len(factors) - 1, 0, -1):
        found.append(gradient @ below[j - 1].T)
        gradient = factors[j].T @ gradient
    return [gradient, *reversed(found)]


def balanced(weight: Matrix, depth: int, rank: int | None = None) -> list[Matrix]:
    """Factors of `weight` with W_{j+1}^T W_{j+1} = W_j W_j^T, from its singular values.

    Args:
        weight: (rows, columns).
        depth: L, at least 2.
        rank: how many singular values to keep, the width between the factors; None for all.
    """
    left, sigma, right = np.linalg.svd(weight, full_matrices=False)
    root = np.diag(sigma[:rank] ** (1 / depth))
    return [root @ right[:rank], *[root] * (depth - 2), left[:, :rank] @ root]


def imbalance(factors: Sequence[Matrix]) -> float:
    """The largest ||W_{j+1}^T W_{j+1} - W_j W_j^T||_F; gradient flow keeps each of these matrices.

    Arora, Cohen & Hazan, "On the optimization of deep networks", 2018, Theorem 1.
    """
    return max(
        float(np.linalg.norm(upper.T @ upper - lower @ lower.T))
        for lower, upper in pairwise(factors)
    )
