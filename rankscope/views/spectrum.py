"""One spectrum for a notebook: what it is of, and what is read off it."""

from __future__ import annotations

from rankscope.metrics import METRICS
from rankscope.metrics.thresholded import DEFAULT_EPS
from rankscope.records import Spectrum
from rankscope.rows import Row, write
from rankscope.views.cells import SHORT_TYPES, cell, headings
from rankscope.views.grid import Grid
from rankscope.views.numbers import number
from rankscope.views.report import Remark

FIRST, LAST = 8, 2  # of the singular values, that a line has room for


def grid(spectrum: Spectrum) -> Grid:
    """The default metrics in a row."""
    row: Row = {"notes": {}}
    metrics = [metric for metric in METRICS if metric.default]
    for metric in metrics:
        write(row, metric.name, metric.function(spectrum), f"not exact, {spectrum.route}")
    keys = [metric.name for metric in metrics]
    rows, columns = spectrum.shape
    dtype = SHORT_TYPES.get(spectrum.dtype, spectrum.dtype)
    return Grid(
        f"{rows}x{columns} {dtype}, {spectrum.route} route, eps {DEFAULT_EPS:g}",
        headings(keys),
        (tuple(cell(row, key) for key in keys),),
        labels=0,
        optional=0,
    )


def remark(spectrum: Spectrum) -> Remark:
    """The first and the last singular values."""
    values = [number(float(value)) for value in spectrum.sigma]
    if len(values) > FIRST + LAST:
        values[FIRST:-LAST] = ["..."]
    return Remark(f"sigma: {', '.join(values)}")
