"""How the norm of each layer changes from epoch to epoch; Theorem 3.3 has the ratio tend to 1.

As in P1's Figures 14 and 15: axes for each run, in them a line a layer.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from trainers.figures import house
from trainers.figures.measured import Measured, Runs, by_title
from trainers.recipes.manifest import Manifest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = ("frobenius_norm",)

LEAST_WIDTH = 1.55  # inches


def draw(manifest: Manifest, runs: Runs, width: float) -> Figure:
    """Axes a run in the order of the panels, the layers coloured by their depth."""
    there = by_title(manifest, runs)
    columns = house.columns_of(width, LEAST_WIDTH, len(there))
    bands = -(-len(there) // columns)
    figure = house.blank(width, 0.9 + bands * house.HEIGHT, house.heading(manifest))
    grid = figure.add_gridspec(bands, columns)
    drawn: list[Axes] = []
    most = 0
    for index, (title, members) in enumerate(there.items()):
        share = drawn[0] if drawn else None
        axes = figure.add_subplot(grid[divmod(index, columns)], sharex=share, sharey=share)
        most = max(most, *(layer_lines(axes, run) for run in members))
        axes.axhline(1, color=house.GREY, linewidth=0.6)
        axes.set_title(title)
        house.epoch_axis(axes)
        drawn.append(axes)
    shown = [run for members in there.values() for run in members]
    gaps = {later - earlier for run in shown for earlier, later, _ in ratios(run)}
    back = f"{gaps.pop():g}" if len(gaps) == 1 else "k"
    drawn[0].set_ylabel(rf"$\|W_{{t-{back}}}\|\,/\,\|W_t\|$")
    house.only_outer_labels(drawn, columns)
    # The layer next to the input is the darkest.
    house.colour_bar(
        figure, drawn, house.shades(most), ("1", str(most)), "layer, from the input on"
    )
    return figure


def ratios(run: Measured) -> list[tuple[float, float, dict[str, float]]]:
    """For consecutive ends of epochs that were saved: both, and ||W_then|| / ||W_now|| by layer.

    Not over consecutive snapshots, between which a burst of single steps may lie.
    """
    found = []
    for then, now in pairwise(run.per_epoch):
        before, after = (
            {layer["name"]: layer["frobenius_norm"] for layer in run.layers(row["step"])}
            for row in (then, now)
        )
        quotients = {
            name: before[name] / norm for name, norm in after.items() if norm and before.get(name)
        }
        found.append((then["epoch"], now["epoch"], quotients))
    return found


def layer_lines(axes: Axes, run: Measured) -> int:
    """Draw a line a layer; returns how many there are."""
    pairs = ratios(run)
    names = list(dict.fromkeys(name for _, _, quotients in pairs for name in quotients))
    for name, colour in zip(names, house.shades(len(names)), strict=True):
        points = [(now, quotients[name]) for _, now, quotients in pairs if name in quotients]
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.9, label=name)
    return len(names)
