"""Gradients of the completion penalties against SVD, in turns, on one core."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SEED = 0
BATCH, SIDE = 30, 100  # a column of P2's table 1 with three seeds: 5 optimisers, 2 depths
ROUNDS = 9


def matrices() -> dict[str, Tensor]:
    """Early and late in completion, float32: Gaussian; rank 5 with a tail down to 1e-6 sigma_1."""
    import torch

    generator = torch.Generator().manual_seed(SEED)

    def gaussian() -> Tensor:
        return torch.randn(BATCH, SIDE, SIDE, generator=generator, dtype=torch.float64)

    strong = torch.linspace(100, 60, 5, dtype=torch.float64)
    sigma = torch.cat([strong, torch.logspace(0, -4, SIDE - 5, dtype=torch.float64)])
    late = torch.linalg.qr(gaussian())[0] * sigma @ torch.linalg.qr(gaussian())[0].mT
    return {"Gaussian": gaussian().float(), "rank 5 and a tail": late.float()}


def polar_by_svd(matrices: Tensor) -> Tensor:
    """U V^T, as one writes it."""
    import torch

    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    polar: Tensor = left @ right
    return polar


def by_autograd(matrices: Tensor) -> Tensor:
    """The ratio's gradient, as P2's definition goes through autograd."""
    import torch

    leaf = matrices.detach().requires_grad_()
    sigma = torch.linalg.svdvals(leaf)
    ratio = sigma.sum(-1) / torch.linalg.vector_norm(sigma, dim=-1)
    gradient: Tensor = torch.autograd.grad(ratio.sum(), leaf)[0]
    return gradient


def milliseconds(tasks: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median of each task's CPU time, taken in turns, for one matrix."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(times) / BATCH * 1e3 for name, times in taken.items()}


def worst_direction(polar: Tensor, batch: Tensor, least: float) -> float:
    """The largest ||(Q - Q*) v|| over the v with sigma >= least sigma_1; Q* by SVD in float64."""
    import torch

    left, sigma, right = torch.linalg.svd(batch.double(), full_matrices=False)
    errors = torch.linalg.vector_norm((polar.double() - left @ right) @ right.mT, dim=-2)
    return float(errors[sigma >= least * sigma[:, :1]].max())


def one_batch(title: str, batch: Tensor) -> None:
    """Print the table of one batch."""
    from trainers.completion.penalties import parse, spectra

    nuclear, ratio, schatten = (parse(text) for text in ("nuclear", "ratio", "schatten:1/3:2/3"))
    polars: dict[str, Callable[[], Tensor]] = {
        "nuclear": lambda: nuclear.value_and_gradient(batch)[1],
        "U V^T, torch.linalg.svd fp32": lambda: polar_by_svd(batch),
    }
    others: dict[str, Callable[[], object]] = {
        "ratio": lambda: ratio.value_and_gradient(batch),
        "ratio, autograd through svdvals fp32": lambda: by_autograd(batch),
        "schatten:1/3:2/3": lambda: schatten.value_and_gradient(batch),
        "U V^T, torch.linalg.svd fp64": lambda: polar_by_svd(batch.double()),
        "spectra": lambda: spectra(batch),
    }
    print(f"\n### Penalties of {SIDE} x {SIDE}, fp32, one core: {title}\n")
    print("| | ms a matrix | error to sigma = 1e-3 sigma_1 | to 1e-6 |\n|---|---:|---:|---:|")
    for name, each in milliseconds({**polars, **others}).items():
        errors = ["-", "-"]
        if name in polars:
            polar = polars[name]()
            errors = [f"{worst_direction(polar, batch, least):.0e}" for least in (1e-3, 1e-6)]
        print(f"| {name} | {each:.2f} | {' | '.join(errors)} |")


def bench_penalties(folder: Path) -> None:
    """What the penalty costs in a step of completion, and how well it knows its directions."""
    import torch

    del folder
    torch.set_num_threads(1)
    for title, batch in matrices().items():
        one_batch(title, batch)
