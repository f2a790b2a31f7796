"""Square layers on a card: against PyTorch's singular values there, and our CPU route beside it.

    python -m benchmarks.gpu --device cuda:0 --width 4096 --layers 8 --picture gpu.svg

The same on the host's tensors, to see that it works: `--device cpu --width 256 --layers 3`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import torch
from safetensors.numpy import save_file

from benchmarks.processes import run
from rankscope.accelerator import devices_for
from rankscope.accelerator.eigen import batch_limit, solved_batch
from rankscope.accelerator.lanes import Lane, full_float32, lane_of
from rankscope.accelerator.rates import Rates, rates_of
from rankscope.accelerator.reading import BLOCK_ELEMENTS
from rankscope.accelerator.streaming import grams_on
from rankscope.accelerator.summing import Sums
from rankscope.checkpoints import open_checkpoint
from rankscope.errors import UsageError
from rankscope.matrices import Selection, select
from rankscope.records import Checkpoint
from rankscope.solvers import solve
from rankscope.storedmatrix import StoredMatrix

SEED = 0
INIT_STD = 0.02  # as in models.py; the scale changes no timing
ROUNDS = 3
STAGES = ("read", "copy", "Gram matrix", "eigenvalues")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured.

    Attributes:
        device: `cuda:N`, or `cpu` for the host's tensors.
        width: rows and columns of each layer.
        layers: how many.
        picture: where the bars go; None for nowhere.
    """

    device: str
    width: int
    layers: int
    picture: Path | None = None


@dataclass(slots=True)
class Clock:
    """Seconds by stage, the device having finished before each is told.

    Attributes:
        lane: to the device.
        seconds: by stage.
    """

    lane: Lane
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What happens within counts as this stage."""
        start = time.perf_counter()
        yield
        self.lane.finish()
        self.seconds[name] += time.perf_counter() - start


def model(path: Path, asked: Asked) -> None:
    """Square layers in bf16, Gaussian."""
    rng = np.random.default_rng(SEED)
    shape = (asked.width, asked.width)
    tensors = {
        f"layers.{i}.weight": (
            rng.standard_normal(shape, dtype=np.float32) * np.float32(INIT_STD)
        ).astype(ml_dtypes.bfloat16)
        for i in range(asked.layers)
    }
    save_file(tensors, path)


def matrices(checkpoint: Checkpoint) -> list[StoredMatrix]:
    """Every layer."""
    return [StoredMatrix(checkpoint, spec) for spec in select(checkpoint.listing, Selection())[0]]


def stages(given: list[StoredMatrix], lane: Lane, slices: int) -> dict[str, float]:
    """Seconds of each stage, one after the other, nothing overlapping."""
    clock = Clock(lane)
    batch: list[Sums[StoredMatrix]] = []
    with lane.active(), full_float32():
        for matrix in given:
            sums = Sums.of(matrix, 1.0, slices, lane.device)
            blocks = matrix.blocks(1, BLOCK_ELEMENTS)
            while True:
                with clock.stage("read"):
                    stored = next(blocks, None)
                    staged = None if stored is None else lane.staged(stored)
                if staged is None:
                    break
                with clock.stage("copy"):
                    there = lane.sent(staged)()
                with clock.stage("Gram matrix"):
                    sums.add(there)
            batch.append(sums)
            if len(batch) == min(batch_limit(matrix.shape[0]), len(given)):
                with clock.stage("eigenvalues"):
                    assert len(list(solved_batch(batch, _forbidden))) == len(batch)
                batch = []
        with clock.stage("eigenvalues"):
            list(solved_batch(batch, _forbidden))
    return clock.seconds


def _forbidden(matrix: StoredMatrix) -> None:
    raise MemoryError(f"{matrix.spec.name} does not fit: take a smaller --width")


def together(given: list[StoredMatrix], device: str) -> None:
    """As a command does it, reading and copying beside computing."""
    assert len(list(grams_on(device, given))) == len(given)


def svdvals(given: list[StoredMatrix], lane: Lane) -> None:
    """PyTorch's singular values in float32, of weights that are read and copied as ours are."""
    for matrix in given:
        rows, columns = (slice(0, side) for side in matrix.shape)
        torch.linalg.svdvals(lane.sent(lane.staged(matrix.read(rows, columns)))().float())
    lane.finish()


def on_the_host(given: list[StoredMatrix]) -> None:
    """Our CPU route, one matrix after the other, with all of BLAS's threads."""
    for matrix in given:
        solve(matrix, "gram")


def seconds_of(work: Callable[[], None], rounds: int = ROUNDS) -> float:
    """The median."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def measured(path: Path, asked: Asked) -> tuple[dict[str, float], dict[str, float], Rates]:
    """Seconds a layer: of each stage; of each way, ours together first. And the device's rates."""
    lane, rates = lane_of(asked.device), rates_of(asked.device)
    with open_checkpoint(path) as checkpoint:
        given = matrices(checkpoint)
        together(given[:1], asked.device)  # kernels are loaded, the file is in the page cache
        svdvals(given[:1], lane)
        parts = stages(given, lane, rates.slices)
        ways = {
            f"ours on {asked.device}": seconds_of(lambda: together(given, asked.device)),
            f"svdvals fp32 on {asked.device}": seconds_of(lambda: svdvals(given, lane), 1),
            "ours, CPU route": seconds_of(lambda: on_the_host(given), 1),
        }
    each = len(given)
    return (
        {name: value / each for name, value in parts.items()},
        {name: value / each for name, value in ways.items()},
        rates,
    )


def show(asked: Asked, parts: dict[str, float], ways: dict[str, float], rates: Rates) -> None:
    """Two tables."""
    name = torch.cuda.get_device_name(asked.device) if "cuda" in asked.device else "host's tensors"
    print(f"\n### {asked.layers} layers of {asked.width} x {asked.width}, bf16: {name}")
    print(
        f"\nfp64 {rates.double / 1e9:.0f}, fp32 {rates.single / 1e9:.0f} GFLOP/s of products, "
        f"fp64 eigenvalues {rates.eigenvalues / 1e9:.0f}; at most {rates.slices} slices; "
        f"torch {torch.__version__}\n"
    )
    print("| | seconds a layer | to ours |\n|---|---:|---:|")
    first = next(iter(ways.values()))
    for way, seconds in ways.items():
        print(f"| {way} | {seconds:.4f} | {seconds / first:.1f} |")
    print("\n| one after the other | seconds a layer | share |\n|---|---:|---:|")
    for stage, seconds in parts.items():
        print(f"| {stage} | {seconds:.4f} | {seconds / sum(parts.values()):.0%} |")


def draw(path: Path, asked: Asked, parts: dict[str, float], ways: dict[str, float]) -> None:
    """A stacked bar of the stages, and beside it a bar for each way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 2.2), layout="constrained")
    axes = figure.add_subplot()
    left = 0.0
    for stage, seconds in parts.items():
        axes.barh("stages, one by one", seconds, left=left, label=stage)
        left += seconds
    for way, seconds in ways.items():
        axes.barh(way, seconds, color="0.6")
    axes.invert_yaxis()
    axes.set_xlabel(f"seconds a layer of {asked.width} x {asked.width}")
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path)


def whole_processes(path: Path, asked: Asked) -> None:
    """The command itself, its start included."""
    print("\n| whole process | seconds |\n|---|---:|")
    for device in dict.fromkeys((asked.device, "cpu")):
        command = [sys.executable, "-m", "rankscope", "analyze", str(path), "--no-store"]
        seconds = run([*command, "--device", device], {}).seconds
        print(f"| rankscope analyze --device {device} | {seconds:.2f} |")


def bench(folder: Path, asked: Asked) -> None:
    """All of it, printed and drawn."""
    path = folder / "layers.safetensors"
    model(path, asked)
    parts, ways, rates = measured(path, asked)
    show(asked, parts, ways, rates)
    whole_processes(path, asked)
    if asked.picture is not None:
        draw(asked.picture, asked, parts, ways)


def bench_gpu(folder: Path) -> None:
    """The first card; without one, that all of it runs, on the host and small."""
    if torch.cuda.is_available():
        bench(folder, Asked("cuda:0", 4096, 8, Path("gpu.svg")))
    else:
        print("\nno CUDA device: nothing measured; the same code on the host's tensors:")
        bench(folder, Asked("cpu", 256, 3))


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--picture", type=Path)
    asked = Asked(**vars(parser.parse_args()))
    try:
        devices_for(asked.device, 0.0)
    except UsageError as error:
        raise SystemExit(f"error: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        bench(Path(folder), asked)


if __name__ == "__main__":
    main()
