"""What the layouts of singular values share: where a spectrum belongs, what it is compared by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rankscope.metrics.thresholded import Norm
from rankscope.question import Column
from rankscope.records import MatrixSpec, Spectrum
from rankscope.sweeps.crossing import crossing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = "rankscope/spectra/1"

Steps = Mapping[int, list[int | None]]  # of each series' snapshots


@dataclass(frozen=True, slots=True)
class Measure:
    """What a spectrum is compared by.

    Attributes:
        norm: what singular values are divided by to be shares; none: not divided.
        columns: further readings of each spectrum, kept in HDF5 and Parquet.
    """

    norm: Norm
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a spectrum belongs.

    Attributes:
        series: its index.
        source: the series' path.
        row: which of the series' snapshots.
        step: its step; None where it has none.
        spec: the matrix.
    """

    series: int
    source: str
    row: int
    step: int | None
    spec: MatrixSpec


class Writer(Protocol):
    """What a layout is given spectra by, in the order of series, step and matrix."""

    def write(self, place: Place, spectrum: Spectrum) -> None:
        """Write one."""


@dataclass(frozen=True, slots=True)
class Starts:
    """The shares of each matrix in the first snapshot that has it, by series and name."""

    shares: dict[tuple[int, str], NDArray[np.float64]] = field(default_factory=dict)

    def crossing(self, place: Place, shares: NDArray[np.float64]) -> int | None:
        """Where a spectrum crosses the first one of its matrix; None where it does not."""
        start = self.shares.setdefault((place.series, place.spec.name), shares)
        found = crossing(start, shares) if start.shape == shares.shape else None
        return None if found is None else found.index
