"""The singular values themselves as data: every matrix of every snapshot, to CSV or HDF5.

docs/python.md describes both layouts.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rankscope.errors import UsageError
from rankscope.files import atomic_path, atomic_write
from rankscope.inventory import Inventory
from rankscope.measure import Measured
from rankscope.metrics.thresholded import Norm
from rankscope.question import Column
from rankscope.records import MatrixSpec, Spectrum
from rankscope.sweeps.crossing import crossing
from rankscope.text import printable
from rankscope.views.csv import safe

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

SCHEMA = "rankscope/spectra/1"

HEAD = ("source", "name", "step", "index", "sigma", "share")


@dataclass(frozen=True, slots=True)
class Measure:
    """What a spectrum is compared by.

    Attributes:
        norm: what singular values are divided by to be shares; none: not divided.
        columns: further readings of each spectrum, kept in HDF5.
    """

    norm: Norm
    columns: tuple[Column, ...]

    def shares(self, spectrum: Spectrum) -> NDArray[np.float64]:
        """Singular values over the norm, shape (k,); zeros for a zero matrix."""
        scale = {
            "frobenius": spectrum.frobenius_norm,
            "spectral": float(spectrum.sigma[0]),
            "none": 1.0,
        }[self.norm]
        return spectrum.sigma / scale if scale > 0 else spectrum.sigma


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


class _Writer(Protocol):
    def write(self, place: Place, spectrum: Spectrum) -> None: ...


def check_target(path: Path) -> None:
    """`UsageError` unless the suffix names a layout."""
    if path.suffix.lower() not in WRITERS:
        known = ", ".join(WRITERS)
        raise UsageError(
            f"{path}: suffix {path.suffix!r} names no layout for spectra, expected one of {known}"
        )


def export(
    inventory: Inventory, measured: Iterable[Measured], measure: Measure, path: Path
) -> list[str]:
    """Write every spectrum, in the order of series, step and matrix; what has none, as lines.

    Raises:
        UsageError: the suffix names no layout.
        OutputFailed: it could not be written; an old file is intact.
    """
    check_target(path)
    lacking = [f"{error}" for _, error in inventory.rejected]
    lacking += [
        f"{entry.snapshot.path}: {item.name}: {item.reason}"
        for entry in inventory.entries
        for item in entry.listing.missing
    ]
    with WRITERS[path.suffix.lower()](path, measure, _lengths(inventory)) as writer:
        for place, found in _in_order(inventory, measured):
            if isinstance(found.measurement, Spectrum):
                writer.write(place, found.measurement)
            elif found.measurement.status != "empty":  # that has no singular value to lack
                at = "" if place.step is None else f" at step {place.step}"
                reason = found.measurement.reason
                lacking.append(f"{place.source}: {place.spec.name}{at}: {reason}")
    return lacking


def _lengths(inventory: Inventory) -> Mapping[int, list[int | None]]:
    """The steps of each series' snapshots."""
    steps: dict[int, list[int | None]] = {}
    for entry in inventory.entries:
        steps.setdefault(entry.series, []).append(entry.snapshot.step)
    return steps


def _in_order(
    inventory: Inventory, measured: Iterable[Measured]
) -> Iterator[tuple[Place, Measured]]:
    """What is measured in any order, in that of the inventory; only what came early waits."""
    waiting: dict[tuple[int, str], Measured] = {}
    position = {id(entry): index for index, entry in enumerate(inventory.entries)}
    source = iter(measured)
    rows: dict[int, int] = {}
    for index, entry in enumerate(inventory.entries):
        row = rows[entry.series] = rows.get(entry.series, -1) + 1
        path = str(inventory.series[entry.series].path)
        for spec in entry.specs:
            while (index, spec.name) not in waiting:
                one = next(source)
                waiting[position[id(one.entry)], one.spec.name] = one
            place = Place(entry.series, path, row, entry.snapshot.step, spec)
            yield place, waiting.pop((index, spec.name))
    for _ in source:  # so that it ends, and saves what it computed
        pass


@dataclass(slots=True)
class _CsvWriter:
    """A line a singular value: source, name, step, index from 0, sigma, sigma over the norm."""

    out: Any  # csv.writer is a function, and its result has no public type
    measure: Measure

    def write(self, place: Place, spectrum: Spectrum) -> None:
        front = (safe(place.source), safe(place.spec.name), place.step)
        shares = self.measure.shares(spectrum).tolist()
        self.out.writerows(
            (*front, index, sigma, share)
            for index, (sigma, share) in enumerate(
                zip(spectrum.sigma.tolist(), shares, strict=True)
            )
        )


@contextmanager
def _csv(path: Path, measure: Measure, _: Mapping[int, list[int | None]]) -> Iterator[_Writer]:
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEAD)
        yield _CsvWriter(writer, measure)
        text.flush()
        text.detach()  # the file is closed by who opened it


@dataclass(slots=True)
class _Hdf5Writer:
    """A group a series (`0`, `1`, ...), in it one a matrix, in it datasets over its snapshots."""

    file: Any
    measure: Measure
    steps: Mapping[int, list[int | None]]
    first: dict[tuple[int, str], NDArray[np.float64]] = field(default_factory=dict)

    def write(self, place: Place, spectrum: Spectrum) -> None:
        group = self._group(place, len(spectrum.sigma))
        shares = self.measure.shares(spectrum)
        if len(spectrum.sigma) > group["sigma"].shape[1]:
            group["sigma"].resize(len(spectrum.sigma), axis=1)
        group["sigma"][place.row, : len(spectrum.sigma)] = spectrum.sigma
        group["frobenius_norm"][place.row] = spectrum.frobenius_norm
        for column in self.measure.columns:
            value = column.read(spectrum).value
            group[column.key][place.row] = np.nan if value is None else value
        start = self.first.setdefault((place.series, place.spec.name), shares)
        found = crossing(start, shares) if start.shape == shares.shape else None
        if found is not None:
            group["crossing"][place.row] = found.index

    def _group(self, place: Place, length: int) -> Any:
        steps = self.steps[place.series]
        series = self.file.require_group(str(place.series))
        name = escaped(place.spec.name)
        if "step" not in series:
            series.attrs["source"] = storable(place.source)
            series["step"] = [-1 if step is None else step for step in steps]
        if name in series:
            return series[name]
        group = series.create_group(name)
        group.attrs["name"] = storable(place.spec.name)
        group.attrs["shape"] = place.spec.shape
        group.create_dataset(
            "sigma",
            (len(steps), length),
            "f8",
            maxshape=(len(steps), None),
            chunks=(1, max(1, length)),
            fillvalue=np.nan,
        )
        for key in ("frobenius_norm", "crossing", *(one.key for one in self.measure.columns)):
            group.create_dataset(key, (len(steps),), "f8", fillvalue=np.nan)
        return group


@contextmanager
def _hdf5(path: Path, measure: Measure, steps: Mapping[int, list[int | None]]) -> Iterator[_Writer]:
    import h5py

    with atomic_path(path) as inner, h5py.File(inner, "w") as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["norm"] = measure.norm
        yield _Hdf5Writer(file, measure, steps)


def escaped(name: str) -> str:
    """A matrix's name as that of a group: a slash would nest, `.` and `step` mean something.

    >>> escaped("encoder/layer.0"), escaped("step")
    ('encoder%2Flayer.0', '%step')
    """
    safe_name = storable(name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00"))
    return f"%{safe_name}" if safe_name in ("", ".", "step") else safe_name


def storable(text: str) -> str:
    r"""Text as HDF5 takes it: NUL and half a surrogate pair, which it does not, as escapes.

    >>> storable("a\0b\udc80")
    'a\\x00b\\udc80'
    """
    return re.sub("[\0\ud800-\udfff]", lambda found: printable(found[0]), text)


WRITERS: Mapping[str, Callable[..., AbstractContextManager[_Writer]]] = {
    ".csv": _csv,
    ".h5": _hdf5,
}
