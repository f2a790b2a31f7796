"""What can be chosen for `flow dynamics`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from rankscope.errors import UsageError
from trainers.flow.runs import add_number
from trainers.outputs import FRESH

BETA1 = 0.9  # Adam's paper and PyTorch


@dataclass(frozen=True)  # without slots, so that Args.rows is the default
class Args:
    """What can be chosen.

    Attributes:
        out: the run directory; must not exist, or be empty.
        rows: of the matrix.
        columns: of the matrix.
        rank: of the matrix that is completed, a product of Gaussian factors.
        observed: how many of its entries.
        depth: L, the number of factors.
        optimizer: gd or adam.
        strength: lambda of the penalty ||W||_* / ||W||_F; 0 for none.
        beta1: of Adam; None for PyTorch's 0.9. The prediction puts the gradient for its moving
            average: 0 makes it exact.
        lr: step size.
        steps: updates.
        points: at how many of them to compare the rates.
        snapshots: at how many of these to save the product.
        scale: the first product is a Gaussian matrix times this, its factors are balanced.
        seed: of the matrix, its observed entries and the start.
    """

    out: Path
    rows: int = 8
    columns: int = 6
    rank: int = 2
    observed: int = 30
    depth: int = 3
    optimizer: str = "gd"
    strength: float = 0.0
    beta1: float | None = None
    lr: float = 1e-4
    steps: int = 10_000
    points: int = 50
    snapshots: int = 20
    scale: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        _check_optimizer(self.optimizer, self.beta1)
        least = dict.fromkeys(("rows", "columns", "rank", "observed", "depth", "steps"), 1)
        for name, minimum in {**least, "points": 2, "snapshots": 2, "seed": 0}.items():
            if getattr(self, name) < minimum:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least {minimum}")
        for name, most in (
            ("rank", min(self.rows, self.columns)),
            ("observed", self.rows * self.columns),
            ("points", self.steps),
        ):
            if getattr(self, name) > most:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at most {most}")
        for name in ("lr", "scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name} is {getattr(self, name)}, expected a number above 0")
        if not 0 <= self.strength < float("inf"):
            raise UsageError(f"lambda is {self.strength}, expected a number from 0")

    @property
    def moving(self) -> float:
        """The beta1 that is used."""
        return BETA1 if self.beta1 is None else self.beta1


def _check_optimizer(name: str, beta1: float | None) -> None:
    if name not in ("gd", "adam"):
        raise UsageError(f"optimizer is {name!r}, expected gd or adam")
    if beta1 is None:
        return
    if not 0 <= beta1 < 1:
        raise UsageError(f"beta1 is {beta1}, expected from 0 and below 1")
    if name != "adam":
        raise UsageError(f"beta1 is {beta1}, expected with --optimizer adam only")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of this driver."""
    parser.add_argument("--out", type=Path, required=True, help=FRESH)
    words = f"PyTorch's SGD without momentum, or its Adam (default {Args.optimizer})"
    parser.add_argument("--optimizer", choices=("gd", "adam"), default=Args.optimizer, help=words)
    for flag, kind, meaning in (
        ("--rows", int, "of the matrix"),
        ("--columns", int, "of the matrix"),
        ("--rank", int, "of the matrix that is completed"),
        ("--observed", int, "how many of its entries"),
        ("--depth", int, "number of factors, L"),
        ("--lr", float, "step size"),
        ("--steps", int, "updates"),
        ("--points", int, "at how many of them to compare the rates"),
        ("--snapshots", int, "at how many of these to save the product"),
        ("--scale", float, "of the product at the start"),
        ("--seed", int, "of the matrix, its observed entries and the start"),
    ):
        add_number(parser, flag, kind, getattr(Args, flag[2:]), meaning)
    words = f"of Adam; 0 makes the prediction exact (default {BETA1})"
    parser.add_argument("--beta1", type=float, metavar="X", help=words)
    words = "of the penalty ||W||_* / ||W||_F (default 0, none)"
    parser.add_argument(
        "--lambda", type=float, default=0.0, metavar="X", dest="strength", help=words
    )


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    return Args(**{part.name: getattr(options, part.name) for part in fields(Args)})
