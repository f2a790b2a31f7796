"""The proof of P1's Lemma 3.2 checked on the weights of one pair of steps.

n updates leave W_T = a W_{T-n} + b W_{T-n-1} + U with rank(U) <= K = m_l * samples
(`rankscope.bounds`), so that W_T is within ||W_T - U|| of a matrix of rank K. Both are read off
the stored weights: the numerical rank of U against K, and

    lhs = (sum over i > K of sigma_i(W_T)^2)^1/2 / ||W_T||  <=  rhs = ||W_T - U|| / ||W_T||

in the Frobenius norm. For plain SGD b = 0 and rhs is the lemma's prod(1 - mu_j wd_j)
||W_{T-n}|| / ||W_T||. With momentum a and b are large and of opposite sign, and the norm of the
sum is meant, which the triangle inequality's sum of norms would hide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rankscope.bounds.dynamics import Memory
from rankscope.combination import Combination
from rankscope.dtypes import FLOATS
from rankscope.records import Matrix, Spectrum, Unmeasured
from rankscope.resolution import count_above
from rankscope.solvers import solve
from rankscope.solvers.entries import EntryNorms, NonFinite, oriented_blocks, scale_of


@dataclass(frozen=True, slots=True)
class Certificate:
    """What one matrix says at one pair of steps.

    Attributes:
        allowed_rank: K = m_l * samples.
        rank: how many singular values of U lie above the threshold.
        sigma_next: sigma_{K+1}(U), which the theorem says is 0.
        threshold: the spectral norm that rounding may have; see `rounding_noise`.
        contrast: what weight decay took from W_T's sigma_{K+1} in these steps, over the
            threshold. Below 1 the pair would hold with no decay recorded at all.
        lhs: the share of W_T's norm beyond its first K singular values; None for a zero matrix.
        rhs: the lemma's bound on it; likewise.
        holds: rank <= K. Then lhs <= rhs follows, up to the same rounding; the converse does not.
            None where it is not, but roundings that went the same way at every update could be
            why: sigma_next is below `possible`.
        possible: the spectral norm that such rounding may have.
    """

    allowed_rank: int
    rank: int
    sigma_next: float
    threshold: float
    contrast: float
    lhs: float | None
    rhs: float | None
    holds: bool | None
    possible: float

    @property
    def margin(self) -> float:
        """sigma_next / threshold: above 1 the rank is too large."""
        return self.sigma_next / self.threshold

    @property
    def slack(self) -> float | None:
        """What the bound leaves: rhs - lhs."""
        return None if self.lhs is None or self.rhs is None else self.rhs - self.lhs


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a matrix at the steps that a certificate is about.

    Attributes:
        now: W_T.
        spectrum: that of `now`, by the direct route.
        before: W_{T-n}.
        previous: W_{T-n-1}; None where `Memory.previous` is 0.
    """

    now: Matrix
    spectrum: Spectrum
    before: Matrix
    previous: Matrix | None = None


def certificate(
    weights: Weights, memory: Memory, steps: int, inputs: int
) -> Certificate | Unmeasured:
    """The certificate of one matrix, K below its small side.

    Args:
        weights: of one shape.
        memory: what the updates between them leave.
        steps: n.
        inputs: m_l.

    Returns:
        Why there is none, where an entry is not finite.
    """
    kept = [(memory.current, weights.before)]
    if weights.previous is not None:
        kept.append((memory.previous, weights.previous))
    gone = ((1.0, weights.now), *((-factor, matrix) for factor, matrix in kept))
    update = solve(Combination(gone), "direct")
    if isinstance(update, Unmeasured):
        return update
    try:
        left, lines = _norms(Combination(tuple(kept)))[0], _norms(weights.before)[1]
    except NonFinite:
        return Unmeasured("nonfinite", "its norm is beyond the range of float64")
    allowed = inputs * memory.samples
    resolved = update.resolution * float(update.sigma[0])
    likely, possible = rounding_noise(weights.spectrum, lines, memory, steps)
    threshold, possible = likely + resolved, possible + resolved
    rank, following = count_above(update.sigma, threshold), float(update.sigma[allowed])
    sigma, norm = weights.spectrum.sigma, weights.spectrum.frobenius_norm
    decay = abs(1 - memory.current - memory.previous)
    lhs = rhs = None
    if norm > 0:
        lhs, rhs = float(np.linalg.norm(sigma[allowed:] / norm)), left / norm
    return Certificate(
        allowed_rank=allowed,
        rank=rank,
        sigma_next=following,
        threshold=threshold,
        contrast=decay * float(sigma[allowed]) / threshold,
        lhs=lhs,
        rhs=rhs,
        holds=True if rank <= allowed else False if following > possible else None,
        possible=possible,
    )


def rounding_noise(
    spectrum: Spectrum, lines: float, memory: Memory, steps: int
) -> tuple[float, float]:
    """The spectral norm that rounding has likely left in U, and the largest that it may have.

    Each update rounds every weight to its stored type: by at most u |w|, or half the smallest
    number where w is subnormal. As in `metrics.numerical`, the spectral norm of such independent
    entries is at most u (largest row norm + largest column norm). n updates add up as the root of
    n. W_{T-n} and W_{T-n-1} enter with a and b: the momentum is recovered from a difference whose
    rounding b multiplies, and weights stored in a narrower type than they were trained in were
    rounded then.

    Where an update is no larger than the distance between two numbers, roundings go the same way
    step after step. What decay takes may be swallowed altogether, and is counted. So may the
    gradients be, where the same batch comes at every step: then n updates add up as n, not as its
    root, which is the second number. Random batches stay far below the first.

    The rounding of the gradient, of the momentum and of the hyperparameters is not counted: an
    update is small beside the weights. Measured on 400 bursts of 16 to 50 steps of MLPs and
    convolutional networks on the digits (random batches, plain, heavy ball and Nesterov with
    momentum 0.5 to 0.99, B 2 to 30, step sizes 1e-6 to 1, at the start and after up to 2000
    steps), sigma_{K+1} was at most 0.27 of the threshold in float32 and 0.40 in float64.

    Args:
        spectrum: of W_T.
        lines: largest row norm + largest column norm of W_{T-n}.
        memory: a, b.
        steps: n.
    """
    stored = FLOATS[spectrum.dtype]
    rows, columns = spectrum.shape
    both = max(lines, spectrum.max_row_norm + spectrum.max_column_norm)
    a, b = abs(memory.current), abs(memory.previous)
    entries = stored.unit_roundoff * both
    entries += stored.smallest * (math.sqrt(rows) + math.sqrt(columns)) / 2
    decay = abs(1 - memory.current - memory.previous)
    swallowed = min(decay, steps * stored.unit_roundoff) * float(spectrum.sigma[0])
    likely = math.sqrt(steps + a**2 + b**2) * entries + swallowed
    return likely, (steps + a + b) * entries + swallowed


def _norms(matrix: Matrix) -> tuple[float, float]:
    """The Frobenius norm, and the largest norms of a row and of a column added up."""
    scale = scale_of(matrix)
    norms = EntryNorms.of(matrix)
    for block in oriented_blocks(matrix, scale):
        norms.add_long(block)
        norms.add_small(block)
    lines = math.sqrt(float(norms.small.max())) + math.sqrt(norms.long_max)
    return math.sqrt(norms.total) / scale, lines / scale
