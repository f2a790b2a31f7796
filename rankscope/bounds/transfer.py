"""What updates of SGD with momentum do to the pair (weights, momentum buffer).

PyTorch's SGD with dampening 0: v' = momentum v + wd W + g, then W' = W - mu v', or with Nesterov's
momentum W' = W - mu (wd W + g + momentum v'). Without the gradients g that is a 2 x 2 matrix, and
n updates are the product of n of them.

Numbers are decimals of `DIGITS` digits: 1 - mu wd loses the digits of a small mu wd in floating
point, and an exact count of millions of steps would be off by some.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, localcontext

# Powers of 2 x 2 matrices with an exponent of up to 1e15 keep 25 of them.
DIGITS = 40

Row = tuple[Decimal, Decimal]  # the first of a product: W' = x W + y v

IDENTITY: Row = (Decimal(1), Decimal(0))


@contextmanager
def precisely() -> Iterator[None]:
    """Within it, decimals are computed with `DIGITS` digits and without traps' surprises."""
    with localcontext(prec=DIGITS):
        yield


def exactly(number: float) -> Decimal:
    """The number as it is written: 0.1, not the binary fraction next to it."""
    return Decimal(repr(float(number)))


@dataclass(frozen=True, slots=True)
class Transfer:
    """The matrix ((a, b), (c, d)) that takes (W, v) to what updates without gradients make of it.

    Attributes:
        a: the part of W in W'.
        b: the part of v in W'.
        c: the part of W in v'.
        d: the part of v in v'.
    """

    a: Decimal
    b: Decimal
    c: Decimal
    d: Decimal

    @property
    def oscillates(self) -> bool:
        """Whether its eigenvalues are not real."""
        return (self.a + self.d) ** 2 < 4 * (self.a * self.d - self.b * self.c)

    def after(self, row: Row) -> Row:
        """The first row of P times this matrix, from the first row of P."""
        x, y = row
        return x * self.a + y * self.c, x * self.b + y * self.d

    def times(self, other: Transfer) -> Transfer:
        """The matrix product."""
        return Transfer(*other.after((self.a, self.b)), *other.after((self.c, self.d)))

    def power(self, exponent: int) -> Transfer:
        """By repeated squaring; exponent at least 0."""
        result, square = Transfer(Decimal(1), Decimal(0), Decimal(0), Decimal(1)), self
        while exponent:
            if exponent & 1:
                result = result.times(square)
            square = square.times(square)
            exponent >>= 1
        return result


def update(mu: float, weight_decay: float, momentum: float, *, nesterov: bool) -> Transfer:
    """The matrix of one update."""
    rate, wd, beta = exactly(mu), exactly(weight_decay), exactly(momentum)
    if nesterov:
        return Transfer(1 - rate * wd * (1 + beta), -rate * beta**2, wd, beta)
    return Transfer(1 - rate * wd, -rate * beta, wd, beta)
