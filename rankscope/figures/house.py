"""What all figures share: sizes, colours, words, and how they become files.

Figures are drawn by matplotlib upon its defaults, whatever the user's own settings are, and
without pyplot, whose figures stay in memory until somebody closes them.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankscope.errors import UsageError
from rankscope.extras import needs
from rankscope.writing import atomic_write

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

PAGE = 7.0  # inches, the width of the text on a page of the usual two-column papers

HEIGHT = 1.5  # inches, of one pair of axes

LEGEND = 0.17  # inches, of a row of a legend

BAR = 0.5  # inches, of a bar of colours with its name

HEAD = 0.7  # inches, of the title above the axes and the names below them

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

# What names the making of a file within it; left out, the same figure is the same file.
DATED = {".png": "Software", ".pdf": "CreationDate", ".svg": "Date"}


@contextmanager
def styled(others: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Within it figures are made and saved in this style, and nothing is changed after it.

    Args:
        others: settings beyond it, as matplotlib names them.

    Raises:
        UsageError: matplotlib is not installed.
    """
    needs("a figure", "matplotlib", "plot")
    from matplotlib import style

    with style.context(["default", {**STYLE, **(others or {})}]):
        yield


def check_picture(target: Path) -> None:
    """`UsageError` unless the suffix names a kind of picture."""
    if target.suffix.lower() not in DATED:
        known = ", ".join(DATED)
        raise UsageError(f"{target}: suffix of no picture, expected one of {known}")


def save(figure: Figure, target: Path) -> None:
    """Write a figure, whole or not at all; the same figure gives the same bytes.

    Raises:
        UsageError: the suffix names no kind of picture.
        OutputFailed: it cannot be written; an old file is intact.
    """
    check_picture(target)
    suffix = target.suffix.lower()
    with styled(), atomic_write(target) as file:
        figure.savefig(file, format=suffix[1:], metadata={DATED[suffix]: None})


def blank(width: float, height: float, title: str) -> Figure:
    """An empty figure, in inches, whose parts make room for each other."""
    from rankscope.figures.selfshowing import ShownFigure

    figure = ShownFigure(figsize=(width, height), layout="constrained")
    figure.suptitle(textwrap.fill(title, int(width * LETTERS)), fontsize=8.5)
    return figure


def bar_pad(figure: Figure) -> float:
    """A bar's distance from axes that take all of a figure, however high that is."""
    return float(0.1 / figure.get_figheight())


def columns_of(width: float, least: float, panels: int) -> int:
    """How many axes stand side by side on a width in inches, each at least `least` wide."""
    return max(1, min(panels, int(width / least)))


def multiples(figure: Figure, count: int, columns: int, *, same_x: bool = False) -> list[Axes]:
    """So many axes row by row with one vertical axis for all, and a horizontal one if wanted."""
    grid = figure.add_gridspec(-(-count // columns), columns)
    drawn: list[Axes] = []
    for index in range(count):
        first = drawn[0] if drawn else None
        place = grid[divmod(index, columns)]
        drawn.append(figure.add_subplot(place, sharey=first, sharex=first if same_x else None))
    return drawn


def from_zero(axes: Sequence[Axes]) -> None:
    """A vertical axis that several axes share, from 0 to a little above what is drawn."""
    top = max(float(one.dataLim.y1) for one in axes)
    axes[0].set_ylim(0, 1.06 * top if top > 0 else 1)


def whole_log_axis(axis: Axis, most: int) -> None:
    """At most so many plain numbers on a logarithmic axis of ranks: 20, 50, 100; or 10, 100."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    between = [(1.0, 2.0, 5.0), (1.0,)]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    counts = [sum(low <= s * 10**p <= high for p in powers for s in subs) for subs in between]
    finest = next((subs for subs, n in zip(between, counts, strict=True) if n <= most), (1.0,))
    axis.set_major_locator(LogLocator(10, finest, numticks=most))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    axis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    """A tick as few letters: `200`, `1e4`."""
    return f"{value:g}" if value < 1e4 else f"{value:.0e}".replace("e+0", "e").replace("e+", "e")


def only_outer_labels(axes: Sequence[Axes], columns: int) -> None:
    """Tick labels and names of the vertical axes in the first column only."""
    for index, one in enumerate(axes):
        if index % columns:
            one.tick_params(left=False, labelleft=False)
            one.set_ylabel("")


def legend_rows(width: float, names: Sequence[str]) -> int:
    """How many rows a legend of these names takes on a width in inches."""
    longest = max(map(len, names), default=1)
    # An entry is a handle of about 0.45 inches and letters of about 0.055.
    fit = int(width / (0.45 + 0.055 * longest))
    return -(-len(names) // max(1, fit))


def legend_below(figure: Figure, entries: Mapping[str, Artist]) -> None:
    """One legend for all axes, under them, where it covers nothing."""
    if not entries:
        return
    rows = legend_rows(figure.get_figwidth(), list(entries))
    legend = figure.legend(
        list(entries.values()),
        [str(index) for index in range(len(entries))],
        loc="outside lower center",
        ncols=-(-len(entries) // rows),
        handlelength=1.8,
    )
    # Afterwards, since matplotlib before 3.10 leaves out names that begin with an underscore.
    for text, name in zip(legend.get_texts(), entries, strict=True):
        text.set_text(name)


def colour_bar(
    figure: Figure,
    axes: Sequence[Axes],
    shades: Sequence[str],
    ends: tuple[str, str],
    name: str,
    pad: float = 0.03,
) -> None:
    """A bar of the colours of what has an order, below the axes, with its ends named.

    Args:
        figure: whose it is.
        axes: those above it.
        shades: its colours.
        ends: what its first and last colour mean.
        name: of the bar.
        pad: its distance from the axes, as a share of their height.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, NoNorm

    most = len(shades) - 1
    scale = ScalarMappable(NoNorm(0, most), ListedColormap(list(shades)))
    bar = figure.colorbar(scale, ax=axes, location="bottom", shrink=0.5, aspect=35, pad=pad)
    bar.set_ticks([0, most], labels=ends)
    bar.set_label(name)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)


def shown(label: float | int | str | None) -> str:
    """A value in as few letters as tell it.

    >>> shown(0.0005), shown(1e-05), shown(16), shown(None)
    ('0.0005', '1e-5', '16', 'none')
    """
    if isinstance(label, float):
        return f"{label:g}".replace("e-0", "e-")
    return "none" if label is None else str(label)


def digits(value: float) -> str:
    """A number in the four letters that a cell of a map has room for.

    >>> digits(0.25), digits(1.0), digits(31.4), digits(12345.6)
    ('0.25', '1.00', '31.4', '1e+4')
    """
    if abs(value) >= 9999.5 or 0 < abs(value) < 0.005:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e+")
    return f"{value:.{max(0, 2 - len(str(int(abs(value)))) + 1)}f}"
