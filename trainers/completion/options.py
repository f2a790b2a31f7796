"""The options of `python -m trainers complete`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from rankscope.errors import UsageError
from trainers.completion.cell import (
    MOMENTUM,
    Cell,
    LossName,
    OptimiserName,
    parse_initialisation,
)
from trainers.outputs import FRESH

StopName = Literal["plateau", "iterations"]
DtypeName = Literal["float32", "float64"]


@dataclass(frozen=True)  # without slots, so that Args.seeds is the default
class Args:
    """What can be chosen.

    Attributes:
        out: the run directory; with several seeds, that of their run directories.
        cell: the problem and the network; its seed is the first.
        seeds: how many, from the cell's on.
        iterations: at most so many updates; P2's limit.
        stop: plateau, or iterations to go on to the limit.
        stop_loss: end below this training loss, too, as P2's authors do at 1e-7.
        record_every: updates between two records.
        snapshots: how many beside the first and the last, ever further apart.
        snapshot_at: after which updates, in place of that.
        factors: save the layers, too.
        sigma: which singular values are recorded, counted from 1; None for the first, that of the
            target's rank, and the next.
        dtype: of the layers.
        device: cpu, cuda, or as PyTorch calls it.
    """

    out: Path
    cell: Cell = field(default_factory=Cell)
    seeds: int = 1
    iterations: int = 500_000
    stop: StopName = "plateau"
    stop_loss: float | None = None
    record_every: int = 100
    snapshots: int = 10
    snapshot_at: tuple[int, ...] | None = None
    factors: bool = False
    sigma: tuple[int, ...] | None = None
    dtype: DtypeName = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("seeds", "iterations", "record_every", "snapshots"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name, choices in (("stop", StopName), ("dtype", DtypeName)):
            if getattr(self, name) not in get_args(choices):
                known = " or ".join(get_args(choices))
                raise UsageError(f"{name} is {getattr(self, name)!r}, expected {known}")
        if self.stop_loss is not None and not 0 < self.stop_loss < float("inf"):
            raise UsageError(f"stop_loss is {self.stop_loss}, expected a number above 0")
        for step in self.snapshot_at or ():
            if not 0 <= step <= self.iterations:
                raise UsageError(f"snapshot_at has {step}, expected 0 to {self.iterations}")
        for number in self.sigma or ():
            if not 1 <= number <= min(self.cell.shape):
                raise UsageError(f"sigma has {number}, expected 1 to {min(self.cell.shape)}")

    @property
    def cells(self) -> list[Cell]:
        """One for each seed."""
        return [replace(self.cell, seed=self.cell.seed + i) for i in range(self.seeds)]

    @property
    def directories(self) -> list[Path]:
        """Where each goes."""
        if self.seeds == 1:
            return [self.out]
        return [self.out / f"seed-{cell.seed}" for cell in self.cells]

    @property
    def saved_at(self) -> frozenset[int]:
        """After which updates there is a snapshot, beside the last.

        Evenly spread over the logarithm of the iterations, from `record_every` on: a run may end
        at a hundredth of the limit.
        """
        if self.snapshot_at is not None:
            return frozenset(self.snapshot_at)
        first = min(self.record_every, self.iterations)
        growth = (self.iterations / first) ** (1 / max(1, self.snapshots - 1))
        return frozenset({0, *(round(first * growth**i) for i in range(self.snapshots))})

    @property
    def recorded_sigma(self) -> tuple[int, ...]:
        """The singular values that are recorded."""
        if self.sigma is not None:
            return self.sigma
        wanted = (1, self.cell.rank, self.cell.rank + 1)
        return tuple(sorted({n for n in wanted if n <= min(self.cell.shape)}))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of this driver."""
    parser.add_argument("--out", type=Path, required=True, help=FRESH)
    default = "(default %(default)s)"
    _add_cell(parser, default)
    parser.add_argument(
        "--seeds",
        type=int,
        default=Args.seeds,
        metavar="N",
        help="train N problems as one batch, of --seed and the N - 1 next, each into a directory "
        f"OUT/seed-S {default}",
    )
    integers = (
        ("--iterations", Args.iterations, "at most so many updates"),
        ("--record-every", Args.record_every, "updates between two records"),
    )
    for flag, value, meaning in integers:
        parser.add_argument(flag, type=int, default=value, metavar="N", help=f"{meaning} {default}")
    parser.add_argument(
        "--stop",
        choices=get_args(StopName),
        default=Args.stop,
        help="plateau: when error, effective rank and norm have been level for a while, at the "
        f"latest at --iterations; iterations: only there {default}",
    )
    parser.add_argument(
        "--stop-loss", type=float, metavar="X", help="stop below this training loss, too"
    )
    times = parser.add_mutually_exclusive_group()
    words = f"beside the first and the last, ever further apart {default}"
    times.add_argument("--snapshots", type=int, default=Args.snapshots, metavar="N", help=words)
    times.add_argument("--snapshot-at", metavar="N,N,...", help="after these updates")
    parser.add_argument("--factors", action="store_true", help="save the layers, too")
    parser.add_argument(
        "--sigma", metavar="N,N,...", help="singular values to record (default 1, rank, rank + 1)"
    )
    parser.add_argument(
        "--dtype", choices=get_args(DtypeName), default=Args.dtype, help=f"of the layers {default}"
    )
    parser.add_argument("--device", default=Args.device, help="cpu (default) or cuda")


def _add_cell(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--optimizer",
        choices=get_args(OptimiserName),
        default=Cell.optimiser,
        help="gd: plain descent on all observed entries; momentum: the same with momentum "
        f"{MOMENTUM}; the others are PyTorch's with its defaults, amsgrad a variant of its Adam "
        f"{default}",
    )
    parser.add_argument(
        "--penalty",
        default=Cell.penalty,
        help="of the product W: none; nuclear: ||W||_*; ratio: ||W||_*/||W||_F; schatten:p, as "
        "schatten:1/2: that norm; schatten:p:q: ratio of two; ratio-as-printed: ratio with the "
        f"gradient that P2 prints {default}",
    )
    parser.add_argument(
        "--shape", default="100x100", metavar="MxN", help=f"of the target {default}"
    )
    for flag, value, meaning in (
        ("--depth", Cell.depth, "layers, 1 to 5"),
        ("--rank", Cell.rank, "of the target"),
        ("--observed", Cell.observed, "how many entries are known"),
        ("--seed", Cell.seed, "of the target, the entries and the initialisation"),
    ):
        parser.add_argument(flag, type=int, default=value, metavar="N", help=f"{meaning} {default}")
    parser.add_argument(
        "--width", type=int, metavar="N", help="of the layers between (default: the smaller side)"
    )
    parser.add_argument(
        "--lr", type=float, default=Cell.lr, metavar="X", help=f"learning rate {default}"
    )
    parser.add_argument(
        "--lambda",
        type=float,
        metavar="X",
        dest="strength",
        help=f"factor of the penalty (default {Cell.strength})",
    )
    parser.add_argument("--raw", action="store_true", help="do not scale the target's entries to 1")
    parser.add_argument(
        "--init",
        default=Cell.start.name,
        metavar="KIND:SIZE",
        help="std: independent normal entries of that deviation; scale: the same, with "
        "E ||W||_F^2 the square of SIZE; balanced: a product of norm SIZE in balanced factors; "
        f"identity: W is SIZE times the identity {default}",
    )
    parser.add_argument(
        "--loss",
        choices=get_args(LossName),
        default=Cell.loss,
        help="sum: of the squared errors at the observed entries; mean: the sum over their number;"
        f" half-sum: half the sum {default}",
    )


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    rows, columns = _integers(options.shape, "x", "shape", 2)
    if options.strength is not None and options.penalty == "none":
        raise UsageError(f"lambda is {options.strength}, and there is no penalty: give --penalty")
    if options.width is not None and options.depth == 1:
        raise UsageError(f"width is {options.width}, and depth 1 has no layers between: --depth 2")
    cell = Cell(
        optimiser=options.optimizer,
        depth=options.depth,
        penalty=options.penalty,
        strength=Cell.strength if options.strength is None else options.strength,
        shape=(rows, columns),
        width=options.width,
        rank=options.rank,
        observed=options.observed,
        seed=options.seed,
        lr=options.lr,
        start=parse_initialisation(options.init),
        loss=options.loss,
        scaled=not options.raw,
    )
    at, sigma = options.snapshot_at, options.sigma
    return Args(
        out=options.out,
        cell=cell,
        seeds=options.seeds,
        iterations=options.iterations,
        stop=options.stop,
        stop_loss=options.stop_loss,
        record_every=options.record_every,
        snapshots=options.snapshots,
        snapshot_at=None if at is None else _integers(at, ",", "snapshot_at"),
        factors=options.factors,
        sigma=None if sigma is None else _integers(sigma, ",", "sigma"),
        dtype=options.dtype,
        device=options.device,
    )


def _integers(text: str, between: str, name: str, count: int | None = None) -> tuple[int, ...]:
    parts = text.split(between)
    if not all(part.isdecimal() for part in parts) or count not in (None, len(parts)):
        expected = "100x100" if count else "1,5,6"
        raise UsageError(f"{name} is {text!r}, expected numbers as in {expected}")
    return tuple(int(part) for part in parts)
