"""P2's penalties on a matrix's singular values, and their gradients without autograd.

A penalty sum or ratio of functions of sigma has the gradient U diag(d penalty / d sigma) V^T for
W = U diag(sigma) V^T. Autograd through an SVD divides by differences and sums of singular values
and by sigma itself, and so gives NaN or infinity where two are equal or one is 0; these are finite.

Where the mathematics leaves a choice:

- **sigma = 0.** For p = 1 the derivative jumps, for p < 1 it is infinite. A singular value that W's
  dtype does not resolve (`spectral.decompose`: at most eps sigma_1) counts as 0: it adds nothing
  to the value and has derivative 0. Its directions are rounding noise, and for p < 1 a gradient
  along them would be the larger the less they mean. For the nuclear norm this is the subgradient
  of least norm.
- **W = 0.** Value 0 and gradient 0. No other matrix has a ratio of 0, so a log shows where it was.
- **W with a NaN or an infinite entry**, as of a run that diverged: value and gradient are NaN, of
  this matrix alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from rankscope.errors import UsageError
from trainers.completion.spectral import decompose, spectra

__all__ = [
    "NoPenalty",
    "Penalty",
    "PrintedRatio",
    "SchattenNorm",
    "SchattenRatio",
    "parse",
    "ratio_printed",
    "spectra",
]

CHOICES = "none, nuclear, ratio, schatten:p, schatten:p:q, ratio-as-printed"

# k equal singular values have S_p = k^(1/p) sigma, and its derivative by one as small as eps is
# k^(1/p - 1) eps^(p - 1): from here on float32 holds both for k up to 1000.
LEAST_POWER = Fraction(1, 10)


class Penalty(Protocol):
    """A penalty of a matrix, without its factor lambda."""

    @property
    def name(self) -> str:
        """What `parse` reads as this penalty."""

    def value_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803
        """The values, shape (batch,), and gradients, shape (batch, m, n), in W's dtype.

        Args:
            W: shape (batch, m, n), float32 or float64, on any device. No gradient is recorded.
        """


@dataclass(frozen=True)
class NoPenalty:
    """Nothing: value 0, gradient 0."""

    name: str = "none"

    def value_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803
        """Zeros; see `Penalty`."""
        return W.new_zeros(W.shape[0]), torch.zeros_like(W)


@dataclass(frozen=True)
class SchattenNorm:
    """S_p = (sum sigma^p)^(1/p), p > 0: the norm itself, as in P2's table 4, not its p-th power.

    A quasi-norm for p < 1; p = 1 is the nuclear norm.

    Attributes:
        name: what `parse` reads.
        p: the exponent.
    """

    name: str
    p: float

    @torch.no_grad()
    def value_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803
        """S_p; d S_p / d sigma = (sigma / S_p)^(p - 1); see `Penalty`."""
        parts = decompose(W)
        largest, sigma = _scaled(parts.sigma)
        norm, slopes = _schatten(sigma, self.p)
        return (largest * norm).to(W.dtype), parts.compose(slopes)


@dataclass(frozen=True)
class SchattenRatio:
    """S_p / S_q; P2's penalty R = nuclear / Frobenius is p = 1, q = 2.

    It does not change when W is scaled, so its gradient is orthogonal to W.

    Attributes:
        name: what `parse` reads.
        p: the exponent above.
        q: the exponent below.
    """

    name: str
    p: float
    q: float

    @torch.no_grad()
    def value_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803
        """R; dR = (dS_p - R dS_q) / S_q, P2's Eq. 12 with its factor corrected; see `Penalty`."""
        parts = decompose(W)
        largest, sigma = _scaled(parts.sigma)
        above, rise = _schatten(sigma, self.p)
        below, fall = _schatten(sigma, self.q)
        below = torch.where(below == 0, 1.0, below)
        ratio = above / below
        slopes = (rise - ratio[:, None] * fall) / (largest * below)[:, None]
        return ratio.to(W.dtype), parts.compose(slopes)


@dataclass(frozen=True)
class PrintedRatio:
    """The ratio with the gradient that P2 prints: no gradient of it. A diagnostic."""

    name: str = "ratio-as-printed"

    def value_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803
        """See `ratio_printed`."""
        return ratio_printed(W)


@torch.no_grad()
def ratio_printed(W: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803 - the papers' letter
    """R = nuclear / Frobenius with P2's Eq. 12 as printed: (U V^T - R U diag(sigma) V^T) / F^2.

    The gradient is U V^T / F - (R / F^2) U diag(sigma) V^T. The print has 1 / F^2 before U V^T,
    right for F = 1 only. For F > 1 it has the wrong sign for every sigma between 1 / R and F / R:
    descent along it grows singular values that the penalty is to remove.

    Args:
        W: shape (batch, m, n), float32 or float64.

    Returns:
        The values, shape (batch,), and what is printed as their gradients, shape (batch, m, n).
    """
    parts = decompose(W)
    largest, sigma = _scaled(parts.sigma)
    nuclear, ones = _schatten(sigma, 1.0)
    frobenius, _ = _schatten(sigma, 2.0)
    frobenius = torch.where(frobenius == 0, 1.0, frobenius)
    ratio = nuclear / frobenius
    slopes = (ones - ratio[:, None] * parts.sigma) / (largest * frobenius)[:, None] ** 2
    return ratio.to(W.dtype), parts.compose(slopes)


def parse(text: str) -> Penalty:
    """The penalty of an option's text; exponents are fractions or decimals.

    >>> parse("schatten:0.5:2/3")
    SchattenRatio(name='schatten:1/2:2/3', p=0.5, q=0.6666666666666666)

    Raises:
        UsageError: no penalty is called that, or an exponent is out of range.
    """
    named: dict[str, Penalty] = {
        "none": NoPenalty(),
        "nuclear": SchattenNorm("nuclear", 1.0),
        "ratio": SchattenRatio("ratio", 1.0, 2.0),
        "ratio-as-printed": PrintedRatio(),
    }
    if text in named:
        return named[text]
    kind, *exponents = text.split(":")
    if kind != "schatten" or len(exponents) not in (1, 2):
        raise UsageError(f"no penalty is called {text!r}: choose from {CHOICES}")
    powers = [_exponent(exponent, text) for exponent in exponents]
    name = ":".join([kind, *map(str, powers)])
    if len(powers) == 1:
        return SchattenNorm(name, float(powers[0]))
    if powers[0] == powers[1]:
        raise UsageError(f"the penalty {text!r} is 1 for every matrix: give two exponents")
    return SchattenRatio(name, float(powers[0]), float(powers[1]))


def _exponent(text: str, whole: str) -> Fraction:
    # Python would read "1e999999999" too, for minutes.
    if re.fullmatch(r"[0-9]{1,6}(/[1-9][0-9]{0,5}|\.[0-9]{1,6})?", text):
        exponent = Fraction(text)
        if exponent >= LEAST_POWER:
            return exponent
    raise UsageError(
        f"the penalty {whole!r} has the exponent {text!r}: give a fraction or a decimal of at "
        f"least {LEAST_POWER}, as in schatten:1/2 or schatten:1/3:2/3; or choose from {CHOICES}"
    )


def _scaled(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The largest singular value, shape (batch,), 1 for a zero matrix; and sigma divided by it."""
    largest = sigma.amax(-1)
    largest = torch.where(largest == 0, 1.0, largest)
    return largest, sigma / largest[:, None]


def _schatten(sigma: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """S_p of sigma, shape (batch, k), and d S_p / d sigma, 0 where sigma is."""
    norm = (sigma**p).sum(-1) ** (1 / p)
    return norm, torch.where(sigma == 0, 0.0, (sigma / norm[:, None]) ** (p - 1))
