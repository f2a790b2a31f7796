"""What can be chosen of P1's experiment, in Python and on the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from rankscope.errors import UsageError
from rankscope.snapshots import Contents
from trainers.schedule import P1_DROPS, drops_passed

# P1, appendix B.1, has the ViT drop by 5 at epochs 60 and 100 of 200; all others by 10.
VIT_DROPS = (60 / 200, 100 / 200)
FACTORS = {"vit": 0.2}
FACTOR = 0.1

Precision = Literal["fp32", "tf32", "bf16"]
Graph = Literal["none", "cuda-graph", "compile"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
GRAPHS: tuple[str, ...] = get_args(Graph)
SAVED: tuple[str, ...] = get_args(Contents)
CUDA_ONLY = ("tf32", "cuda-graph")


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
        every: how many epochs from one to the next, in place of `snapshots`.
        steps: at which steps to save besides, each counted from 1.
        burst: how many consecutive steps to save up to each of these, for `rankscope certify`.
        save: weights; spectra, a thousandth of the size; or both.
        seed: of the initialisation, the order of the images and the augmentation.
        device: cpu, cuda, or as PyTorch calls it.
        precision: fp32; tf32, which rounds what goes into matrix products and convolutions on an
            NVIDIA GPU; or bf16, autocast. Weights, their updates and snapshots are float32.
        channels_last: how activations and convolutions' weights lie in memory; no number changes
            but by round-off.
        graph: none; cuda-graph, a step in one launch, the same to the bit; or compile, also of
            fewer kernels, which changes round-off.
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
    every: int | None = None
    steps: tuple[int, ...] = ()
    burst: int = 1
    save: Contents = "weights"
    seed: int = 0
    device: str = "cpu"
    precision: Precision = "fp32"
    channels_last: bool = False
    graph: Graph = "none"

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
        for name, choices in (("save", SAVED), ("precision", PRECISIONS), ("graph", GRAPHS)):
            _check_choice(name, getattr(self, name), choices, self.device)
        self._check_snapshots()

    def _check_snapshots(self) -> None:
        if self.every is not None and self.every < 1:
            raise UsageError(f"every is {self.every}, expected at least 1")
        if min(self.steps, default=1) < 1:
            raise UsageError(f"steps holds {min(self.steps)}, expected steps from 1")
        if self.burst > 1 and self.save == "spectra":
            reason = "a burst is for certificates, which need weights"
            raise UsageError(f"{reason}: save weights or both")

    def learning_rate(self, epoch: int) -> float:
        """That of an epoch, counted from 0."""
        drops = VIT_DROPS if self.arch == "vit" else P1_DROPS
        factor = FACTORS.get(self.arch, FACTOR) if self.lr_factor is None else self.lr_factor
        return float(self.mu * factor ** drops_passed(drops, epoch, self.epochs))


def _check_choice(name: str, chosen: str, choices: tuple[str, ...], device: str) -> None:
    if chosen not in choices:
        raise UsageError(f"{name} is {chosen!r}, expected one of {', '.join(choices)}")
    if chosen in CUDA_ONLY and not device.startswith("cuda"):
        raise UsageError(f"{name} is {chosen}, which needs a CUDA device, and device is {device}")


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
        "--lr-factor",
        type=float,
        metavar="X",
        help="of each drop, after 12, 20 and 40 %% of the epochs (default 0.1); the ViT's are "
        "after 30 and 50 %% (default 0.2)",
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
    parser.add_argument("--every", type=int, metavar="N", help="save every N epochs instead")
    parser.add_argument(
        "--steps", type=_steps, default=Args.steps, metavar="N,N", help="save at these steps too"
    )
    for name, choices in (("save", SAVED), ("precision", PRECISIONS), ("graph", GRAPHS)):
        words = f"{', '.join(choices)} (default {getattr(Args, name)})"
        parser.add_argument(f"--{name}", default=getattr(Args, name), metavar="NAME", help=words)
    parser.add_argument("--channels-last", action="store_true", help="images' memory format")


def _steps(text: str) -> tuple[int, ...]:
    """Steps separated by commas; argparse reports what is none."""
    return tuple(int(part) for part in text.split(",") if part)


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    chosen = {part.name: getattr(options, part.name) for part in fields(Args)}
    if options.lambda_ is not None:
        chosen["weight_decay"] = 2 * options.lambda_
    return Args(**chosen)
