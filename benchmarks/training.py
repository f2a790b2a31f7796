"""Images a second that `python -m trainers classify` trains on, and what its snapshots cost.

On a CUDA device if there is one, with every option; else less on the CPU, with those that it has.
The time of an epoch is computed from that of a step. An epoch ends when its snapshot is on the disk
and its state kept.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rankscope.snapshots import Contents, SnapshotWriter
from trainers.imageargs import Graph, Precision

if TYPE_CHECKING:
    from trainers.imagestate import Training
    from trainers.networks import Network

CIFAR = 50_000  # training images, of an epoch in the figures below
ROUNDS = 5
SAVES = 5


@dataclass(frozen=True)
class Setting:
    """What is trained.

    Attributes:
        arch: the network.
        side: of its images, with three channels.
        batch_size: B.
        steps: of a round.
    """

    arch: str
    side: int
    batch_size: int
    steps: int

    @property
    def title(self) -> str:
        """As in a heading."""
        return f"{self.arch}, 3x{self.side}x{self.side}, B = {self.batch_size}"


@dataclass(frozen=True)
class Choice:
    """Options of `classify`, by their names there."""

    precision: Precision = "fp32"
    channels_last: bool = False
    graph: Graph = "none"

    @property
    def title(self) -> str:
        """As in the first column."""
        launched = "" if self.graph == "none" else f", {self.graph}"
        return f"{self.precision}{', channels last' if self.channels_last else ''}{launched}"


# A ResNet-18's images are small here, as a step on CIFAR's takes seconds.
ON_CPU = (Setting("mlp-bn-10-100", 32, 16, 128), Setting("resnet18", 8, 16, 8))
ON_CUDA = (
    Setting("resnet18", 32, 16, 512),
    Setting("resnet18", 32, 128, 64),
    Setting("mlp-bn-10-100", 32, 16, 512),
)
CPU_CHOICES = (Choice(), Choice(channels_last=True), Choice("bf16"), Choice("bf16", True))
CUDA_CHOICES = (
    Choice(),
    *(
        Choice(precision, last, graph)
        for precision in get_args(Precision)
        for last in (False, True)
        for graph in get_args(Graph)
        if (precision, last, graph) != ("fp32", False, "none")
    ),
)


class Runner:
    """A network in training."""

    def __init__(self, setting: Setting, choice: Choice, device: str) -> None:
        import torch

        from trainers.classify import Update, train_epoch
        from trainers.data import Augment, Task, synthetic
        from trainers.imagestate import Training
        from trainers.networks import build
        from trainers.speed import accelerated, channels_last, settle

        self.setting, self.choice, self.device = setting, choice, device
        settle(device, choice.precision, choice.graph)
        task = Task(train=setting.steps * setting.batch_size, test=10, side=setting.side)
        images = synthetic(task).to(device)
        model: Network = build(setting.arch, (3, setting.side, setting.side), 10).to(device)
        if choice.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        fused = device == "cuda" or None
        optimiser = torch.optim.SGD(model.parameters(), weight_decay=5e-4, fused=fused)
        bf16, compiled = choice.precision == "bf16", choice.graph == "compile"
        update = Update(model, optimiser, bf16=bf16, compiled=compiled)
        update.set_rate(0.01)
        step = accelerated(update, choice.graph)
        augment = Augment(images, torch.Generator().manual_seed(0))
        batch = channels_last(augment) if choice.channels_last else augment
        order = torch.Generator().manual_seed(0)
        self.training = Training(model, optimiser, augment, order)

        def steps() -> Iterator[None]:
            while True:
                size, labels = setting.batch_size, images.train_labels
                yield from train_epoch(model, step, batch, labels, size, order)

        self._steps = steps()

    def round(self) -> float:
        """Seconds that a round takes, until the device is done."""
        import torch

        from trainers.speed import settle

        settle(self.device, self.choice.precision, self.choice.graph)
        start = time.perf_counter()
        for _ in islice(self._steps, self.setting.steps):
            pass
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def bench_training(folder: Path) -> None:
    """Every setting with every choice, in turns; then the snapshots."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} cores"
    print(f"\n## Training, PyTorch {torch.__version__}, {where}")
    if device == "cpu":
        print("\nOn a GPU: not measured.")
    found = [measured(one, device) for one in (ON_CUDA if device == "cuda" else ON_CPU)]
    print("\n### A snapshot and the state after each epoch of 50,000 images\n")
    print("| | saved | epoch, s | copied, ms | on the disk, ms | state, ms | share of the epoch |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for runner, step in found:
        epoch = step * (CIFAR // runner.setting.batch_size)
        for contents in get_args(Contents):
            copied, written, kept = saving(runner.training, contents, folder)
            figures = " | ".join(f"{seconds * 1e3:.1f}" for seconds in (copied, written, kept))
            share = (written + kept) / epoch
            title = f"{runner.setting.title} | {contents}"
            print(f"| {title} | {epoch:.1f} | {figures} | {share:.3%} |")


def measured(setting: Setting, device: str) -> tuple[Runner, float]:
    """A table of the choices; the first, and its seconds for a step."""
    choices = CUDA_CHOICES if device == "cuda" else CPU_CHOICES
    runners = [Runner(setting, choice, device) for choice in choices]
    for runner in runners:
        runner.round()  # compiles, records
    rounds = [[runner.round() for runner in runners] for _ in range(ROUNDS)]
    images = setting.steps * setting.batch_size
    print(f"\n### {setting.title}\n\n| | images/s | to the first |\n|---|---:|---:|")
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    for choice, median in zip(choices, medians, strict=True):
        print(f"| {choice.title} | {images / median:.0f} | {medians[0] / median:.2f} |")
    return runners[0], float(medians[0]) / setting.steps


def saving(training: Training, contents: Contents, folder: Path) -> tuple[float, float, float]:
    """Seconds until `save` returns, until the snapshot is on the disk, and that the state takes."""
    from trainers.imagestate import Keeper

    times = []
    with (
        tempfile.TemporaryDirectory(dir=folder) as run,
        SnapshotWriter(run, contents=contents) as writer,
    ):
        for step in range(SAVES):
            start = time.perf_counter()
            writer.save(step, training.model)
            copied = time.perf_counter()
            writer.flush()
            written = time.perf_counter()
            Keeper(Path(run) / "state.pt").keep(training, writer)
            end = time.perf_counter()
            times.append((copied - start, written - start, end - written))
    first, second, third = (statistics.median(one) for one in zip(*times, strict=True))
    return first, second, third
