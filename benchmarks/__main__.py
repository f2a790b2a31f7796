"""`python -m benchmarks [NAME]...`, of those in `BENCHMARKS`: prints tables in Markdown.

Ours and the peer's take turns within one run, so that whatever else the machine does falls on
both; figures are medians, and the ratio is the figure to look at.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import models
from benchmarks.cluster import bench_cluster
from benchmarks.gpu import bench_gpu
from benchmarks.pages import bench_pages
from benchmarks.penalties import bench_penalties
from benchmarks.plan import bench_plan
from benchmarks.processes import run
from benchmarks.remote import bench_remote
from benchmarks.scale import bench_scale
from benchmarks.training import bench_training
from rankscope.checkpoints import open_checkpoint
from rankscope.matrices import Selection, select
from rankscope.plan import cost

PYTHON = sys.executable
RANKSCOPE = [PYTHON, "-m", "rankscope"]


def turns(
    commands: dict[str, list[str]], env: dict[str, str], rounds: int, *, memory: bool = False
) -> dict[str, tuple[float, int]]:
    """Median seconds and the largest peak of each command, run in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    peaks: dict[str, int] = dict.fromkeys(commands, 0)
    for _ in range(rounds):
        for name, command in commands.items():
            one = run(command, env, memory=memory)
            seconds[name].append(one.seconds)
            peaks[name] = max(peaks[name], one.peak_pss)
    return {name: (statistics.median(seconds[name]), peaks[name]) for name in commands}


def show(title: str, found: dict[str, tuple[float, int]]) -> None:
    """A table; ratios are to the first row."""
    print(f"\n### {title}\n\n| | seconds | to ours | peak PSS |\n|---|---:|---:|---:|")
    first = next(iter(found.values()))[0]
    for name, (seconds, peak) in found.items():
        memory = f"{peak / 1e6:.0f} MB" if peak else "-"
        print(f"| {name} | {seconds:.3f} | {seconds / first:.2f} | {memory} |")


def dgemm_rate() -> float:
    """Floating-point operations per second of NumPy's dgemm on all cores, best of five."""
    n = 3072
    a = np.random.default_rng(0).standard_normal((n, n))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def bench_llama(folder: Path) -> None:
    """242 M parameters in bf16 against svdvals, and against the floating-point limit."""
    path = folder / "llama.safetensors"
    models.llama(path)
    commands = {
        "rankscope analyze": [*RANKSCOPE, "analyze", str(path), "--no-store"],
        "torch.linalg.svdvals fp32": [PYTHON, "-m", "benchmarks.peers.svdvals", str(path)],
    }
    found = turns(commands, {}, 3, memory=True)
    show("242 M parameters, bf16, four Llama layers of width 2048", found)
    checkpoint = open_checkpoint(path)
    work = cost(select(checkpoint.listing, Selection())[0]).flops
    checkpoint.close()
    rate = dgemm_rate()
    limit = work / rate
    ratio = found["rankscope analyze"][0] / limit
    print(
        f"\nfloating-point limit: {work / 1e9:.0f} GFLOP at {rate / 1e9:.0f} GFLOP/s "
        f"= {limit:.2f} s; analyze takes {ratio:.2f} of it"
    )


def bench_minilm(folder: Path) -> None:
    """23 M parameters in fp32 against numpy."""
    path = folder / "minilm.safetensors"
    models.minilm(path)
    commands = {
        "rankscope analyze": [*RANKSCOPE, "analyze", str(path), "--no-store"],
        "numpy.linalg.svd fp32": [PYTHON, "-m", "benchmarks.peers.numpy_svd", str(path)],
    }
    found = turns(commands, {}, 7, memory=True)
    show("23 M parameters, fp32, six layers of width 384", found)


def bench_store(folder: Path) -> None:
    """A second run from the store, with another eps."""
    path = folder / "minilm-store.safetensors"
    models.minilm(path)
    os.utime(path, (models.OLD, models.OLD))
    env = {"XDG_CACHE_HOME": str(folder / "cache")}
    run([*RANKSCOPE, "analyze", str(path)], env)
    command = {"from the store, eps 0.01": [*RANKSCOPE, "analyze", str(path), "--eps", "0.01"]}
    show("The same model again", turns(command, env, 9))


def bench_run(folder: Path) -> None:
    """40 snapshots in one command, against one command a snapshot."""
    series, double = folder / "series", folder / "double"
    models.small_run(series, 40)
    models.small_run(double, 80)
    each = "; ".join(
        f"{' '.join(RANKSCOPE)} analyze {file} --no-store" for file in sorted(series.iterdir())
    )
    commands = {
        "40 snapshots, one command": [*RANKSCOPE, "analyze", str(series), "--no-store"],
        "40 snapshots, a command each": ["sh", "-c", each],
        "80 snapshots, one command": [*RANKSCOPE, "analyze", str(double), "--no-store"],
    }
    show("A run of small matrices", turns(commands, {}, 3))


def bench_theory(folder: Path) -> None:
    """500 snapshots of 20 matrices with bounds from a filled store, against decomposing alone."""
    path = folder / "long"
    models.long_run(path, 500, 20)
    run([*RANKSCOPE, "analyze", str(path)], {})
    commands = {
        "analyze with bounds, filled store": [*RANKSCOPE, "analyze", str(path)],
        "torch.linalg.svdvals, no metric": [PYTHON, "-m", "benchmarks.peers.svdvals", str(path)],
    }
    show("500 snapshots of 20 matrices, 128 x 128", turns(commands, {}, 5))
    burst = folder / "burst"
    digits = [PYTHON, "-m", "trainers", "digits", "--out", str(burst)]
    run([*digits, "--burst", "50", "--epochs", "1", "--snapshots", "1"], {})
    commands = {"certify, 788 pairs": [*RANKSCOPE, "certify", str(burst)]}
    show("50 consecutive steps of digits", turns(commands, {}, 5))


def bench_gate(folder: Path) -> None:
    """A released model of 1 000 tensors in 30 shards, 1 GB: planned, and checked unchanged."""
    model, ranks = folder / "released", folder / "ranks.json"
    models.sharded(model, 30, 111, 480)
    env = {"XDG_CACHE_HOME": str(folder / "cache")}
    run([*RANKSCOPE, "baseline", str(model), "-o", str(ranks)], env)
    check = [*RANKSCOPE, "check", str(model), "--baseline", str(ranks)]
    hashing = [PYTHON, "-m", "benchmarks.peers.hashing", str(model)]
    commands = {
        "inspect (headers and plan)": [*RANKSCOPE, "inspect", str(model)],
        "check --headers": [*check, "--headers"],
        "check, unchanged, from the store": check,
        "check --verify": [*check, "--verify"],
        "SHA-256 of the files, one thread": hashing,
    }
    size = sum(file.stat().st_size for file in model.iterdir())
    show(f"1 000 tensors in 30 shards, {size / 1e9:.2f} GB", turns(commands, env, 7))


def bench_headers(folder: Path) -> None:
    """Headers and plan of a model of 1 000 tensors, however it is stored."""
    safe, torches, distributed = models.headers(folder)
    peer = [PYTHON, "-m", "benchmarks.peers.headers"]
    commands = {
        "inspect, 30 safetensors shards": [*RANKSCOPE, "inspect", str(safe)],
        "inspect, 30 torch shards": [*RANKSCOPE, "inspect", str(torches)],
        "inspect, DCP of 8 ranks": [*RANKSCOPE, "inspect", str(distributed)],
        "torch.load(mmap=True), 30 torch shards": [*peer, str(torches)],
        "FileSystemReader.read_metadata, DCP": [*peer, str(distributed)],
        "python -c 'import torch'": [PYTHON, "-c", "import torch"],
    }
    show("Headers and plan of 1 000 tensors", turns(commands, {}, 7, memory=True))


def bench_adapter(folder: Path) -> None:
    """LoRA of rank 16 on 4096-wide layers through its factors, against forming the products."""
    many, few = folder / "adapter", folder / "few"
    models.adapter(many, 64)
    models.adapter(few, 2)  # what a peer does in this time, ours would do two hundred times
    analyze = [*RANKSCOPE, "analyze", "--no-store"]
    peer = [PYTHON, "-m", "benchmarks.peers.products"]
    commands = {
        "rankscope analyze, 64 products": ([*analyze, str(many)], 64),
        "rankscope analyze --route gram, 2": ([*analyze, "--route", "gram", str(few)], 2),
        "product, torch.linalg.svdvals fp32, 2": ([*peer, str(few)], 2),
    }
    found = turns({name: command for name, (command, _) in commands.items()}, {}, 3, memory=True)
    each = {name: (found[name][0] / count, found[name][1]) for name, (_, count) in commands.items()}
    show("LoRA of rank 16 on layers of 4096 x 4096: seconds a product, of whole processes", each)


def bench_start(folder: Path) -> None:
    """What starting costs."""
    del folder
    commands = {
        "rankscope --help": [*RANKSCOPE, "--help"],
        "rankscope bound": [*RANKSCOPE, "bound", "--B", "8", "--mu", "0.5"],
        "python -c 'import typer'": [PYTHON, "-c", "import typer"],
        "python -c pass": [PYTHON, "-c", "pass"],
        "python -c 'import rankscope'": [PYTHON, "-c", "import rankscope"],
    }
    show("Start", turns(commands, {}, 15))


BENCHMARKS: dict[str, Callable[[Path], None]] = {
    "start": bench_start,
    "minilm": bench_minilm,
    "store": bench_store,
    "run": bench_run,
    "theory": bench_theory,
    "gate": bench_gate,
    "headers": bench_headers,
    "adapter": bench_adapter,
    "llama": bench_llama,
    "training": bench_training,
    "penalties": bench_penalties,
    "pages": bench_pages,
    "cluster": bench_cluster,
    "remote": bench_remote,
    "plan": bench_plan,
    "scale": bench_scale,
    "gpu": bench_gpu,
}


def main() -> None:
    """Run the benchmarks named, or all."""
    print(f"{platform.platform()}, {os.cpu_count()} cores, NumPy {np.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or BENCHMARKS:
            BENCHMARKS[name](Path(folder))


if __name__ == "__main__":
    main()
