"""The singular values themselves as data: every matrix of every snapshot, to a file.

docs/python.md describes the layouts. A new one is one file with `opened(path, measure, steps)`, a
context that gives a `Writer`, and one entry in `LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from rankscope.errors import UsageError
from rankscope.inventory import Inventory
from rankscope.measure import Measured
from rankscope.parquet import SUFFIX, check_installed
from rankscope.records import Spectrum
from rankscope.spectra import csv, hdf5, parquet
from rankscope.spectra.layout import SCHEMA, Measure, Place, Steps, Writer

__all__ = ["SCHEMA", "Measure", "check_target", "export"]


LAYOUTS: Mapping[str, Callable[[Path, Measure, Steps], AbstractContextManager[Writer]]] = {
    ".csv": csv.opened,
    ".h5": hdf5.opened,
    SUFFIX: parquet.opened,
}


def check_target(path: Path) -> None:
    """`UsageError` unless the suffix names a layout, and what that needs is installed."""
    if path.suffix.lower() == SUFFIX:
        check_installed()
    if path.suffix.lower() not in LAYOUTS:
        known = ", ".join(LAYOUTS)
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
    with LAYOUTS[path.suffix.lower()](path, measure, _lengths(inventory)) as writer:
        for place, found in _in_order(inventory, measured):
            if isinstance(found.measurement, Spectrum):
                writer.write(place, found.measurement)
            elif found.measurement.status != "empty":  # that has no singular value to lack
                at = "" if place.step is None else f" at step {place.step}"
                reason = found.measurement.reason
                lacking.append(f"{place.source}: {place.spec.name}{at}: {reason}")
    return lacking


def _lengths(inventory: Inventory) -> Steps:
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
