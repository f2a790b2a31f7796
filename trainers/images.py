"""P1's experiment: a network, images, SGD with weight decay, a snapshot now and then.

    python -m trainers classify --arch mlp-bn-3-64 --data digits --out runs/mine

Plain SGD on cross-entropy with weight decay on every parameter, P1's schedule (appendix B.1) in
proportion to the run, its augmentation on request. A run that was killed goes on where it was:
`state.pt` holds the model, the optimiser and every random state as of the last whole epoch.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankscope.errors import UsageError
from rankscope.snapshots import Hyperparameters, LogRecord, Optimiser, RunRecord, SnapshotWriter
from trainers.schedule import P1_DROPS, burst_steps, drops_passed, snapshot_epochs

if TYPE_CHECKING:
    import torch

    from trainers.data import Augment, Images
    from trainers.networks import Network

STATE = "state.pt"

# P1, appendix B.1, has the ViT drop by 5 at epochs 60 and 100 of 200; all others by 10.
VIT_DROPS = (60 / 200, 100 / 200)
FACTORS = {"vit": 0.2}
FACTOR = 0.1


@dataclass(frozen=True)  # without slots, so that Args.mu is the default
class Args:
    """What can be chosen.

    Attributes:
        out: the run directory; a run of the same choices in it goes on.
        arch: resnet18, vgg16, mlp-bn-L-H, res-bn-L-H or vit.
        data: cifar10, mnist, fashion-mnist, svhn, digits or synthetic.
        data_dir: where the data set's original files lie; digits and synthetic need none.
        limit: at most so many training and so many test images; None for all.
        augment: crop, flip and rotate as P1 does; else standardise only.
        leaky_relu: as P1's authors' code has it, in place of the paper's ReLU.
        batch_size: B. The rest of an epoch that fills no batch is left out.
        mu: initial learning rate.
        weight_decay: PyTorch's; the theorem's lambda is half of it.
        momentum: 0 for plain SGD, which the theorem is about.
        nesterov: whether the momentum is Nesterov's.
        lr_factor: by which the learning rate drops; None for P1's, 0.1, or 0.2 for the ViT.
        epochs: passes over the training images.
        snapshots: how many to save beside the initialisation, evenly spread over the epochs.
        burst: how many consecutive steps to save up to each of these, for `rankscope certify`.
        seed: of the initialisation, the order of the images and the augmentation.
        device: cpu, cuda, or as PyTorch calls it.
    """

    out: Path
    arch: str = "mlp-bn-3-64"
    data: str = "digits"
    data_dir: Path | None = None
    limit: int | None = None
    augment: bool = False
    leaky_relu: bool = False
    batch_size: int = 16
    mu: float = 0.1
    weight_decay: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    lr_factor: float | None = None
    epochs: int = 20
    snapshots: int = 10
    burst: int = 1
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        # Batch norm needs two samples to take a variance.
        counts = dict.fromkeys(("epochs", "snapshots", "burst"), 1)
        for name, minimum in {**counts, "batch_size": 2, "seed": 0}.items():
            if getattr(self, name) < minimum:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least {minimum}")
        for name in ("mu", "weight_decay", "momentum"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} is {getattr(self, name)}, expected a number from 0")
        if self.momentum >= 1:
            raise UsageError(f"momentum is {self.momentum}, expected a number below 1")
        if self.nesterov and not self.momentum:
            raise UsageError("nesterov needs a momentum above 0")

    def learning_rate(self, epoch: int) -> float:
        """That of an epoch, counted from 0."""
        drops = VIT_DROPS if self.arch == "vit" else P1_DROPS
        factor = FACTORS.get(self.arch, FACTOR) if self.lr_factor is None else self.lr_factor
        return float(self.mu * factor ** drops_passed(drops, epoch, self.epochs))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of this driver."""
    parser.add_argument("--out", type=Path, required=True, help="the run directory to write")
    parser.add_argument(
        "--arch", default=Args.arch, help="resnet18, vgg16, mlp-bn-L-H, res-bn-L-H or vit"
    )
    parser.add_argument(
        "--data", default=Args.data, help="cifar10, mnist, fashion-mnist, svhn, digits, synthetic"
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where its files lie")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many images")
    parser.add_argument("--augment", action="store_true", help="crop, flip and rotate, as P1 does")
    parser.add_argument("--leaky-relu", action="store_true", help="as P1's authors' code has it")
    for flag, name, meaning in (
        ("--B", "batch_size", "batch size"),
        ("--epochs", "epochs", "passes over the training images"),
        ("--snapshots", "snapshots", "how many to save beside the initialisation"),
        ("--burst", "burst", "consecutive steps to save up to each snapshot"),
        ("--seed", "seed", "of the initialisation, the order and the augmentation"),
    ):
        default = getattr(Args, name)
        words = f"{meaning} (default {default})"
        parser.add_argument(flag, dest=name, type=int, default=default, metavar="N", help=words)
    for flag, name, meaning in (
        ("--mu", "mu", "initial learning rate"),
        ("--momentum", "momentum", "of SGD"),
    ):
        default = getattr(Args, name)
        words = f"{meaning} (default {default})"
        parser.add_argument(flag, dest=name, type=float, default=default, metavar="X", help=words)
    parser.add_argument("--nesterov", action="store_true", help="take Nesterov's momentum")
    parser.add_argument(
        "--lr-factor", type=float, metavar="X", help="of each drop (default 0.1, the ViT's 0.2)"
    )
    decay = parser.add_mutually_exclusive_group()
    decay.add_argument(
        "--weight-decay",
        type=float,
        default=Args.weight_decay,
        metavar="X",
        help=f"PyTorch's, twice the theorem's lambda (default {Args.weight_decay})",
    )
    decay.add_argument(
        "--lambda", type=float, metavar="X", dest="lambda_", help="the theorem's lambda"
    )
    parser.add_argument("--device", default=Args.device, help="cpu (default) or cuda")


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    chosen = {part.name: getattr(options, part.name) for part in fields(Args)}
    if options.lambda_ is not None:
        chosen["weight_decay"] = 2 * options.lambda_
    return Args(**chosen)


@dataclass(slots=True)
class Training:
    """A run at the end of an epoch: everything that the next one depends on.

    Attributes:
        model: on its device.
        optimiser: of its parameters.
        augment: makes batches; its generator is part of the state.
        order: draws the order of the images.
        epoch: passes done.
        step: updates done.
    """

    model: Network
    optimiser: torch.optim.Optimizer
    augment: Augment
    order: torch.Generator
    epoch: int = 0
    step: int = 0

    def state(self) -> dict[str, Any]:
        """All of it as tensors and numbers."""
        import torch

        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "order": self.order.get_state(),
            "augment": self.augment.generator.get_state(),
            "torch": torch.get_rng_state(),  # dropout draws from it
            "cuda": torch.cuda.get_rng_state_all(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        import torch

        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.order.set_state(state["order"])
        self.augment.generator.set_state(state["augment"])
        torch.set_rng_state(state["torch"])
        torch.cuda.set_rng_state_all(state["cuda"])


def run(args: Args) -> None:
    """Train, and write the run directory; or go on with what is there.

    Raises:
        UsageError: a choice that makes no sense, or a directory that holds another run.
        InputRejected: the data set's files are missing or damaged.
        OutputFailed: the directory cannot be written to.
    """
    import torch

    from trainers.data import P1_POLICY, PLAIN_POLICY, Augment, load
    from trainers.networks import build

    torch.use_deterministic_algorithms(True, warn_only=True)  # a resumed run ends as it would have
    torch.manual_seed(args.seed)
    images = load(args.data, args.data_dir, limit=args.limit, device=args.device)
    if args.batch_size > len(images.train_labels):
        raise UsageError(f"B is {args.batch_size}, and there are {len(images.train_labels)} images")
    _, channels, height, width = images.train_images.shape
    shape = (channels, height, width)
    model = build(args.arch, shape, images.classes, leaky_relu=args.leaky_relu).to(args.device)
    # Two streams: the order of the images tells nothing of what is done to them.
    draws = torch.Generator().manual_seed(args.seed + 2**32)
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=args.mu,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        nesterov=args.nesterov,
    )
    augment = Augment(images, draws, P1_POLICY if args.augment else PLAIN_POLICY)
    order = torch.Generator().manual_seed(args.seed)
    training = Training(model, optimiser, augment, order)
    with SnapshotWriter(args.out, describe(args, model, images, shape)) as writer:
        kept = args.out / STATE
        if kept.exists():
            training.restore(torch.load(kept, map_location="cpu", weights_only=True))
        train(args, training, images, writer)
    print(f"rankscope analyze {args.out}")


def describe(args: Args, model: Network, images: Images, shape: tuple[int, int, int]) -> RunRecord:
    """What run.json says."""
    from trainers.networks import records

    steps = len(images.train_labels) // args.batch_size
    rates = [args.learning_rate(epoch) for epoch in range(args.epochs)]
    changes = [epoch for epoch in range(1, args.epochs) if rates[epoch] != rates[epoch - 1]]
    done = "cropped, flipped, rotated and standardised" if args.augment else "standardised"
    return RunRecord(
        model=args.arch + (" with leaky ReLU" if args.leaky_relu else ""),
        matrices=records(model, shape),
        optimiser=Optimiser("sgd", momentum=args.momentum, nesterov=args.nesterov),
        hyperparameters=Hyperparameters(
            batch_size=args.batch_size,
            lr=args.mu,
            weight_decay=args.weight_decay,
            schedule=tuple((epoch * steps, rates[epoch]) for epoch in changes),
        ),
        data=f"{images.name}, {len(images.train_labels)} training and "
        f"{len(images.test_labels)} test images, {done}",
        seed=args.seed,
    )


def train(args: Args, training: Training, images: Images, writer: SnapshotWriter) -> None:
    """The training loop: one log record per epoch, a snapshot or a burst where one is due."""
    from trainers.classify import train_epoch

    model, labels = training.model, images.train_labels
    due = snapshot_epochs(args.epochs, args.snapshots)
    burst = burst_steps(due, len(labels) // args.batch_size, args.burst)
    if training.epoch == 0:
        finish_epoch(args, training, images, writer, saves=True)
    while training.epoch < args.epochs:
        for group in training.optimiser.param_groups:
            group["lr"] = args.learning_rate(training.epoch)
        for _ in train_epoch(
            model, training.augment, labels, training.optimiser, args.batch_size, training.order
        ):
            training.step += 1
            if training.step in burst and not writer.saved(training.step):
                writer.save(training.step, model)
        training.epoch += 1
        finish_epoch(args, training, images, writer, saves=training.epoch in due)


def finish_epoch(
    args: Args, training: Training, images: Images, writer: SnapshotWriter, *, saves: bool
) -> None:
    """Evaluate, log, save if it is time; then keep the state, of which all of this is a part."""
    record = evaluate(args, training, images)
    if saves and not writer.saved(training.step):
        writer.save(training.step, training.model, record)
    else:
        writer.log(training.step, record)
    writer.flush()  # the state must not be ahead of the snapshots
    keep(training, args.out / STATE)
    print(
        f"epoch {training.epoch}/{args.epochs}  lr {record.lr:g}  train loss "
        f"{record.train_loss:.3f}  test accuracy {record.test_accuracy:.3f}",
        file=sys.stderr,
        flush=True,
    )


def keep(training: Training, path: Path) -> None:
    """Write the state, whole or not at all."""
    import torch

    temporary = path.with_name(f".{path.name}.tmp")
    torch.save(training.state(), temporary)
    os.replace(temporary, path)


def evaluate(args: Args, training: Training, images: Images) -> LogRecord:
    """Loss and accuracy on all training and all test images, none of them augmented."""
    from trainers.classify import score

    model, prepare = training.model, training.augment.standardise
    train = score(model, images.train_images, images.train_labels, prepare)
    test = score(model, images.test_images, images.test_labels, prepare)
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
