"""Whether a figure can be read: what sticks out of it, and what lies on what."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

PIXEL = 1.0  # what a box may stick out, for rounding

THIN = 0.5  # pixels that boxes may share

LEAST = 0.3  # inches, of axes; a map of one row of cells has that


def faults(figure: Figure) -> list[str]:
    """What is wrong with a figure, once it is laid out; a line each."""
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    return [*outside(figure), *on_each_other(figure), *flat(figure), *crowded_ticks(figure)]


def boxes(figure: Figure) -> dict[str, Bbox]:
    """The parts that must not touch: the title, each pair of axes with its words, legends."""
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    found = {}
    for index, axes in enumerate(figure.axes):
        box = axes.get_tightbbox(renderer)
        if box is not None:
            found[f"axes {index} {axes.get_title()!r}"] = box
    for index, legend in enumerate(figure.legends):
        found[f"legend {index}"] = legend.get_window_extent(renderer)
    title = figure.get_suptitle()
    for text in figure.texts:
        if title and text.get_text() == title:
            found["title"] = text.get_window_extent(renderer)
    return found


def shown(figure: Figure) -> Iterator[Text]:
    for artist in figure.findobj(Text):
        assert isinstance(artist, Text)
        if artist.get_visible() and artist.get_text():
            yield artist


def outside(figure: Figure) -> Iterator[str]:
    """Parts that stick out of the figure."""
    width, height = figure.bbox.width, figure.bbox.height
    for name, box in boxes(figure).items():
        if box.x0 < -PIXEL or box.y0 < -PIXEL or box.x1 > width + PIXEL or box.y1 > height + PIXEL:
            yield f"{name} sticks out: {box} of {width:.0f} x {height:.0f}"


def on_each_other(figure: Figure) -> Iterator[str]:
    """Parts that overlap."""
    for (one, box), (other, second) in combinations(boxes(figure).items(), 2):
        if overlap(box, second):
            yield f"{one} lies on {other}"


def flat(figure: Figure) -> Iterator[str]:
    """Axes for which their words leave no room; a bar of colours is flat on purpose."""
    for index, axes in enumerate(figure.axes):
        width, height = (inches / figure.dpi for inches in axes.get_window_extent().size)
        if min(width, height) < LEAST and axes.axison and axes.get_label() != "<colorbar>":
            yield f"axes {index} have {width:.2f} x {height:.2f} inches"


def overlap(one: Bbox, other: Bbox) -> bool:
    shared = Bbox.intersection(one, other)
    return shared is not None and shared.width > THIN and shared.height > THIN


def crowded_ticks(figure: Figure) -> Iterator[str]:
    """Numbers of an axis that run into each other."""
    for index, axes in enumerate(figure.axes):
        for axis in (axes.xaxis, axes.yaxis):
            extents = [label.get_window_extent() for label in tick_labels(axes, axis)]
            if any(overlap(one, other) for one, other in pairwise(extents)):
                yield f"axes {index}: crowded numbers on the {axis.axis_name} axis"


def tick_labels(axes: Axes, axis: Axis) -> list[Text]:
    """The labels that are seen, along the axis."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    seen = [
        tick
        for tick in ticks
        if low <= tick.get_loc() <= high and tick.label1.get_visible() and tick.label1.get_text()
    ]
    return [tick.label1 for tick in sorted(seen, key=lambda tick: tick.get_loc())]
