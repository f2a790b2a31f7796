"""P1's experiment: a network, images, SGD with weight decay, a snapshot now and then.

    python -m trainers classify --arch mlp-bn-3-64 --data digits --out runs/mine

Plain SGD on cross-entropy with weight decay on every parameter, P1's schedule (appendix B.1) in
proportion to the run, its augmentation on request. A run that was killed goes on where it was:
`state.pt` holds the model, the optimiser and every random state as of the end of an epoch.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rankscope.errors import UsageError
from rankscope.snapshots import Hyperparameters, LogRecord, Optimiser, RunRecord, SnapshotWriter
from trainers.imageargs import Args, add_arguments, from_options
from trainers.imagestate import STATE, Keeper, Training
from trainers.schedule import burst_steps, rate_changes, snapshot_epochs

if TYPE_CHECKING:
    from trainers.data import Images

__all__ = ["Args", "add_arguments", "from_options", "run"]

RESUMES = True  # an interrupted run goes on by the same command


def run(args: Args) -> None:
    """Train, and write the run directory; or go on with what is there.

    Raises:
        UsageError: a choice that makes no sense, or a directory that holds another run.
        InputRejected: the data set's files are missing or damaged.
        OutputFailed: the directory cannot be written to.
    """
    import torch

    from trainers.data import load
    from trainers.speed import settle

    settle(args.device, args.precision, args.graph)  # a resumed run ends as it would have
    images = load(args.data, args.data_dir, limit=args.limit, device=args.device)
    check(args, len(images.train_labels))
    training = started(args, images)
    with SnapshotWriter(args.out, describe(args, training, images), contents=args.save) as writer:
        keeper = Keeper(args.out / STATE)
        if keeper.path.exists():
            training.restore(torch.load(keeper.path, map_location="cpu", weights_only=True))
            print(
                f"going on from epoch {training.epoch}/{args.epochs}", file=sys.stderr, flush=True
            )
        train(args, training, images, writer, keeper)
    print(f"rankscope analyze {args.out}")


def check(args: Args, count: int) -> None:
    """Refuse what does not go with so many training images.

    Raises:
        UsageError: a batch or a step that there is not.
    """
    if args.batch_size > count:
        raise UsageError(f"B is {args.batch_size}, and there are {count} images")
    most = count // args.batch_size * args.epochs
    if max(args.steps, default=0) > most:
        raise UsageError(f"steps holds {max(args.steps)}, and the run ends after {most}")


def started(args: Args, images: Images) -> Training:
    """A run before its first update."""
    import numpy as np
    import torch

    from trainers.data import P1_POLICY, PLAIN_POLICY, Augment
    from trainers.networks import build

    torch.manual_seed(args.seed)
    shape = image_shape(images)
    model = build(args.arch, shape, images.classes, leaky_relu=args.leaky_relu).to(args.device)
    if args.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=args.mu,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        nesterov=args.nesterov,
        fused=next(model.parameters()).is_cuda or None,
    )
    # Two streams: the order of the images tells nothing of what is done to them. PyTorch's
    # generator takes 32 bits of a seed.
    other = np.random.SeedSequence(args.seed, spawn_key=(1,)).generate_state(1)
    draws = torch.Generator().manual_seed(int(other[0]))
    augment = Augment(images, draws, P1_POLICY if args.augment else PLAIN_POLICY)
    return Training(model, optimiser, augment, torch.Generator().manual_seed(args.seed))


def image_shape(images: Images) -> tuple[int, int, int]:
    """Channels, height and width of an image."""
    _, channels, height, width = images.train_images.shape
    return channels, height, width


def describe(args: Args, training: Training, images: Images) -> RunRecord:
    """What run.json says."""
    from trainers.networks import records

    steps = len(images.train_labels) // args.batch_size
    rates = [args.learning_rate(epoch) for epoch in range(args.epochs)]
    # All but the graph of the same step, which changes no bit.
    variants = [
        words
        for words, chosen in (
            (" with leaky ReLU", args.leaky_relu),
            (f", {args.precision}", args.precision != "fp32"),
            (", channels last", args.channels_last),
            (", compiled", args.graph == "compile"),
        )
        if chosen
    ]
    done = "cropped, flipped, rotated and standardised" if args.augment else "standardised"
    return RunRecord(
        model=args.arch + "".join(variants),
        matrices=records(training.model, image_shape(images)),
        optimiser=Optimiser("sgd", momentum=args.momentum, nesterov=args.nesterov),
        hyperparameters=Hyperparameters(
            batch_size=args.batch_size,
            lr=args.mu,
            weight_decay=args.weight_decay,
            schedule=rate_changes(rates, steps),
        ),
        data=f"{images.name}, {len(images.train_labels)} training and "
        f"{len(images.test_labels)} test images, {done}",
        seed=args.seed,
    )


def train(
    args: Args, training: Training, images: Images, writer: SnapshotWriter, keeper: Keeper
) -> None:
    """The training loop: one log record per epoch, a snapshot or a burst where one is due."""
    from trainers.classify import Update, train_epoch
    from trainers.speed import accelerated, channels_last

    model, labels = training.model, images.train_labels
    due = snapshot_epochs(args.epochs, args.snapshots, args.every)
    updates = len(labels) // args.batch_size
    within = burst_steps(due, updates, args.burst).union(args.steps)
    if training.epoch == 0:
        finish_epoch(args, training, images, writer, saves=True)
        keeper.keep(training, writer)
    compiled = args.graph == "compile"
    update = Update(model, training.optimiser, bf16=args.precision == "bf16", compiled=compiled)
    step = accelerated(update, args.graph)
    batch = channels_last(training.augment) if args.channels_last else training.augment
    while training.epoch < args.epochs:
        update.set_rate(args.learning_rate(training.epoch))
        for _ in train_epoch(model, step, batch, labels, args.batch_size, training.order):
            training.step += 1
            if training.step in within and not writer.saved(training.step):
                writer.save(training.step, model)
        training.epoch += 1
        finish_epoch(args, training, images, writer, saves=training.epoch in due)
        if keeper.due or training.epoch == args.epochs:
            keeper.keep(training, writer)


def finish_epoch(
    args: Args, training: Training, images: Images, writer: SnapshotWriter, *, saves: bool
) -> None:
    """Evaluate, log, and save if it is time."""
    record = evaluate(args, training, images)
    if saves and not writer.saved(training.step):
        writer.save(training.step, training.model, record)
    else:
        writer.log(training.step, record)
    print(
        f"epoch {training.epoch}/{args.epochs}  lr {record.lr:g}  train loss "
        f"{record.train_loss:.3f}  test accuracy {record.test_accuracy:.3f}",
        file=sys.stderr,
        flush=True,
    )


def evaluate(args: Args, training: Training, images: Images) -> LogRecord:
    """Loss and accuracy on all training and all test images, none of them augmented."""
    from trainers.classify import score

    model, prepare = training.model, training.augment.standardise
    bf16 = args.precision == "bf16"
    train = score(model, images.train_images, images.train_labels, prepare, bf16=bf16)
    test = score(model, images.test_images, images.test_labels, prepare, bf16=bf16)
    return LogRecord(
        epoch=training.epoch,
        lr=args.learning_rate(max(training.epoch - 1, 0)),
        weight_decay=args.weight_decay,
        momentum=args.momentum,
        batch_size=args.batch_size,
        train_loss=train[0],
        test_loss=test[0],
        train_accuracy=train[1],
        test_accuracy=test[1],
    )
