"""`flow completion`: P3's problem by gradient flow and by gradient descent, side by side.

    python -m trainers flow completion --out runs/completion

Writes the two product matrices at chosen times as a run, and `path.csv`: the norms, ranks, bounds
and invariants of both along the way.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from rankscope.snapshots import LogRecord, MatrixRecord, Optimiser, RunRecord, SnapshotWriter
from trainers.flow.completionargs import Args, add_arguments, from_options
from trainers.flow.completionpath import PATH_FILE, Point, point, report
from trainers.flow.runs import chosen, spread
from trainers.outputs import Diverged, check_fresh

if TYPE_CHECKING:
    from trainers.flow.factors import Matrix

    # At a step: a point of each method, and each method's factors.
    Station: TypeAlias = tuple[list[Point], dict[str, Sequence[Matrix]]]

__all__ = ["Args", "add_arguments", "from_options", "run"]


def first_product(args: Args) -> Matrix:
    """The product at the start; its determinant has the sign that is asked for."""
    import numpy as np

    shape = (args.rows, args.columns)
    weight = np.eye(*shape)
    if args.start == "random":
        weight = np.random.default_rng(args.seed or 0).standard_normal(shape)
    size = 2 + args.ones
    if (np.linalg.det(weight[:size, :size]) > 0) != (args.det == "positive"):
        weight[:, 0] = -weight[:, 0]
    return args.scale * weight


def run(args: Args) -> None:
    """Integrate, descend, write both, and print where the bounds stand.

    Raises:
        UsageError: the directory is in use.
        OutputFailed: the directory cannot be written to.
        Diverged: gradient descent did; all else is there.
    """
    from trainers.flow.factors import product
    from trainers.flow.tables import write_table

    check_fresh(args.out)
    points = []
    with SnapshotWriter(args.out, describe(args)) as writer:
        walked, diverged = walk(args)
        saved = chosen([points[0].step for points, _ in walked], args.snapshots)
        for found, factors in walked:
            points += found
            step, record = found[0].step, LogRecord(lr=args.lr, train_loss=found[0].loss)
            if step in saved:
                weights = {f"{name}.weight": product(parts) for name, parts in factors.items()}
                writer.save(step, weights, record)
            else:
                writer.log(step, record)
    write_table(args.out / PATH_FILE, points)
    print(report(points, diverged))
    print(f"rankscope analyze {args.out}")
    if diverged is not None:
        raise Diverged(
            f"gradient descent diverged by step {diverged} and is kept in {args.out} up to there; "
            f"lower --lr, which is {args.lr:g}"
        )


def walk(args: Args) -> tuple[list[Station], int | None]:
    """Along the flow and, as far as it goes, descent; and the step by which descent diverged."""
    from trainers.flow import paths
    from trainers.flow.completion2x2 import Problem
    from trainers.flow.factors import product

    problem, start = Problem(args.rows, args.columns, args.ones), first_product(args)
    print("integrating the flow", file=sys.stderr)
    flow = paths.flow(problem, start, args.depth, args.target, args.tolerance)
    last = math.ceil(flow.stop / args.lr)
    steps = sorted({*spread(last, args.points), min(last, args.steps)})
    reached = problem.loss(product(flow.factors(flow.stop)))
    print(f"loss {reached:.4g} at time {flow.stop:.6g}, {last} steps", file=sys.stderr)
    short = [step for step in steps if step <= args.steps] if args.steps else []
    descent = paths.descent(problem, start, args.depth, args.lr, short)
    descends, diverged = bool(short), None
    stations: list[Station] = []
    for step in steps:
        factors: dict[str, Sequence[Matrix]] = {
            "flow": flow.factors(min(step * args.lr, flow.stop))
        }
        _, there = next(descent, (step, None)) if descends else (step, None)
        if there is not None:
            factors["descent"] = there
        elif descends and step in short:
            diverged = step
        points = [point(problem, name, step, args.lr, parts) for name, parts in factors.items()]
        stations.append((points, factors))
        descends = len(points) > 1 and points[1].loss > args.target
    return stations, diverged


def describe(args: Args) -> RunRecord:
    """What run.json says."""
    ones = f", {args.ones} more ones on the diagonal" if args.ones else ""
    names = ("flow.weight", "descent.weight") if args.steps else ("flow.weight",)
    return RunRecord(
        model=f"product of {args.depth} factors",
        matrices=tuple(MatrixRecord(name, "linear", (args.rows, args.columns)) for name in names),
        optimiser=Optimiser("gradient flow"),  # so that no bound of SGD is claimed, nor advised
        data=f"completion of [[*, 1], [1, 0]] in {args.rows} x {args.columns}{ones}; start "
        f"{args.start}, determinant {args.det}, scale {args.scale:g}; lr {args.lr:g}",
        seed=(args.seed or 0) if args.start == "random" else None,
    )
