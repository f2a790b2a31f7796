"""`python -m benchmarks plan`: what `inspect --plan` says, against what `analyze` takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import models
from benchmarks.processes import run

ROUNDS = 3
WORKERS = (1, 2)
COMMAND = [sys.executable, "-m", "rankscope"]


@dataclass(frozen=True, slots=True)
class Told:
    """A prediction, and what came of it.

    Attributes:
        seconds: predicted.
        memory: bytes, an upper bound.
        took: seconds.
        held: bytes, the largest sum of proportional set sizes.
        within: whether it took what the stated range says.
    """

    seconds: float
    memory: int
    took: float
    held: int
    within: bool


def bench_plan(folder: Path) -> None:
    """A large model, a small one and a run of tiny matrices, with one worker and with two."""
    llama, minilm, series = folder / "llama", folder / "minilm", folder / "series"
    models.llama(llama.with_suffix(".safetensors"))
    models.minilm(minilm.with_suffix(".safetensors"))
    models.small_run(series, 400)
    cases = {
        "242 M parameters": llama.with_suffix(".safetensors"),
        "23 M parameters": minilm.with_suffix(".safetensors"),
        "400 snapshots of 5 small matrices": series,
    }
    found: dict[tuple[str, int], list[Told]] = {}
    for _ in range(ROUNDS):
        for name, path in cases.items():
            for workers in WORKERS:
                found.setdefault((name, workers), []).append(told(path, workers))
    _show(found)


def told(path: Path, workers: int) -> Told:
    """A plan, and right after it what was planned."""
    options = [str(path), "--no-store", "--workers", str(workers)]
    said = subprocess.run(
        [*COMMAND, "inspect", *options, "--plan", "--json"], capture_output=True, check=True
    )
    plan = json.loads(said.stdout)["plan"]["predictions"][-1]
    one = run([*COMMAND, "analyze", *options], {}, memory=True)
    within = plan["least"] <= one.seconds <= plan["most"]
    return Told(plan["seconds"], plan["memory_bytes"], one.seconds, one.peak_pss, within)


def _show(found: dict[tuple[str, int], list[Told]]) -> None:
    heads = "predicted | took | ratio, each round | memory up to | held | ratio | in range"
    print(f"\n### Plans\n\n| | workers | {heads} |\n|---|{'---:|' * 8}")
    for (name, workers), rounds in found.items():
        seconds, took = (
            statistics.median(getattr(one, key) for one in rounds) for key in ("seconds", "took")
        )
        ratios = ", ".join(f"{one.seconds / one.took:.2f}" for one in rounds)
        memory, held = (max(getattr(one, key) for one in rounds) for key in ("memory", "held"))
        within = sum(one.within for one in rounds)
        print(
            f"| {name} | {workers} | {seconds:.2f} s | {took:.2f} s | {ratios} "
            f"| {memory / 1e6:.0f} MB | {held / 1e6:.0f} MB | {memory / held:.1f} "
            f"| {within} of {len(rounds)} |"
        )
    every = [one.seconds / one.took for rounds in found.values() for one in rounds]
    print(f"\nmedian ratio {statistics.median(every):.2f}, of {len(every)} plans")
