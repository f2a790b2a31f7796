"""Datasets over the snapshots of a run, for NumPy, MATLAB, Julia."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from rankscope.metrics.thresholded import shares
from rankscope.records import Spectrum
from rankscope.spectra.layout import SCHEMA, Measure, Place, Starts, Steps, Writer
from rankscope.text import printable
from rankscope.writing import atomic_path

T = TypeVar("T")


class _Disk:
    """What HDF5 writes to, which never hears that the disk is full.

    The library cannot close a file that it could not write to: it complains of every object in it,
    and ends the process. Instead all that follows the first error is dropped.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error

    def _unless_failed(self, otherwise: T, action: Callable[..., T], *arguments: Any) -> T:
        if self._error is None:
            try:
                return action(*arguments)
            except OSError as error:
                self._error = error
        return otherwise

    def read(self, size: int) -> bytes:
        return self._unless_failed(bytes(size), self._file.read, size)

    def write(self, data: memoryview) -> int:
        return self._unless_failed(len(data), self._file.write, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._unless_failed(offset, self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._unless_failed(0, self._file.tell)

    def truncate(self, size: int) -> int:
        return self._unless_failed(size, self._file.truncate, size)

    def flush(self) -> None:
        self._unless_failed(None, self._file.flush)


@dataclass(slots=True)
class _Hdf5Writer:
    """A group a series (`0`, `1`, ...), in it one a matrix, in it datasets over its snapshots."""

    file: Any
    disk: _Disk
    measure: Measure
    steps: Steps
    starts: Starts = field(default_factory=Starts)

    def write(self, place: Place, spectrum: Spectrum) -> None:
        self.disk.check()
        group = self._group(place, len(spectrum.sigma))
        if len(spectrum.sigma) > group["sigma"].shape[1]:
            group["sigma"].resize(len(spectrum.sigma), axis=1)
        group["sigma"][place.row, : len(spectrum.sigma)] = spectrum.sigma
        group["frobenius_norm"][place.row] = spectrum.frobenius_norm
        for column in self.measure.columns:
            value = column.read(spectrum).value
            group[column.key][place.row] = np.nan if value is None else value
        index = self.starts.crossing(place, shares(spectrum, self.measure.norm))
        if index is not None:
            group["crossing"][place.row] = index

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
def opened(path: Path, measure: Measure, steps: Steps) -> Iterator[Writer]:
    """A writer to a new file, which appears whole or not at all."""
    import h5py

    with atomic_path(path) as inner, inner.open("w+b") as handle:
        disk = _Disk(handle)
        with h5py.File(disk, "w") as file:
            file.attrs["schema"] = SCHEMA
            file.attrs["norm"] = measure.norm
            yield _Hdf5Writer(file, disk, measure, steps)
        disk.check()


def escaped(name: str) -> str:
    r"""A matrix's name as that of a group, no two alike: what HDF5 takes for its own is in hex.

    A slash would nest, `.` and `step` mean something; NUL and half a surrogate pair it refuses.

    >>> escaped("encoder/layer.0"), escaped("step"), escaped("a\udc80")
    ('encoder%2Flayer.0', '%step', 'a%DC80')
    """
    safe_name = re.sub("[%/\0\ud800-\udfff]", lambda found: f"%{ord(found[0]):02X}", name)
    return f"%{safe_name}" if safe_name in ("", ".", "step") else safe_name


def storable(text: str) -> str:
    r"""Text as HDF5 takes it: NUL and half a surrogate pair, which it does not, as escapes.

    >>> storable("a\0b\udc80")
    'a\\x00b\\udc80'
    """
    return re.sub("[\0\ud800-\udfff]", lambda found: printable(found[0]), text)
