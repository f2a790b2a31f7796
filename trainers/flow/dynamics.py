"""How fast the singular values of a product of factors move, as theory predicts.

vec stacks columns, so that vec(A X B) = (B^T (x) A) vec(X). Factors are (W_1, ..., W_L).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainers.flow.factors import Matrix, product


def projected(weight: Matrix, velocity: Matrix) -> Matrix:
    """u_r^T (dW/dt) v_r: the rate of each singular value, (min(rows, columns),), descending order.

    That of a singular value that differs from all others, and from 0.
    """
    left, _, right = np.linalg.svd(weight, full_matrices=False)
    rates: Matrix = np.einsum("ir,ij,rj->r", left, velocity, right)
    return rates


def flow_rates(weight: Matrix, gradient: Matrix, depth: int) -> Matrix:
    """sigma'_r = -L (sigma_r^2)^(1 - 1/L) <G, u_r v_r^T> under gradient flow on balanced factors.

    Arora, Cohen, Hu & Luo, "Implicit regularization in deep matrix factorization", 2019, Theorem 3;
    P2's Eq. 3 and P3's Eq. 16.

    Args:
        weight: W, (rows, columns).
        gradient: G, of the loss with respect to W.
        depth: L, at least 1.
    """
    sigma = np.linalg.svd(weight, compute_uv=False)
    rates: Matrix = -depth * sigma ** (2 - 2 / depth) * projected(weight, gradient)
    return rates


def ratio_rates(weight: Matrix, strength: float, depth: int) -> Matrix:
    """What a penalty lambda ||W||_* / ||W||_F adds to these rates.

    -(lambda L / F) sigma_r^(2 - 2/L) (1 - (N / F^2) sigma_r) with F and N the Frobenius and nuclear
    norms: P2's Theorem 2, with the factor, the exponent and the bracket that follow from its own
    Eq. 10 and the gradient (1 / F) (U V^T - (N / F^2) W) of the ratio.

    Args:
        weight: W, (rows, columns), of full rank.
        strength: lambda.
        depth: L, at least 1.
    """
    sigma = np.linalg.svd(weight, compute_uv=False)
    frobenius, nuclear = float(np.linalg.norm(sigma)), float(sigma.sum())
    slope = (1 - nuclear / frobenius**2 * sigma) / frobenius
    rates: Matrix = -strength * depth * sigma ** (2 - 2 / depth) * slope
    return rates


def ratio_gradient(weight: Matrix) -> Matrix:
    """Of ||W||_* / ||W||_F where W has full rank: (1 / F) (U V^T - (N / F^2) W)."""
    left, sigma, right = np.linalg.svd(weight, full_matrices=False)
    frobenius, nuclear = float(np.linalg.norm(sigma)), float(sigma.sum())
    gradient: Matrix = (left @ right - nuclear / frobenius**2 * weight) / frobenius
    return gradient


def preconditioner(factors: Sequence[Matrix], scales: Sequence[Matrix]) -> Matrix:
    """P = sum_j (B_j^T (x) A_j) G_j (B_j (x) A_j^T), with which vec(dW/dt) = -P vec(G).

    A_j = W_L ... W_{j+1}, B_j = W_{j-1} ... W_1, G_j = diag(vec(S_j)), for updates
    dW_j/dt = - S_j * (dl/dW_j) entry by entry. With S_j = 1 that is gradient flow, balanced or not;
    with Adam's 1 / (sqrt(v) + eps) it is Adam without momentum, where P2's Eqs. 6 and 18 move the
    G_j outside. Symmetric, and positive semidefinite as a sum of M G_j M^T.

    Args:
        factors: W_1, ..., W_L.
        scales: S_j, of the factors' shapes, not negative.

    Returns:
        (rows columns, rows columns), columns stacked.
    """
    rows, columns = len(factors[-1]), factors[0].shape[1]
    total = np.zeros((rows * columns, rows * columns))
    for j, scale in enumerate(scales):
        above = product(factors[j + 1 :]) if j + 1 < len(factors) else np.eye(rows)
        below = product(factors[:j]) if j else np.eye(columns)
        spread = np.kron(below.T, above)
        total += spread * scale.ravel(order="F") @ spread.T
    return total


def preconditioned(matrix: Matrix, gradient: Matrix) -> Matrix:
    """dW/dt = -unvec(P vec(G)), (rows, columns)."""
    velocity: Matrix = -(matrix @ gradient.ravel(order="F")).reshape(gradient.shape, order="F")
    return velocity
