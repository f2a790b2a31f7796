"""What the figures of the papers share: RankScope's sizes and colours, and words of their own.

Colours are ordered where what varies is ordered, dark to light along viridis, which the
colour-blind see as well and which prints in grey in the same order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rankscope.figures import (
    HEIGHT,
    UNORDERED,
    blank,
    colour_bar,
    columns_of,
    legend_below,
    only_outer_labels,
    shades,
    shown,
)
from trainers.recipes.manifest import Group, Label, Manifest

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = [
    "GREY",
    "HEIGHT",
    "UNORDERED",
    "axis_name",
    "blank",
    "colour_bar",
    "columns_of",
    "described",
    "epoch_axis",
    "heading",
    "in_order",
    "legend_below",
    "legend_under",
    "levels",
    "only_outer_labels",
    "run_colours",
    "shades",
    "shown",
    "without_runs",
]

UNDER = -0.35  # of the height of axes: below the name of the horizontal one

GREY = "0.45"

SIGNS = {
    "mu": "μ",
    "batch_size": "B",
    "weight_decay": "weight decay",
    "momentum": "momentum",
    "data": "data",
    "arch": "network",
}

AXIS_NAMES = {
    **SIGNS,
    "mu": "learning rate μ",
    "batch_size": "batch size B",
    "weight_decay": "weight decay (2λ)",
}


def sign(name: str) -> str:
    """A hyperparameter's sign, or its name as words."""
    return SIGNS.get(name, name.replace("_", " "))


def axis_name(name: str) -> str:
    """A hyperparameter's full name, for an axis."""
    return AXIS_NAMES.get(name, name.replace("_", " "))


def described(labels: Mapping[str, Label]) -> str:
    """Hyperparameters with their values.

    >>> described({"mu": 0.5, "batch_size": 8})
    'μ = 0.5, B = 8'
    """
    return ", ".join(f"{sign(name)} = {shown(label)}" for name, label in labels.items())


def levels(labels: Iterable[Label]) -> list[Label]:
    """Each value once, numbers ascending; others as they come."""
    once = list(dict.fromkeys(labels))
    return sorted(once, key=_number) if is_ordered(once) else once


def is_ordered(labels: Sequence[Label]) -> bool:
    """Whether values are numbers, so that one is more than another."""
    return all(isinstance(label, int | float) and not isinstance(label, bool) for label in labels)


def _number(label: Label) -> float:
    return float(label or 0)


def run_colours(panels: Sequence[Group]) -> dict[str, str]:
    """From what describes a run to its colour, in the order of a legend.

    A value has one colour in all panels that vary it, ordered as the values where these are.
    """
    found: dict[str, str] = {}
    for vary in dict.fromkeys(panel.vary for panel in panels):
        runs = [run.labels for panel in panels if panel.vary == vary for run in panel.runs]
        if len(vary) == 1:
            once = levels(labels[vary[0]] for labels in runs)
            texts = [described({vary[0]: label}) for label in once]
            ordered = is_ordered(once)
        else:
            texts, ordered = list(dict.fromkeys(map(described, runs))), False
        cycle = shades(len(texts)) if ordered else itertools.cycle(UNORDERED)
        found |= zip(texts, cycle, strict=False)
    return found


def in_order(entries: Mapping[str, Artist], order: Iterable[str]) -> dict[str, Artist]:
    """A legend's entries, those of the runs in their order and the others after them."""
    return {text: entries[text] for text in order if text in entries} | dict(entries)


def legend_under(axes: Axes, panel: Group, entries: Mapping[str, Artist]) -> None:
    """A legend of these axes alone, under the name of their horizontal axis."""
    title = sign(panel.vary[0]) if len(panel.vary) == 1 else None
    axes.legend(
        entries.values(),
        [text.removeprefix(f"{title} = ") for text in entries],
        title=title,
        title_fontsize=7.5,
        loc="upper center",
        bbox_to_anchor=(0.5, UNDER),
        ncols=3 if title else 1,
        handlelength=1.2,
        columnspacing=1.0,
    )


def without_runs(axes: Axes) -> None:
    """Axes of which no run is there say so."""
    axes.text(0.5, 0.5, "no run yet", transform=axes.transAxes, ha="center", color=GREY)


def epoch_axis(axes: Axes) -> None:
    """A horizontal axis of epochs, whole ones."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("epoch")


def heading(manifest: Manifest) -> str:
    """What stands above a figure whose axes do not name their panel where there is but one."""
    alone = [panel.title for panel in manifest.panels] if len(manifest.panels) == 1 else []
    return "; ".join([f"{manifest.recipe}: {manifest.title}", *filter(None, alone)])
