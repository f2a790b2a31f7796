"""`flow regression`: gradient flow of least squares from several starts, three ways.

    python -m trainers flow regression --out runs/regression

Writes the coefficients (features x starts) at chosen times as a run, and `path.csv`: where each
start is, and how far the ODE solver and gradient descent are from the closed form.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from rankscope.errors import UsageError
from rankscope.snapshots import LogRecord, MatrixRecord, Optimiser, RunRecord, SnapshotWriter
from trainers.flow.runs import add_number, chosen, spread
from trainers.outputs import FRESH, check_fresh

if TYPE_CHECKING:
    from trainers.flow.factors import Matrix
    from trainers.flow.leastsquares import Problem

PATH_FILE = "path.csv"


@dataclass(frozen=True)  # without slots, so that Args.samples is the default
class Args:
    """What can be chosen.

    Attributes:
        out: the run directory; must not exist, or be empty.
        samples: n, rows of X.
        features: d, columns of X.
        rank: of X; its singular values fall geometrically from 1 to 1 / condition.
        condition: the largest over the smallest singular value.
        starts: how many b_0: 0, and Gaussian ones.
        lr: step size of gradient descent; it converges below 1.
        steps: of gradient descent; the flow is followed for lr times as long.
        points: how many points of the path to write.
        snapshots: at how many of them to save the coefficients.
        tolerance: relative, of the ODE solver.
        seed: of X, y and the starts.
    """

    out: Path
    samples: int = 6
    features: int = 12
    rank: int = 6
    condition: float = 4.0
    starts: int = 6
    lr: float = 0.01
    steps: int = 15_000
    points: int = 200
    snapshots: int = 40
    tolerance: float = 1e-10
    seed: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("samples", "features", "rank", "starts", "steps"), 1)
        for name, minimum in {**least, "points": 2, "snapshots": 2, "seed": 0}.items():
            if getattr(self, name) < minimum:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least {minimum}")
        if self.rank > min(self.samples, self.features):
            smaller = min(self.samples, self.features)
            raise UsageError(f"rank is {self.rank}, expected at most {smaller}, X's smaller side")
        if not 1 <= self.condition <= 1e6:
            raise UsageError(f"condition is {self.condition}, expected 1 to 1e6")
        if not 0 < self.lr < 1:
            raise UsageError(f"lr is {self.lr}, expected above 0 and below 1, where it converges")
        if not 1e-13 <= self.tolerance <= 1e-3:
            raise UsageError(f"tolerance is {self.tolerance}, expected 1e-13 to 1e-3")


@dataclass(frozen=True)
class Point:
    """One start at one time: a line of `path.csv`.

    Attributes:
        start: its number; 0 is b_0 = 0.
        step: updates of gradient descent by then.
        time: step times the step size.
        loss: ||y - X b||^2, as all that follows of the closed form.
        norm: ||b||.
        along: the component of b in the direction of X^+ y.
        across: ||P_null(X) b||.
        to_limit: ||b - (X^+ y + P_null(X) b_0)||.
        to_least: ||b - X^+ y||, to the solution of least norm.
        solver_error: ||b by the ODE solver - b||.
        descent_error: ||b by gradient descent - b||.
    """

    start: int
    step: int
    time: float
    loss: float
    norm: float
    along: float
    across: float
    to_limit: float
    to_least: float
    solver_error: float
    descent_error: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of this driver."""
    parser.add_argument("--out", type=Path, required=True, help=FRESH)
    for flag, kind, meaning in (
        ("--samples", int, "rows of X"),
        ("--features", int, "columns of X"),
        ("--rank", int, "of X"),
        ("--condition", float, "largest over smallest singular value of X"),
        ("--starts", int, "how many: 0, and Gaussian ones"),
        ("--lr", float, "step size of gradient descent"),
        ("--steps", int, "of gradient descent"),
        ("--points", int, "how many points of the path to write"),
        ("--snapshots", int, "at how many of them to save the coefficients"),
        ("--tolerance", float, "relative, of the ODE solver"),
        ("--seed", int, "of X, y and the starts"),
    ):
        add_number(parser, flag, kind, getattr(Args, flag[2:]), meaning)


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    return Args(**{part.name: getattr(options, part.name) for part in fields(Args)})


def problem_of(args: Args) -> Problem:
    """X of the rank and condition asked for, a Gaussian y, Gaussian starts after the first."""
    import numpy as np

    from trainers.flow.leastsquares import Problem

    generator = np.random.default_rng(args.seed)
    left = np.linalg.qr(generator.standard_normal((args.samples, args.rank)))[0]
    right = np.linalg.qr(generator.standard_normal((args.features, args.rank)))[0]
    sigma = np.geomspace(1, 1 / args.condition, args.rank)
    starts = generator.standard_normal((args.features, args.starts))
    starts[:, 0] = 0
    return Problem(left * sigma @ right.T, generator.standard_normal(args.samples), starts)


def run(args: Args) -> None:
    """Follow every start three ways, write the path, print where it ends.

    Raises:
        UsageError: the directory is in use.
        OutputFailed: the directory cannot be written to.
    """
    from trainers.flow.leastsquares import closed_form, descended, integrated
    from trainers.flow.tables import write_table

    check_fresh(args.out)
    problem = problem_of(args)
    steps = spread(args.steps, args.points)
    saved = chosen(steps, args.snapshots)
    others = zip(
        steps,
        integrated(problem, [step * args.lr for step in steps], args.tolerance),
        descended(problem, args.lr, steps),
        strict=True,
    )
    points = []
    with SnapshotWriter(args.out, describe(args)) as writer:
        for step, solved, descent in others:
            exact = closed_form(problem, step * args.lr)
            found = located(problem, step, args.lr, exact, (solved, descent))
            points += found
            record = LogRecord(lr=args.lr, train_loss=found[0].loss)
            if step in saved:
                writer.save(step, {"coefficients": exact}, record)
            else:
                writer.log(step, record)
    write_table(args.out / PATH_FILE, points)
    print(report(points))
    print(f"rankscope analyze {args.out}")


def describe(args: Args) -> RunRecord:
    """What run.json says."""
    shape = (args.features, args.starts)
    return RunRecord(
        model="least squares",
        matrices=(MatrixRecord("coefficients", "linear", shape),),
        optimiser=Optimiser("gradient flow"),  # so that no bound of SGD is claimed, nor advised
        data=f"X {args.samples} x {args.features} of rank {args.rank}, condition "
        f"{args.condition:g}; {args.starts} starts; lr {args.lr:g}",
        seed=args.seed,
    )


def located(
    problem: Problem, step: int, lr: float, exact: Matrix, others: tuple[Matrix, Matrix]
) -> list[Point]:
    """A point for every start."""
    import numpy as np

    from trainers.flow.leastsquares import limit, null_part

    end = limit(problem)
    least = (end - null_part(problem, end))[:, :1]
    columns = zip(
        problem.loss(exact),
        np.linalg.norm(exact, axis=0),
        (exact.T @ least)[:, 0] / np.linalg.norm(least),
        np.linalg.norm(null_part(problem, exact), axis=0),
        np.linalg.norm(exact - end, axis=0),
        np.linalg.norm(exact - least, axis=0),
        *(np.linalg.norm(other - exact, axis=0) for other in others),
        strict=True,
    )
    return [
        Point(start, step, step * lr, *(float(value) for value in values))
        for start, values in enumerate(columns)
    ]


def report(points: Sequence[Point]) -> str:
    """Where every start ends, and the largest errors on its way."""
    from trainers.flow.tables import show_table

    rows = []
    for start in sorted({one.start for one in points}):
        path = [one for one in points if one.start == start]
        end = path[-1]
        worst = max(one.solver_error for one in path), max(one.descent_error for one in path)
        rows.append((start, end.loss, end.norm, end.to_limit, end.to_least, end.across, *worst))
    names = ("start", "loss", "norm", "to limit", "to X^+ y", "||P_null b||")
    return show_table((*names, "solver error", "descent error"), rows)
