"""Singular values and vectors of a batch of matrices, one decomposition for every penalty."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Decomposition:
    """W = left diag(sigma) right^T for each matrix of a batch, k = min(m, n).

    Attributes:
        left: left singular vectors, shape (batch, m, k), in W's dtype. What belongs to a sigma of 0
            is finite, but need not be orthonormal.
        sigma: singular values in no particular order, shape (batch, k), float64. Those that W's
            dtype does not resolve are 0.
        right: right singular vectors, shape (batch, n, k), in W's dtype.

    Where W has a NaN or an infinite entry, sigma and what is composed are NaN.
    """

    left: Tensor
    sigma: Tensor
    right: Tensor

    def compose(self, values: Tensor) -> Tensor:
        """Left diag(values) right^T, shape (batch, m, n), for values of shape (batch, k)."""
        return (self.left * values[:, None, :].to(self.left.dtype)) @ self.right.mT


def decompose(W: Tensor) -> Decomposition:  # noqa: N803 - the papers' letter
    """Decompose a batch of matrices, each on its own: a batch gives what its matrices give.

    float32 goes through the Gram matrix in float64, which knows the singular vectors of
    sigma = r sigma_1 to about 1e-16 / r^2. LAPACK's SVD in float32 knows them to 6e-8 / r, which is
    worse for every r > 2e-9, and takes 0.9 of the time for 100 x 100 (`python -m benchmarks
    penalties`). float64 goes through LAPACK's SVD.

    No less will do: late in completion most directions are at r = 1e-5, and a polar factor that
    fades below that gives other results (Adam, ratio, depth 1, step 12000: half the error). Matrix
    products alone (Newton-Schulz and its kin) need some 40 to get there, which take longer here.

    Singular values of at most eps sigma_1 count as 0, eps = 2 u the spacing of W's dtype at 1.
    Rounding W's entries moves them by about u (largest row norm + largest column norm) (Bandeira &
    van Handel 2016), which is at most 2 u sigma_1: below it they say how W was rounded.

    A matrix with a NaN or an infinite entry has no decomposition. LAPACK would refuse the whole
    batch for it; here its own results are NaN and the others' untouched.

    Args:
        W: shape (batch, m, n), float32 or float64, on any device.
    """
    finite, safe = _finite(W)
    wide = W.shape[-2] < W.shape[-1]
    tall = safe.mT if wide else safe
    left, sigma, right = _direct(tall) if W.dtype == torch.float64 else _through_gram(tall)
    resolution = torch.finfo(W.dtype).eps * sigma.amax(-1, keepdim=True)
    sigma = torch.where(sigma > resolution, sigma, 0.0)
    sigma = torch.where(finite[:, None], sigma, torch.nan)
    # For p = 1 the derivative does not depend on sigma: the vectors have to say it too.
    left = torch.where(finite[:, None, None], left.to(W.dtype), torch.nan)
    right = right.to(W.dtype)
    return Decomposition(right, sigma, left) if wide else Decomposition(left, sigma, right)


@torch.no_grad()
def spectra(W: Tensor) -> Tensor:  # noqa: N803 - the papers' letter
    """Singular values, descending, shape (batch, k), in W's dtype; nothing is counted as 0.

    For diagnostics, in half the time of `decompose`. NaN where W is not finite.

    Args:
        W: shape (batch, m, n), float32 or float64.
    """
    finite, safe = _finite(W)
    return torch.where(finite[:, None], torch.linalg.svdvals(safe), torch.nan)


def _finite(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Which matrices are finite, shape (batch,); and the batch, with zeros for the others."""
    # 0 times infinity is NaN, too; isfinite and all would take three times as long.
    finite = (matrices * 0).sum((-2, -1)) == 0
    return finite, torch.where(finite[:, None, None], matrices, 0.0)


def _direct(tall: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    left, sigma, right = torch.linalg.svd(tall, full_matrices=False)
    return left, sigma, right.mT


def _through_gram(tall: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    exact = tall.double()
    _, right = torch.linalg.eigh(exact.mT @ exact)
    # The eigenvalues know sigma^2 to u sigma_1^2, the products W v know sigma itself.
    products = exact @ right
    # float64 holds the squares of float32 numbers; vector_norm would take three times as long.
    sigma = products.square().sum(-2).sqrt()
    return products / torch.where(sigma > 0, sigma, 1.0)[:, None, :], sigma, right
