"""What all figures share: sizes, colours and words.

Colours are ordered where what varies is ordered, dark to light along viridis, which the
colour-blind see as well and which prints in grey in the same order.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainers.recipes.manifest import Group, Label, Manifest

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 1.5  # inches, of one pair of axes

UNDER = -0.35  # of the height of axes: below the name of the horizontal one

LETTERS = 12  # of the title on an inch, with some room at the sides

STYLE: Mapping[str, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.6,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3,
    "legend.frameon": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,  # text stays text, which Type 3 fonts are not for every printer
    "svg.fonttype": "none",
    "svg.hashsalt": "rankscope",  # the same figure is the same file
    "savefig.dpi": 200,
}

# Of viridis; the yellow beyond is lost on white paper.
DARKEST, LIGHTEST = 0.0, 0.82

# Okabe and Ito's colours for what has no order; yellow is left out.
UNORDERED = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

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


def shown(label: Label) -> str:
    """The value of a hyperparameter.

    >>> shown(0.0005), shown(1e-05), shown(16), shown(None)
    ('0.0005', '1e-5', '16', 'none')
    """
    if isinstance(label, float):
        return f"{label:g}".replace("e-0", "e-")
    return "none" if label is None else str(label)


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


def shades(count: int) -> list[str]:
    """So many colours in an order, the first the darkest."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    span = (LIGHTEST - DARKEST) / max(1, count - 1)
    return [to_hex(mpl.colormaps["viridis"](DARKEST + i * span)) for i in range(count)]


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


def columns_of(width: float, least: float, panels: int) -> int:
    """How many axes stand side by side on a width in inches, each at least `least` wide."""
    return max(1, min(panels, int(width / least)))


def blank(width: float, height: float, title: str) -> Figure:
    """An empty figure, in inches, whose parts make room for each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(textwrap.fill(title, int(width * LETTERS)), fontsize=8.5)
    return figure


def heading(manifest: Manifest) -> str:
    """What stands above a figure whose axes do not name their panel where there is but one."""
    alone = [panel.title for panel in manifest.panels] if len(manifest.panels) == 1 else []
    return "; ".join([f"{manifest.recipe}: {manifest.title}", *filter(None, alone)])


def legend_below(figure: Figure, entries: Mapping[str, Artist]) -> None:
    """One legend for all axes, under them, where it covers nothing."""
    if not entries:
        return
    longest = max(len(text) for text in entries)
    # An entry is a handle of about 0.45 inches and letters of about 0.055.
    fit = int(figure.get_figwidth() / (0.45 + 0.055 * longest))
    rows = -(-len(entries) // max(1, fit))
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=-(-len(entries) // rows),
        handlelength=1.8,
    )


def only_outer_labels(axes: Sequence[Axes], columns: int) -> None:
    """Tick labels and names of the vertical axes in the first column only."""
    for index, one in enumerate(axes):
        if index % columns:
            one.tick_params(left=False, labelleft=False)
            one.set_ylabel("")
