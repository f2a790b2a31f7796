"""What can be chosen of P1's experiment, in Python and on the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from rankscope.errors import UsageError
from trainers.schedule import P1_DROPS, drops_passed

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
