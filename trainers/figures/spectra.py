"""The singular values of each layer at the end of training, a line a run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import rankscope
from trainers.figures import house
from trainers.figures.measured import Measured, Runs
from trainers.recipes.manifest import Group, Manifest

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Spectra = Mapping[str, NDArray[np.float64]]  # by the matrix's name

METRICS = ("spectral_norm",)

LEAST_WIDTH = 1.35  # inches

# What is shown of the singular values, of the largest one of the figure. Below it float32 weights
# have rounding noise, whose cliff would take all of the axis.
SHOWN = 1e-5


def draw(manifest: Manifest, runs: Runs, width: float) -> Figure:
    """Axes a layer, in the order of the network; with several panels one after the other."""
    final = {name: final_spectra(run) for name, run in runs.items()}
    there = [(panel, layer) for panel in manifest.panels for layer in _layers(panel, final)]
    columns = house.columns_of(width, LEAST_WIDTH, len(there))
    bands = -(-len(there) // columns)
    figure = house.blank(width, 0.7 + bands * house.HEIGHT * 0.85, house.heading(manifest))
    grid = figure.add_gridspec(bands, columns)
    colours = house.run_colours(manifest.panels)
    entries: dict[str, Artist] = {}
    drawn: list[Axes] = []
    for index, (panel, layer) in enumerate(there):
        share = drawn[0] if drawn else None
        axes = figure.add_subplot(grid[divmod(index, columns)], sharey=share)
        entries |= layer_spectra(axes, panel, layer, final, colours)
        name = layer.removesuffix(".weight")
        axes.set_title(name if len(manifest.panels) == 1 else f"{panel.title}\n{name}")
        axes.set_ylabel("singular value")
        if index >= len(there) - columns:
            axes.set_xlabel("index")
        drawn.append(axes)
    largest = max(float(sigma[0]) for one in final.values() for sigma in one.values())
    drawn[0].set_yscale("log")
    drawn[0].set_ylim(bottom=max(SHOWN * largest, drawn[0].get_ylim()[0]))
    house.only_outer_labels(drawn, columns)
    house.legend_below(figure, house.in_order(entries, colours))
    return figure


def final_spectra(run: Measured) -> Spectra:
    """The singular values of every averaged layer at the last saved end of an epoch."""
    import h5py

    step = run.last["step"]
    wanted = [row["name"] for row in run.layers(step) if row["status"] == "ok"]
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "spectra.h5"
        rankscope.export_spectra(target, run.path)
        with h5py.File(target) as file:
            (series,) = file.values()
            at = series["step"][:].tolist().index(step)
            found = {
                group.attrs["name"]: group["sigma"][at]
                for key, group in series.items()
                if key != "step"
            }
    return {name: found[name][: _length(found[name])] for name in wanted}


def layer_spectra(
    axes: Axes,
    panel: Group,
    layer: str,
    final: Mapping[str, Spectra],
    colours: Mapping[str, str],
) -> dict[str, Artist]:
    """The lines of one layer, and what the legend says of them."""
    entries: dict[str, Artist] = {}
    for run in panel.runs:
        text = house.described(run.labels)
        sigma = final.get(run.run, {}).get(layer)
        if sigma is not None:
            indices = range(1, len(sigma) + 1)
            (line,) = axes.plot(indices, sigma, color=colours[text], label=text)
            entries[text] = line
    return entries


def _layers(panel: Group, final: Mapping[str, Spectra]) -> list[str]:
    return list(dict.fromkeys(name for run in panel.runs for name in final.get(run.run, {})))


def _length(sigma: NDArray[np.float64]) -> int:
    """How many there are; a row is filled up with NaN."""
    return int((sigma == sigma).sum())  # noqa: PLR0124 - NaN is what differs from itself
