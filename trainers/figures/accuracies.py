"""Training and test accuracy over the epochs, in axes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from trainers.figures import house
from trainers.figures.measured import Measured

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

STYLES: Mapping[str, Literal["--", "-"]] = {"train": "--", "test": "-"}


def draw_accuracies(axes: Axes, run: Measured, colour: str, named: str) -> None:
    """The two lines of one run; `named` is what tells it from the others in these axes."""
    for split, style in STYLES.items():
        epochs, values = run.curve(f"{split}_accuracy")
        label = ", ".join(part for part in (f"{split} accuracy", named) if part)
        axes.plot(epochs, values, style, color=colour, linewidth=1.0, label=label)


def finish_accuracies(axes: Axes) -> None:
    """The vertical axis, a share of the samples in percent."""
    from matplotlib.ticker import PercentFormatter

    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def accuracy_entries() -> dict[str, Artist]:
    """What a legend says of the styles."""
    from matplotlib.lines import Line2D

    return {
        f"{split} accuracy": Line2D([], [], color=house.GREY, linestyle=style, linewidth=1.0)
        for split, style in STYLES.items()
    }
