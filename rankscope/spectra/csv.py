"""A line a singular value, for spreadsheets and R."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankscope.metrics.thresholded import shares
from rankscope.records import Spectrum
from rankscope.spectra.layout import Measure, Place, Steps, Writer
from rankscope.views.csv import safe
from rankscope.writing import atomic_write

HEAD = ("source", "name", "step", "index", "sigma", "share")


@dataclass(slots=True)
class _CsvWriter:
    """A line a singular value: source, name, step, index from 0, sigma, sigma over the norm."""

    out: Any  # csv.writer is a function, and its result has no public type
    measure: Measure

    def write(self, place: Place, spectrum: Spectrum) -> None:
        front = (safe(place.source), safe(place.spec.name), place.step)
        parts = shares(spectrum, self.measure.norm).tolist()
        self.out.writerows(
            (*front, index, sigma, share)
            for index, (sigma, share) in enumerate(zip(spectrum.sigma.tolist(), parts, strict=True))
        )


@contextmanager
def opened(path: Path, measure: Measure, _: Steps) -> Iterator[Writer]:
    """A writer to a new file, which appears whole or not at all."""
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEAD)
        yield _CsvWriter(writer, measure)
        text.flush()
        text.detach()  # the file is closed by who opened it
