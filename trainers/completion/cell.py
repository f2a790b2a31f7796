"""What is chosen of one completion problem, as plain values: no torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

from rankscope.errors import UsageError

OptimiserName = Literal[
    "gd",
    "momentum",
    "adam",
    "amsgrad",
    "adamax",
    "adamw",
    "nadam",
    "radam",
    "adagrad",
    "adadelta",
    "rmsprop",
]
LossName = Literal["sum", "mean", "half-sum"]
StartName = Literal["std", "scale", "balanced", "identity"]

MOST_DEPTH = 5

# PyTorch's default is 0, plain descent; P2 does not say what its "GD w. momentum" has.
MOMENTUM = 0.9


@dataclass(frozen=True, slots=True)
class Initialisation:
    """How the layers start.

    Attributes:
        kind: std: independent normal entries of one standard deviation; scale: the same with the
            deviation that makes E ||W||_F^2 the square of the size; balanced: a normal product
            with that size of ||W||_F, split so that W_{j+1}^T W_{j+1} = W_j W_j^T; identity: W is
            the size times the identity, and every layer is the N-th root of it.
        size: the standard deviation, the expected norm, or the factor of the identity.
    """

    kind: StartName = "std"
    size: float = 1e-3  # P2, appendix A.1

    @property
    def name(self) -> str:
        """What `parse_initialisation` reads."""
        return f"{self.kind}:{self.size:g}"


def parse_initialisation(text: str) -> Initialisation:
    """An option's text.

    >>> parse_initialisation("balanced:0.01")
    Initialisation(kind='balanced', size=0.01)

    Raises:
        UsageError: it is not KIND:SIZE with a positive size.
    """
    kind, _, number = text.partition(":")
    try:
        size = float(number)
    except ValueError:
        size = math.nan
    if kind not in get_args(StartName) or not 0 < size < math.inf:
        kinds = ", ".join(get_args(StartName))
        raise UsageError(f"init is {text!r}, expected one of {kinds} and a positive size: std:1e-3")
    return Initialisation(cast("StartName", kind), size)


@dataclass(frozen=True)  # without slots, so that Cell.lr is the default
class Cell:
    """One problem and what is trained on it: the defaults are P2's.

    Attributes:
        optimiser: one of `OptimiserName`.
        depth: N, layers, 1 to 5.
        penalty: as `penalties.parse` reads it.
        strength: lambda, the factor of the penalty in the loss.
        shape: (m, n) of the target.
        width: of the layers between; None for the smaller of m and n.
        rank: of the target.
        observed: how many of its entries are known.
        seed: of the target, the entries and the initialisation.
        lr: learning rate.
        start: the initialisation.
        loss: the sum of the squared errors at the observed entries (P2, Eq. 1), their mean, or half
            their sum.
        scaled: whether ||W*||_F is sqrt(m n), or the raw product's.
    """

    optimiser: OptimiserName = "gd"
    depth: int = 1
    penalty: str = "none"
    strength: float = 0.05
    shape: tuple[int, int] = (100, 100)
    width: int | None = None
    rank: int = 5
    observed: int = 2000
    seed: int = 0
    lr: float = 1e-3
    start: Initialisation = Initialisation()
    loss: LossName = "sum"
    scaled: bool = True

    def __post_init__(self) -> None:
        for name, choices in (("optimiser", OptimiserName), ("loss", LossName)):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise UsageError(f"{name} is {getattr(self, name)!r}, expected one of {known}")
        if not 1 <= self.depth <= MOST_DEPTH:
            raise UsageError(f"depth is {self.depth}, expected 1 to {MOST_DEPTH}")
        sides = {"rows": self.shape[0], "columns": self.shape[1], "width": self.inner}
        for name, size in sides.items():
            if size < 1:
                raise UsageError(f"{name} is {size}, expected at least 1")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, expected at least 0")
        if not 0 <= self.strength < math.inf:
            raise UsageError(f"lambda is {self.strength}, expected a number from 0")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"lr is {self.lr}, expected a number above 0")

    @property
    def penalised(self) -> bool:
        """Whether the penalty has a gradient."""
        return self.penalty != "none" and self.strength > 0

    @property
    def inner(self) -> int:
        """The width of the layers between."""
        return min(self.shape) if self.width is None else self.width

    @property
    def widths(self) -> tuple[int, ...]:
        """d_0 = n, the layers between, d_N = m."""
        return (self.shape[1], *[self.inner] * (self.depth - 1), self.shape[0])
