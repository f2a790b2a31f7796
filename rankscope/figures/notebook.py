"""The curve of a run above its table in a notebook: small, and readable on light and dark.

An image in itself, since the style of an SVG within a page would apply to the whole page, and text
from files can do nothing in an image.
"""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from rankscope.figures import house
from rankscope.figures.columns import Drawn, drawn_columns
from rankscope.figures.steps import step_axis
from rankscope.palette import ON_BOTH, UNORDERED
from rankscope.rows import Row
from rankscope.scene import Scene, spread
from rankscope.table import Table
from rankscope.views.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 6.0, 1.7  # inches

MANY_STEPS = 200  # points of a line, more than there are pixels between two marks

MANY_LINES = 24  # matrices; of more the mean alone

# The colours of all but the lines, of which the first two of UNORDERED are seen on both grounds.
COLOURED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
ON_ANY_GROUND = {**dict.fromkeys(COLOURED, ON_BOTH), "grid.color": ON_BOTH, "grid.alpha": 0.25}


def run_curve(table: Table) -> str:
    """An `<img>` of the first metric over the steps; empty where there is no run or matplotlib."""
    if Scene(table, ()).kind != "run" or importlib.util.find_spec("matplotlib") is None:
        return ""
    column = drawn_columns(table, None)[0]
    summary = [row for row in table.summary if row[column.key] is not None]
    if len(summary) < 2:
        return ""
    shown = spread(summary, MANY_STEPS)
    ends = f"{number(shown[0][column.key])} to {number(shown[-1][column.key])}"
    steps = f"step {shown[0]['step']} to {shown[-1]['step']}"
    told = f"{column.words}, mean over matrices: {ends} from {steps}"
    data = base64.b64encode(_svg(table, column, shown)).decode("ascii")
    return f'<img alt="{escape(told)}" src="data:image/svg+xml;base64,{data}">\n'


def _svg(table: Table, column: Drawn, summary: Sequence[Row]) -> bytes:
    file = io.BytesIO()
    with house.styled(ON_ANY_GROUND):
        figure = house.blank(WIDTH, HEIGHT, "")
        _draw(figure.add_subplot(), table, column, summary)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def _draw(axes: Axes, table: Table, column: Drawn, summary: Sequence[Row]) -> None:
    steps = [row["step"] for row in summary]
    names = list(dict.fromkeys(row["name"] for row in table.matrices))
    values = {(row["name"], row["step"]): row[column.key] for row in table.matrices}
    for name in names if len(names) <= MANY_LINES else []:
        line = [values.get((name, step)) for step in steps]
        axes.plot(
            steps, [float("nan") if v is None else v for v in line], color=UNORDERED[0], lw=0.7
        )
    axes.plot(steps, [row[column.key] for row in summary], color=UNORDERED[1], lw=1.8)
    words = "mean, and each matrix thin" if len(names) <= MANY_LINES else "mean"
    axes.set_title(words, loc="left", fontsize=7.5)
    axes.set_ylabel(column.axis)
    step_axis(axes)
    if column.counts:
        house.from_zero([axes])
