"""A plan of what was listed: what the store knows, how this machine does, and what it takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath

from rankscope.answering import answer, asked_route, sound
from rankscope.calibration import measured_rates
from rankscope.inventory import Entry, Inventory
from rankscope.jsonobject import read_json
from rankscope.places import place
from rankscope.prediction import Plan, predict
from rankscope.question import Question
from rankscope.rates import Rates, rates_of
from rankscope.records import MatrixSpec, Measurement, Route
from rankscope.solvers import ROUTE_VERSION
from rankscope.storagerate import storage_rate
from rankscope.store import SpectrumStore, store_path
from rankscope.taskcosts import Work, work_of

MOST_SAMPLED = 64  # files: opening a thousand on a network file system takes longer than reading

MOST_RATES = 2**24  # bytes of a file of rates, or of a plan that holds them: with 50,000 matrices


def plan_of(
    inventory: Inventory,
    workers: int,
    *,
    listing: float,
    store: bool | Path = True,
    rates: Path | None = None,
) -> Plan:
    """What measuring an inventory takes.

    At most 40 MB of its files are read, to learn at what rate they come.

    Args:
        inventory: what is wanted.
        workers: processes.
        listing: seconds that taking the inventory took.
        store: as of `How`.
        rates: a file of rates to reckon with, or a plan that holds them; None to measure.

    Raises:
        InputRejected: a file cannot be read.
    """
    known = {
        index: names
        for index, entry in enumerate(inventory.entries)
        if (names := _known(inventory, entry, store))
    }
    work = work_of(inventory.entries, known, listing=listing, stored=store is not False)
    found = _measured(inventory.entries, work, workers) if rates is None else read_rates(rates)
    return predict(work, found, workers, sum(map(len, known.values())))


def read_rates(path: Path) -> Rates:
    """The rates in a file. Raises `InputRejected` where it holds none."""
    return rates_of(path, read_json(path, MOST_RATES))


def _measured(entries: Sequence[Entry], work: Work, workers: int) -> Rates:
    files = list(dict.fromkeys(place(file) for entry in entries for file in entry.listing.files))
    storage = storage_rate([file for file in _spread(files) if _is_file(file)])
    specs = work.specs
    largest = max((min(spec.shape) for spec in specs), default=0)
    return measured_rates(storage, largest, [spec.dtype for spec in specs], workers)


def _spread(files: Sequence[PurePath]) -> Sequence[PurePath]:
    return files[:: max(1, len(files) // MOST_SAMPLED)]


def _is_file(path: PurePath) -> bool:
    """Whether it can be sampled: what lies elsewhere is tried, and tells."""
    return not isinstance(path, Path) or os.path.isfile(path)


def _known(inventory: Inventory, entry: Entry, store: bool | Path) -> set[str]:
    """The matrices of a snapshot that the store answers without reading the file.

    What `measure` finds by its content, in a file that has changed, is not among them.
    """
    path = store_path(inventory.series[entry.series], store)
    if path is None or not path.exists() or entry.snapshot.base is not None:
        return set()
    memory = SpectrumStore(path, ROUTE_VERSION, read_only=True)
    try:
        if memory.listing(entry.snapshot.path) is None:
            return set()
        found = memory.find_all(entry.snapshot.path)
    finally:
        memory.close()
    columns = Question().columns()

    def answered(spec: MatrixSpec) -> bool:
        def look_up(route: Route) -> Measurement | None:
            return sound(found.get((spec.name, route), (b"", None))[1], spec)

        return answer(asked_route("auto", spec), columns, look_up) is not None

    return {spec.name for spec in entry.specs if answered(spec)}
