"""A row a matrix and snapshot, for pandas, Polars, DuckDB; written as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rankscope.frames import Kind
from rankscope.metrics.thresholded import shares
from rankscope.parquet import RowGroups
from rankscope.provenance import made_now
from rankscope.records import Spectrum
from rankscope.spectra.layout import SCHEMA, Measure, Place, Starts, Steps, Writer
from rankscope.text import encodable
from rankscope.writing import atomic_write

# Then come the readings.
FIELDS: tuple[tuple[str, Kind], ...] = (
    ("source", "text"),
    ("name", "text"),
    ("step", "integer"),
    ("shape", "integers"),
    ("dtype", "text"),
    ("route", "text"),
    ("sigma", "numbers"),
    ("frobenius_norm", "number"),
    ("crossing", "integer"),
)


@dataclass(slots=True)
class _ParquetWriter:
    """A row a matrix and snapshot, its singular values a list."""

    rows: RowGroups
    measure: Measure
    starts: Starts = field(default_factory=Starts)

    def write(self, place: Place, spectrum: Spectrum) -> None:
        spec = place.spec
        self.rows.append(
            (
                encodable(place.source),
                encodable(spec.name),
                place.step,
                spec.shape,
                spec.encoding or spec.dtype,
                spectrum.route,
                spectrum.sigma,
                spectrum.frobenius_norm,
                self.starts.crossing(place, shares(spectrum, self.measure.norm)),
                *(column.read(spectrum).value for column in self.measure.columns),
            )
        )


@contextmanager
def opened(path: Path, measure: Measure, _: Steps) -> Iterator[Writer]:
    """A writer to a new file, which appears whole or not at all."""
    readings: list[tuple[str, Kind]] = [(column.key, "number") for column in measure.columns]
    told = {"schema": SCHEMA, "norm": measure.norm, "provenance": made_now()}
    with atomic_write(path) as file, RowGroups(file, [*FIELDS, *readings], told) as rows:
        yield _ParquetWriter(rows, measure)
