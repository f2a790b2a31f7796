"""Runs made by hand, with spectra that are known, and the recipes that they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from rankscope.snapshots import LogRecord
from tests import rundirs
from trainers.imageargs import Args
from trainers.recipes.manifest import Group, manifest_of, write_manifest
from trainers.recipes.records import Drawing, Panel, Recipe

EPOCHS = 4
STEPS = 10  # of an epoch
SIDE = 12
LAYERS = ("stem.weight", "blocks.0.weight", "blocks.1.weight")
HEAD = "output.weight"

Array = NDArray[np.float64]


def chosen(mu: float = 0.1, batch: int = 8, wd: float = 0.01, seed: int = 0) -> Args:
    """A run of a recipe, under a name of its choices."""
    name = f"mu{mu:g}-B{batch}-wd{wd:g}-s{seed}"
    return Args(
        Path(name), mu=mu, batch_size=batch, weight_decay=wd, seed=seed, epochs=EPOCHS, snapshots=4
    )


def weights(args: Args, epoch: float) -> dict[str, Array]:
    """Matrices whose small singular values fall with the epoch, faster for larger mu / B."""
    draws = np.random.default_rng([args.seed, args.batch_size, round(1000 * args.mu)])
    found = {}
    for depth, name in enumerate((*LAYERS, HEAD)):
        left, _ = np.linalg.qr(draws.normal(size=(SIDE, SIDE)))
        right, _ = np.linalg.qr(draws.normal(size=(SIDE, SIDE)))
        rate = (1 + 40 * args.mu / args.batch_size) * (1 + 100 * args.weight_decay)
        decay = 0.1 * (1 + depth) * rate * epoch
        found[name] = (left * np.exp(-decay * np.arange(SIDE))) @ right * (1 - 0.05 * epoch)
    return found


def log_of(args: Args, epoch: int) -> LogRecord:
    """What its log says at the end of an epoch."""
    train = 1 - 0.9 ** (epoch * (1 + args.mu))
    return LogRecord(epoch=epoch, train_accuracy=train, test_accuracy=0.9 * train)


def write(root: Path, args: Args, *, epochs: int = EPOCHS, burst: bool = False) -> Path:
    """A run directory, done up to an epoch, every epoch saved; perhaps with a step before each."""
    snapshots = {STEPS * epoch: weights(args, epoch) for epoch in range(epochs + 1)}
    if burst:
        between = {STEPS * e - 1: weights(args, e - 0.1) for e in range(1, epochs + 1)}
        snapshots = dict(sorted({**snapshots, **between}.items()))
    recipe = rundirs.Recipe(
        batch=args.batch_size, lr=args.mu, weight_decay=args.weight_decay, unmarked=(HEAD,)
    )
    logs = {STEPS * epoch: log_of(args, epoch) for epoch in range(epochs + 1)}
    return rundirs.write_run(root / args.out, snapshots, recipe, logs)


def line(title: str, name: str, *runs: Args) -> Panel:
    """Runs that differ in one choice."""
    return Panel(title, runs, (name,))


def recipe(drawing: Drawing, *panels: Panel, **more: Any) -> Recipe:
    """A recipe of these panels."""
    return Recipe("X-F1", "what it shows", drawing, panels, **more)


def manifest_panels(one: Recipe) -> tuple[Group, ...]:
    """The panels of a recipe as its figure sees them."""
    return manifest_of(one).panels


def noted(root: Path, one: Recipe, leave_out: tuple[str, ...] = ()) -> Path:
    """The directory of a recipe's runs, all of them done but those left out."""
    for args in one.runs:
        if str(args.out) not in leave_out and not (root / args.out).exists():
            write(root, args)
    write_manifest(one, root)
    return root


def rank_of(args: Args, epoch: float, eps: float) -> float:
    """The average rank by NumPy: of the layers, without the head."""
    counts = []
    for name in LAYERS:
        matrix = weights(args, epoch)[name]
        sigma = np.linalg.svd(matrix, compute_uv=False)
        counts.append(int((sigma / np.linalg.norm(matrix) > eps).sum()))
    return float(np.mean(counts))


def lines_of(axes: Axes) -> dict[str, Line2D]:
    """The lines of axes by their labels."""
    return {str(line.get_label()): line for line in axes.get_lines()}


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


def other(args: Args, **changed: Any) -> Args:
    """The same run with other choices, and another name."""
    new = replace(args, **changed)
    return replace(new, out=Path(f"{args.out}-{'-'.join(map(str, changed.values()))}"))
