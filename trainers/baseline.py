"""Complete P2's matrices without training: nuclear norm, SoftImpute, OptSpace.

    python -m trainers baseline --method nuclear --rank 5 --observed 2000 --seed 0 --out DIR

The problem is that of `python -m trainers complete` with the same rank, observed and seed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rankscope.errors import UsageError
from trainers.completion.baselines import METHODS
from trainers.outputs import FRESH, check_fresh

if TYPE_CHECKING:
    from rankscope.snapshots import RunRecord

SHAPE = (100, 100)  # P2's


@dataclass(frozen=True)  # without slots, so that Args.rank is the default
class Args:
    """What can be chosen.

    Attributes:
        out: the run directory; must not exist, or be empty.
        method: one of `METHODS`.
        rank: of the target.
        observed: how many entries are known.
        seed: of the target and the entries.
        scaled: whether the target is scaled to a mean square of 1.
    """

    out: Path
    method: str
    rank: int = 5
    observed: int = 2000
    seed: int = 0
    scaled: bool = True

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"method is {self.method!r}, expected one of {', '.join(METHODS)}")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, expected at least 0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of this driver."""
    parser.add_argument("--out", type=Path, required=True, help=FRESH)
    parser.add_argument(
        "--method",
        choices=METHODS,
        required=True,
        help="nuclear: least nuclear norm, by cvxpy; softimpute: down a path of lambda, to "
        "convergence; optspace: a matrix of the target's rank, to convergence; ...-as-p2: where "
        "the packages that P2 took stop by default, which is sooner",
    )
    for flag, value, meaning in (
        ("--rank", Args.rank, "of the target"),
        ("--observed", Args.observed, "how many entries are known"),
        ("--seed", Args.seed, "of the target and the entries"),
    ):
        words = f"{meaning} (default %(default)s)"
        parser.add_argument(flag, type=int, default=value, metavar="N", help=words)
    parser.add_argument("--raw", action="store_true", help="do not scale the target's entries to 1")


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    return Args(
        out=options.out,
        method=options.method,
        rank=options.rank,
        observed=options.observed,
        seed=options.seed,
        scaled=not options.raw,
    )


def run(args: Args) -> None:
    """Complete, and write a run directory of one snapshot.

    Raises:
        UsageError: a choice that makes no sense, or a directory that is in use.
        OutputFailed: the directory cannot be written to.
        ModuleNotFoundError: torch, or for the nuclear norm cvxpy, is not installed.
    """
    from rankscope.snapshots import LogRecord, SnapshotWriter
    from trainers.completion.comparison import judge
    from trainers.completion.problem import draw
    from trainers.completion.running import PRODUCT

    check_fresh(args.out)
    problem = draw(SHAPE, args.rank, args.observed, args.seed, scaled=args.scaled)
    found, record = judge(args.method, problem, args.seed)
    with SnapshotWriter(args.out, describe(args, PRODUCT)) as writer:
        log = LogRecord(test_loss=record.error_unobserved)
        writer.save(found.iterations, {PRODUCT: found.estimate}, log)
    rank = "undefined" if record.effective_rank is None else f"{record.effective_rank:.2f}"
    print(
        f"{args.method}: {'converged' if found.converged else 'not converged'} after "
        f"{found.iterations} iterations, {record.seconds:.1f} s ({found.note})\n"
        f"error {record.error_all:.2e} over all entries, {record.error_unobserved:.2e} over the "
        f"unobserved, effective rank {rank}",
        file=sys.stderr,
    )
    print(f"rankscope analyze {args.out}")


def describe(args: Args, name: str) -> RunRecord:
    """What run.json says."""
    from rankscope.snapshots import MatrixRecord, Optimiser, RunRecord

    return RunRecord(
        model=f"completion by {args.method}",
        matrices=(MatrixRecord(name, "linear", SHAPE),),
        optimiser=Optimiser(args.method),  # so that no bound of SGD is claimed
        data=f"{args.observed} entries of a {SHAPE[0]}x{SHAPE[1]} matrix of rank {args.rank}, "
        f"{'scaled to a mean square of 1' if args.scaled else 'raw'}",
        seed=args.seed,
    )
