"""What can be chosen for `flow completion`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from rankscope.errors import UsageError
from trainers.flow.runs import add_number
from trainers.outputs import FRESH


@dataclass(frozen=True)  # without slots, so that Args.depth is the default
class Args:
    """What can be chosen; the defaults are P3's figures 2 and 3.

    Attributes:
        out: the run directory; must not exist, or be empty.
        rows: d of the matrix.
        columns: d'.
        ones: diagonal entries from (3, 3) on that are 1 instead of 0.
        depth: L, the number of factors, at least 2.
        start: the product at the start: identity, or random (Gaussian).
        det: the sign of its determinant, of the leading block of 2 + ones rows: positive, as
            Theorem 1 needs, or negative.
        scale: what multiplies it.
        lr: step size of gradient descent.
        steps: of gradient descent at most; 0 for the flow alone.
        target: the loss at which both stop.
        points: how many points of the path to write.
        snapshots: at how many of them to save the matrices.
        tolerance: relative, of the ODE solver.
        seed: of a random start; None for 0.
    """

    out: Path
    rows: int = 2
    columns: int = 2
    ones: int = 0
    depth: int = 3
    start: str = "identity"
    det: str = "positive"
    scale: float = 8e-3
    lr: float = 3e-3
    steps: int = 400_000
    target: float = 1e-4
    points: int = 200
    snapshots: int = 40
    tolerance: float = 1e-10
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.start not in ("identity", "random"):
            raise UsageError(f"start is {self.start!r}, expected identity or random")
        if self.det not in ("positive", "negative"):
            raise UsageError(f"det is {self.det!r}, expected positive or negative")
        least = dict.fromkeys(("rows", "columns", "depth", "points", "snapshots"), 2)
        for name, minimum in {**least, "ones": 0, "steps": 0}.items():
            if getattr(self, name) < minimum:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least {minimum}")
        if self.seed is not None and (self.start != "random" or self.seed < 0):
            raise UsageError(f"seed is {self.seed}, expected at least 0, and --start random")
        if self.ones > min(self.rows, self.columns) - 2:
            fit = min(self.rows, self.columns) - 2
            raise UsageError(f"ones is {self.ones}, expected at most {fit}, which fit the diagonal")
        for name in ("scale", "lr", "target"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name} is {getattr(self, name)}, expected a number above 0")
        # The solver's own limits: below 1e-13 rounding defeats it.
        if not 1e-13 <= self.tolerance <= 1e-3:
            raise UsageError(f"tolerance is {self.tolerance}, expected 1e-13 to 1e-3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of this driver."""
    parser.add_argument("--out", type=Path, required=True, help=FRESH)
    for flag, choices, meaning in (
        ("--start", ("identity", "random"), "the product at the start; random: Gaussian"),
        ("--det", ("positive", "negative"), "sign of its determinant; Theorem 1 needs positive"),
    ):
        default = getattr(Args, flag[2:])
        words = f"{meaning} (default {default})"
        parser.add_argument(flag, choices=choices, default=default, help=words)
    for flag, kind, meaning in (
        ("--rows", int, "of the matrix"),
        ("--columns", int, "of the matrix"),
        ("--ones", int, "diagonal entries from (3, 3) on that are 1 instead of 0"),
        ("--depth", int, "number of factors, L"),
        ("--scale", float, "of the product at the start"),
        ("--lr", float, "step size of gradient descent"),
        ("--steps", int, "of gradient descent at most"),
        ("--target", float, "loss at which both stop"),
        ("--points", int, "how many points of the path to write"),
        ("--snapshots", int, "at how many of them to save the matrices"),
        ("--tolerance", float, "relative, of the ODE solver"),
    ):
        add_number(parser, flag, kind, getattr(Args, flag[2:]), meaning)
    parser.add_argument("--seed", type=int, metavar="N", help="of a random start (default 0)")


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    return Args(**{part.name: getattr(options, part.name) for part in fields(Args)})
