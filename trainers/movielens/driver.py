"""P2's Table 2: ratings completed with the ratio penalty, by a matrix or by an embedding.

    python -m trainers movielens --data ml-100k --model embedding --out runs/mine

Squared error plus lambda ||W||_*/||W||_F by Adam or plain descent. In log.jsonl the losses are
root-mean-square errors over all training and all test ratings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
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
from trainers.devices import check_device
from trainers.movielens.args import DEPTH1, Args, add_arguments, from_options
from trainers.movielens.reported import reported
from trainers.movielens.splits import RANDOM
from trainers.outputs import Diverged, check_fresh
from trainers.schedule import snapshot_epochs

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from trainers.movielens.files import Split
    from trainers.movielens.models import RatingModel
    from trainers.movielens.training import Observed, Penalised

__all__ = ["Args", "Result", "add_arguments", "from_options", "run"]

PROGRESS_LINES = 10
# Ours: a run whose penalty alone takes longer than this is announced.
LONG_MINUTES = 10


@dataclass(frozen=True, slots=True)
class Errors:
    """Root-mean-square errors over all training and all test ratings."""

    train: float
    test: float


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended.

    Attributes:
        epochs: passes done.
        test_rmse: after the last epoch.
        best_rmse: the lowest test RMSE after any epoch: chosen by the test ratings, and so too
            low for a model that is to be used.
        best_epoch: when.
    """

    epochs: int
    test_rmse: float
    best_rmse: float
    best_epoch: int

    @staticmethod
    def of(tested: Sequence[float]) -> Result:
        """From the test RMSE at the initialisation and after every epoch."""
        best = min(range(len(tested)), key=tested.__getitem__)
        return Result(len(tested) - 1, tested[-1], tested[best], best)


def run(args: Args) -> Result:
    """Train, and write the run directory.

    Raises:
        UsageError: the directory is in use.
        InputRejected: the ratings are missing or damaged.
        OutputFailed: the directory cannot be written to.
        Diverged: training did; what was before is there.
    """
    import torch

    from trainers.completion.penalties import parse
    from trainers.movielens.files import load
    from trainers.movielens.training import Observed, Penalised

    check_device(args.device)
    check_fresh(args.out)
    torch.use_deterministic_algorithms(True, warn_only=True)  # the same command, the same numbers
    split = load(args.data, args.split, seed=args.split_seed or 0)
    if split.remark:
        print(f"warning: {args.data}: {split.remark}", file=sys.stderr)
    model = build(args).to(args.device)
    penalised = Penalised(model, args.penalties, parse("ratio"), args.penalty_every)
    started = time.perf_counter()
    penalised.value()
    warn_of_long(args, time.perf_counter() - started, len(split.train))
    optimisers = {"adam": torch.optim.Adam, "gd": torch.optim.SGD}
    optimiser = optimisers[args.optimiser](model.parameters(), lr=args.learning_rate)
    ratings = (Observed(split.train, args.device), Observed(split.test, args.device))
    with SnapshotWriter(args.out, describe(args, model, split)) as writer:
        try:
            result = train(args, model, optimiser, penalised, ratings, writer)
        except FloatingPointError as error:
            raise Diverged(
                f"training diverged, {error}, and is kept in {args.out} up to the epoch before; "
                f"lower --lr, which is {args.learning_rate:g}"
            ) from error
    print(conclusion(args, result, split))
    print(f"rankscope analyze {args.out}")
    return result


def build(args: Args) -> RatingModel:
    """The model at its initialisation."""
    from torch import Generator

    from trainers.movielens.files import ITEMS, USERS
    from trainers.movielens.models import DepthOne, Embedding

    # On the CPU, so that a seed means the same on every device.
    generator = Generator().manual_seed(args.seed)
    if args.model == DEPTH1:
        return DepthOne(USERS, ITEMS, generator, "global" if args.bias == "global" else "user-item")
    return Embedding(USERS, ITEMS, args.columns, generator)


def warn_of_long(args: Args, seconds: float, ratings: int) -> None:
    """Say so where the penalty's gradients will take long.

    Args:
        args: what was chosen.
        seconds: that one of them takes.
        ratings: to train on.
    """
    updates = -(-ratings // (args.batch_size or ratings)) * args.epochs
    minutes = seconds * updates / args.penalty_every / 60
    if minutes > LONG_MINUTES:
        print(
            f"the penalty's gradient takes {seconds:.2g} s, all of them up to {minutes / 60:.1f} "
            f"hours; --penalty-every N takes one for N of the {updates} updates, approximately",
            file=sys.stderr,
        )


def describe(args: Args, model: RatingModel, split: Split) -> RunRecord:
    """What run.json says."""
    terms = [f"{strength:g} on {table}" for table, strength in args.penalties.items() if strength]
    said = [f"ratio penalty {' and '.join(terms)}" if terms else "no penalty", f"{args.loss} loss"]
    if args.penalty_every > 1:
        said.append(f"penalty's gradient every {args.penalty_every} updates")
    if args.clip:
        said.append("errors of predictions clipped to 1 to 5")
    shape = f"bias {args.bias}" if args.model == DEPTH1 else f"dimension {args.columns}"
    plain = descent_name(factors=False, penalised=bool(terms))
    drawn = f", split by seed {args.split_seed or 0}" if args.split in RANDOM else ""
    return RunRecord(
        model=", ".join([args.model, shape, *said]),
        matrices=tuple(
            MatrixRecord(
                table,
                "linear" if args.model == DEPTH1 else "embedding",
                tuple(model.get_parameter(table).shape),
            )
            for table in model.tables
        ),
        optimiser=Optimiser(plain if args.optimiser == "gd" else args.optimiser),
        hyperparameters=Hyperparameters(
            batch_size=args.batch_size or len(split.train),
            lr=args.learning_rate,
            weight_decay=0.0,
            schedule=(),
        ),
        data=f"MovieLens-100K's {split.name}: {len(split.train)} training and "
        f"{len(split.test)} test ratings{drawn}; losses are root-mean-square errors",
        seed=args.seed,
    )


def train(
    args: Args,
    model: RatingModel,
    optimiser: Optimizer,
    penalised: Penalised,
    ratings: tuple[Observed, Observed],
    writer: SnapshotWriter,
) -> Result:
    """The training loop: one log record per epoch, a snapshot where one is due.

    Args:
        args: what was chosen.
        model: on its device.
        optimiser: of its parameters.
        penalised: its penalties.
        ratings: those to train on, those to test on.
        writer: of the run directory.

    Raises:
        FloatingPointError: training diverged; the epoch is not recorded.
    """
    from torch import Generator

    from trainers.movielens.training import rmse, train_epoch

    due = snapshot_epochs(args.epochs, args.snapshots)
    order = Generator().manual_seed(args.seed)
    batch_size = args.batch_size or len(ratings[0])
    step = rises = 0
    errors: list[Errors] = []
    while True:
        epoch = len(errors)
        errors.append(Errors(*(rmse(model, some, clip=args.clip) for some in ratings)))
        rises = rises + 1 if epoch and errors[-1].train > errors[-2].train else 0
        ends = epoch == args.epochs or 0 < args.patience <= rises
        record = log_record(args, epoch, errors[-1])
        if ends or epoch in due:
            writer.save(step, model, record)
        else:
            writer.log(step, record)
        show(args, epoch, errors[-1])
        if ends:
            return Result.of([error.test for error in errors])
        for _ in train_epoch(
            model, ratings[0], optimiser, penalised, batch_size, order, summed=args.loss == "sum"
        ):
            step += 1


def log_record(args: Args, epoch: int, errors: Errors) -> LogRecord:
    """A line of log.jsonl."""
    return LogRecord(
        epoch=epoch,
        lr=args.learning_rate,
        batch_size=args.batch_size or None,
        train_loss=errors.train,
        test_loss=errors.test,
    )


def show(args: Args, epoch: int, errors: Errors) -> None:
    """One line of progress, at some of the epochs."""
    if epoch * PROGRESS_LINES // args.epochs > (epoch - 1) * PROGRESS_LINES // args.epochs:
        print(
            f"epoch {epoch:>{len(str(args.epochs))}}/{args.epochs}  RMSE on training ratings "
            f"{errors.train:.3f}, on test ratings {errors.test:.3f}",
            file=sys.stderr,
            flush=True,
        )


def conclusion(args: Args, result: Result, split: Split) -> str:
    """The test error; for MovieLens-100K itself beside what P2 has for such a run."""
    text = (
        f"RMSE over {len(split.test)} test ratings {result.test_rmse:.3f} after epoch "
        f"{result.epochs}; lowest {result.best_rmse:.3f} after epoch {result.best_epoch}"
    )
    penalised = any(args.penalties.values())
    paper = reported(args.model, args.optimiser, args.split, penalised=penalised)
    if paper is None or split.remark:
        return text
    return f"{text}\nP2, Table 2: {paper:.3f}; difference {result.test_rmse - paper:+.3f}"
