"""`flow dynamics`: how fast singular values move while a product of factors is trained.

    python -m trainers flow dynamics --optimizer gd --depth 3 --out runs/dynamics

Completes a matrix of low rank with PyTorch's SGD or Adam, in float64, and compares the change of
every singular value in one update, divided by the step size, with the rate that theory predicts
from the factors before it. Writes the product as a run, and `rates.csv`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rankscope.snapshots import (
    Hyperparameters,
    LogRecord,
    MatrixRecord,
    Optimiser,
    RunRecord,
    SnapshotWriter,
)
from trainers.descentname import descent_name
from trainers.flow.measuredargs import Args, add_arguments, from_options
from trainers.flow.runs import chosen
from trainers.outputs import Diverged, check_fresh

if TYPE_CHECKING:
    import torch

    from trainers.flow.factors import Matrix

__all__ = ["Args", "add_arguments", "from_options", "run"]

RATES_FILE = "rates.csv"

SHOWN_STEPS = 4


@dataclass(frozen=True)
class Rate:
    """One singular value in one update: a line of `rates.csv`.

    Attributes:
        step: updates before it.
        time: step times the step size.
        index: of the singular value, from 1, the largest.
        sigma: before the update.
        measured: its change over the step size.
        predicted: by gradient flow's formula, with the penalty's; or by Adam's preconditioner.
    """

    step: int
    time: float
    index: int
    sigma: float
    measured: float
    predicted: float


def run(args: Args) -> None:
    """Train, write the product and the rates, and print both rates side by side.

    Raises:
        UsageError: the directory is in use.
        OutputFailed: the directory cannot be written to.
        Diverged: training did; what was before is there.
    """
    from trainers.flow.factors import product
    from trainers.flow.tables import write_table

    check_fresh(args.out)
    rates, diverged = list[Rate](), None
    compared = sorted(chosen(list(range(args.steps)), args.points))
    saved = chosen(compared, args.snapshots)
    with SnapshotWriter(args.out, describe(args)) as writer:
        try:
            for step, loss, factors, found in trained(args, frozenset(compared)):
                rates += found
                record = LogRecord(lr=args.lr, train_loss=loss)
                if step in saved:
                    writer.save(step, {"product.weight": product(factors)}, record)
                else:
                    writer.log(step, record)
        except Diverged as error:
            diverged = error
    if rates:
        write_table(args.out / RATES_FILE, rates)
        print(report(rates))
        print(f"rankscope analyze {args.out}")
    if diverged is not None:
        raise diverged


def describe(args: Args) -> RunRecord:
    """What run.json says."""
    penalty = f", penalty {args.strength:g} ||W||_* / ||W||_F" if args.strength else ""
    plain = descent_name(factors=args.depth > 1, penalised=args.strength > 0)
    adam = f", beta1 {args.moving:g}" if args.optimizer == "adam" else ""
    return RunRecord(
        model=f"product of {args.depth} factors",
        matrices=(MatrixRecord("product.weight", "linear", (args.rows, args.columns)),),
        optimiser=Optimiser(plain if args.optimizer == "gd" else args.optimizer),
        hyperparameters=Hyperparameters(args.observed, args.lr, weight_decay=0.0, schedule=()),
        data=f"{args.observed} entries of a {args.rows} x {args.columns} matrix of rank "
        f"{args.rank}, sum of squared errors{penalty}; start balanced, scale {args.scale:g}; "
        f"{args.optimizer}{adam}, lr {args.lr:g}",
        seed=args.seed,
    )


def trained(
    args: Args, compared: frozenset[int]
) -> Iterator[tuple[int, float, list[Matrix], list[Rate]]]:
    """At each step to compare: the step, the loss and the factors before it, the rates."""
    import numpy as np
    import torch

    from trainers.flow.factors import product

    torch.set_num_threads(1)  # the matrices are too small for more
    target, mask, first = drawn(args)
    parameters = [torch.tensor(factor, requires_grad=True) for factor in first]
    optimizer = make_optimizer(args, parameters)
    wanted, seen = torch.from_numpy(target), torch.from_numpy(mask)
    for step in range(args.steps):
        before = [parameter.detach().numpy().copy() for parameter in parameters]
        optimizer.zero_grad()
        loss = penalised_loss(args, parameters, wanted, seen)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with np.errstate(all="ignore"):  # what is not finite is told of below
            after = product([parameter.detach().numpy() for parameter in parameters])
            rates, finite = list[Rate](), bool(np.isfinite(after).all())
            if finite and step in compared:
                gradient = 2 * mask * (product(before) - target)
                predicted = predict(args, before, gradient, scales_of(args, optimizer, parameters))
                rates = compare(args, step, before, after, predicted)
        if not finite or not all(math.isfinite(one.measured + one.predicted) for one in rates):
            raise Diverged(
                f"training diverged by update {step + 1} and is kept in {args.out} up to there; "
                f"lower --lr, which is {args.lr:g}"
            )
        if step in compared:
            yield step, loss.item(), before, rates


def drawn(args: Args) -> tuple[Matrix, Matrix, list[Matrix]]:
    """The matrix to complete, 1 where it is observed and 0 elsewhere, and the first factors."""
    import numpy as np

    from trainers.flow.factors import balanced

    generator = np.random.default_rng(args.seed)
    left = generator.standard_normal((args.rows, args.rank))
    target = left @ generator.standard_normal((args.rank, args.columns))
    mask = np.zeros_like(target)
    mask.flat[generator.choice(mask.size, args.observed, replace=False)] = 1
    start = args.scale * generator.standard_normal(target.shape)
    return target, mask, [start] if args.depth == 1 else balanced(start, args.depth)


def make_optimizer(args: Args, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    """PyTorch's SGD without momentum, or its Adam."""
    import torch

    if args.optimizer == "gd":
        return torch.optim.SGD(parameters, lr=args.lr)
    return torch.optim.Adam(parameters, lr=args.lr, betas=(args.moving, 0.999))


def penalised_loss(
    args: Args, parameters: Sequence[torch.Tensor], wanted: torch.Tensor, seen: torch.Tensor
) -> torch.Tensor:
    """||P_Omega(W - W*)||_F^2 + lambda ||W||_* / ||W||_F (P2, Eq. 1)."""
    import torch

    weight = parameters[0]
    for factor in parameters[1:]:
        weight = factor @ weight
    loss = (seen * (weight - wanted)).square().sum()
    if args.strength:
        nuclear = torch.linalg.matrix_norm(weight, "nuc")
        loss = loss + args.strength * nuclear / torch.linalg.matrix_norm(weight)
    return loss


def scales_of(
    args: Args, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]
) -> list[Matrix]:
    """S_j = 1 / (sqrt(v_j) + eps) of the update that Adam has just done, v corrected for its bias.

    [] for gradient descent.
    """
    import numpy as np

    if args.optimizer == "gd":
        return []
    group = optimizer.param_groups[0]
    scales = []
    for parameter in parameters:
        state = optimizer.state[parameter]
        second = state["exp_avg_sq"].numpy() / (1 - group["betas"][1] ** float(state["step"]))
        scales.append(1 / (np.sqrt(second) + group["eps"]))
    return scales


def predict(
    args: Args, factors: Sequence[Matrix], gradient: Matrix, scales: Sequence[Matrix]
) -> Matrix:
    """The rates that theory gives; `gradient` is that of the loss without penalty."""
    from trainers.flow import dynamics
    from trainers.flow.factors import product

    weight = product(factors)
    if args.optimizer == "gd":
        rates = dynamics.flow_rates(weight, gradient, args.depth)
        return rates + dynamics.ratio_rates(weight, args.strength, args.depth)
    whole = gradient + args.strength * dynamics.ratio_gradient(weight)
    matrix = dynamics.preconditioner(factors, scales)
    return dynamics.projected(weight, dynamics.preconditioned(matrix, whole))


def compare(
    args: Args, step: int, before: Sequence[Matrix], after: Matrix, predicted: Matrix
) -> list[Rate]:
    """A line for every singular value."""
    import numpy as np

    from trainers.flow.factors import product

    sigma = np.linalg.svd(product(before), compute_uv=False)
    moved = (np.linalg.svd(after, compute_uv=False) - sigma) / args.lr
    return [
        Rate(step, step * args.lr, index, *(float(value) for value in values))
        for index, values in enumerate(zip(sigma, moved, predicted, strict=True), start=1)
    ]


def report(rates: Sequence[Rate]) -> str:
    """A few steps in full, then the error over all, relative to the fastest value of a step."""
    from trainers.flow.tables import show_table

    steps = sorted({one.step for one in rates})
    shown = steps if len(steps) <= SHOWN_STEPS else chosen(steps, SHOWN_STEPS)
    rows = [
        (one.step, one.index, one.sigma, one.measured, one.predicted)
        for one in rates
        if one.step in shown
    ]
    errors = []
    for step in steps:
        here = [one for one in rates if one.step == step]
        fastest = max(abs(one.measured) for one in here)
        errors.append(max(abs(one.measured - one.predicted) for one in here) / fastest)
    median = sorted(errors)[len(errors) // 2]
    table = show_table(("step", "r", "sigma", "measured", "predicted"), rows)
    return (
        f"{table}\nerror relative to the fastest singular value of the step: median {median:.2g}, "
        f"largest {max(errors):.2g}, over {len(errors)} steps"
    )
