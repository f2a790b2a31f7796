"""Models, runs and sweeps whose spectra are known, as scenes; and what figures hold of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from safetensors.numpy import save_file

from rankscope.asking import asked_of, scene_of
from rankscope.how import How
from rankscope.scene import Scene
from rankscope.snapshots import LogRecord
from tests.rundirs import Recipe, write_run

Array = NDArray[np.float64]

# Names whose letters mean something to matplotlib, a terminal, a page or a log.
HOSTILE = (
    "$a$b",
    "$\\frac{",
    "_legend",
    "\x1b[31mred\x1b[0m",
    "a\nb",
    "\u202eevil",
    "中文",
    "[/red]<script>alert(1)</script>",
    "W" * 300,
    "W" * 301,
    "::error::hi",
    "\\$x$",
    "100% {0} & more",
)


def matrix(rows: int, columns: int, rank: int, seed: int = 0, noise: float = 1e-5) -> Array:
    """So many large singular values, 1/i; the others smaller by `noise`."""
    draws = np.random.default_rng([rows, columns, rank, seed])
    size = min(rows, columns)
    left, _ = np.linalg.qr(draws.normal(size=(rows, size)))
    right, _ = np.linalg.qr(draws.normal(size=(columns, size)))
    sigma = np.where(np.arange(size) < rank, 1.0, noise) / np.arange(1, size + 1)
    return np.asarray((left * sigma) @ right.T)


def transformer(layers: int, size: int = 16, experts: int = 0) -> dict[str, Array]:
    """As Llama names them; rank grows with the layer."""
    found = {"model.embed_tokens.weight": matrix(40, size, size // 2)}
    found["lm_head.weight"] = matrix(40, size, size)
    for layer in range(layers):
        rank = 1 + layer * (size - 1) // layers
        for part in ("q", "k", "v", "o"):
            rows = size // 2 if part in "kv" else size
            name = f"model.layers.{layer}.self_attn.{part}_proj.weight"
            found[name] = matrix(rows, size, min(rank, rows), layer)
        for part, (rows, columns) in {
            "gate": (24, size),
            "up": (24, size),
            "down": (size, 24),
        }.items():
            name = f"model.layers.{layer}.mlp.{part}_proj.weight"
            found[name] = matrix(rows, columns, rank, layer)
        for expert in range(experts):
            name = f"model.layers.{layer}.block_sparse_moe.experts.{expert}.w1.weight"
            found[name] = matrix(24, size, min(size, rank + expert), 100 + expert)
    return found


def saved(path: Path, arrays: Mapping[str, Array]) -> Path:
    """A checkpoint of these."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


def weights(layers: int, step: int, strength: float = 1.0) -> dict[str, Array]:
    """A network on its way: rank and norm fall with the step."""
    found = {}
    for layer in range(layers):
        rows = 12 if layer else 8
        rank = max(1, rows - int(strength * step / 10) - layer)
        found[f"hidden.{layer}.weight"] = matrix(rows, 12, rank) * np.exp(-0.003 * step)
    return found


def run(path: Path, steps: int = 5, layers: int = 3, strength: float = 1.0, **recipe: Any) -> Path:
    """A run directory with a snapshot every ten steps."""
    snapshots = {10 * i: weights(layers, 10 * i, strength) for i in range(steps)}
    logs = {10 * i: LogRecord(epoch=i, test_accuracy=1 - 0.5**i) for i in range(steps)}
    return write_run(path, snapshots, Recipe(**recipe), logs)


def sweep(path: Path, batches: tuple[int, ...] = (2, 4, 16), seeds: int = 2, **more: Any) -> Path:
    """Runs that differ in the batch size and the seed."""
    for batch in batches:
        for seed in range(seeds):
            strength = 8 / batch + 0.5 * seed
            run(path / f"b{batch}-s{seed}", 3, 2, strength, batch=batch, seed=seed, **more)
    return path


def scene(*paths: Path, metrics: str = "rank", **asked: Any) -> Scene:
    """What is drawn of these paths; no store."""
    how = How(store=False, workers=1)
    return scene_of(*paths, asked=asked_of(metrics=metrics, how=how, **asked))


def spectrum(array: Array) -> Array:
    """Singular values over the Frobenius norm, by NumPy."""
    sigma = np.linalg.svd(array, compute_uv=False)
    return np.asarray(sigma / np.linalg.norm(array))


def x_of(line: Line2D) -> list[float]:
    """Where a line's points are."""
    return [float(x) for x in np.asarray(line.get_xdata(), float)]


def y_of(line: Line2D) -> list[float]:
    """And how high."""
    return [float(y) for y in np.asarray(line.get_ydata(), float)]


def legend_of(figure: Figure) -> dict[str, Any]:
    """What the one legend of a figure says, each with its handle."""
    (legend,) = figure.legends
    return {
        text.get_text(): handle
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }


def titled(figure: Figure) -> dict[str, Axes]:
    """Axes by their titles, in one line."""
    return {axes.get_title().replace("\n", ", "): axes for axes in figure.axes}


def coloured(axes: Axes, colour: object) -> list[Line2D]:
    """The lines of axes in one colour."""
    return [line for line in axes.get_lines() if line.get_color() == colour]


def columns_of(axes: Axes, colour: object) -> dict[str, float]:
    """Dots beside names: by name, where the dot of a colour is."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    return {
        names[round(y)]: x
        for line in coloured(axes, colour)
        for x, y in zip(x_of(line), y_of(line), strict=True)
    }
