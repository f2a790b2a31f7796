"""The average rank over the epochs, a line a run; below it the accuracies where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainers.figures import house
from trainers.figures.accuracies import accuracy_entries, draw_accuracies, finish_accuracies
from trainers.figures.measured import Runs, key_at
from trainers.recipes.manifest import Group, Manifest

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = ("rank",)

LEAST_WIDTH = 1.9  # inches; below it the epochs' ticks touch
OWN_LEGEND = 0.5  # inches, of some rows under a panel


def draw(manifest: Manifest, runs: Runs, width: float) -> Figure:
    """A column a panel, as many side by side as fit; a row for each eps, and for the accuracies.

    One legend below all; where panels vary different things, each has its own for its runs.
    """
    panels = manifest.panels
    columns = house.columns_of(width, LEAST_WIDTH, len(panels))
    bands = -(-len(panels) // columns)
    parts = len(manifest.eps) + manifest.accuracies
    apart = len({panel.vary for panel in panels}) > 1
    height = 0.7 + bands * (parts * house.HEIGHT + apart * OWN_LEGEND)
    figure = house.blank(width, height, f"{manifest.recipe}: {manifest.title}")
    colours = house.run_colours(panels)
    grid = figure.add_gridspec(bands * parts, columns)
    entries: dict[str, Artist] = {}
    shared: dict[int, Axes] = {}
    for index, panel in enumerate(panels):
        band, column = divmod(index, columns)
        own: dict[str, Artist] = {}
        for part in range(parts):
            place = grid[band * parts + part, column]
            axes = figure.add_subplot(place, sharex=shared.get(0), sharey=shared.get(part))
            shared.setdefault(part, axes)
            if part < len(manifest.eps):
                own |= ranks(axes, panel, runs, colours, manifest.eps, part)
            else:
                own |= accuracies(axes, panel, runs, colours)
            _finish(axes, panel, part, parts, column)
        if apart:
            house.legend_under(axes, panel, {text: own[text] for text in colours if text in own})
            own = {text: line for text, line in own.items() if text not in colours}
        entries |= own
    figure.align_ylabels()
    house.legend_below(figure, house.in_order(entries, colours))
    return figure


def ranks(
    axes: Axes,
    panel: Group,
    runs: Runs,
    colours: Mapping[str, str],
    all_eps: Sequence[float],
    which: int,
) -> dict[str, Artist]:
    """The lines of the runs of a panel at one eps, and what the legend says of them."""
    entries: dict[str, Artist] = {}
    key = key_at("rank", all_eps[which], all_eps)
    for member in panel.runs:
        if member.run in runs:
            run = runs[member.run]
            text = house.described(member.labels)
            (line,) = axes.plot(*run.curve(key), color=colours[text], label=text)
            entries[text] = line
            full = run.full_rank
    if entries:
        line = axes.axhline(full, color=house.GREY, linewidth=0.8, linestyle=":", label="full rank")
        entries["full rank"] = line
    axes.set_ylabel(f"average rank\nε = {house.shown(all_eps[which])}")
    return entries


def accuracies(
    axes: Axes, panel: Group, runs: Runs, colours: Mapping[str, str]
) -> dict[str, Artist]:
    """Both accuracies of the runs of a panel, in the colours of the runs."""
    for member in panel.runs:
        if member.run in runs:
            named = house.described(member.labels)
            draw_accuracies(axes, runs[member.run], colours[named], named)
    finish_accuracies(axes)
    return accuracy_entries()


def _finish(axes: Axes, panel: Group, part: int, parts: int, column: int) -> None:
    """Titles above the column, names at its foot and at the left."""
    if part == 0:
        axes.set_title(panel.title)
    if part == parts - 1:
        house.epoch_axis(axes)
    else:
        axes.tick_params(bottom=False, labelbottom=False)
    if column:
        axes.set_ylabel("")
        axes.tick_params(left=False, labelleft=False)
