"""`python -m benchmarks scale`: the tables and the figure of docs/scale.md.

Every constant is measured on this machine first; what is assumed is named so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import scaleconstants, scalemodel
from benchmarks.scaleconstants import Listed, Rowed, Stored
from benchmarks.scalemodel import CHECKPOINTS, FILES, Kind, Site, simulate
from rankscope.blas import blas_threads
from rankscope.calibration import measured_rates
from rankscope.figures import house
from rankscope.palette import UNORDERED, shades
from rankscope.rates import Rates, Storage
from rankscope.views.planning import duration, scaled, size

IMAGE = Path("docs/images/scale.svg")

CORES = (1, 10, 100, 1_000, 10_000)
BANDWIDTHS = (1e9, 1e10, 1e11)
CLIENTS = (1, 10, 100)

# Assumed, not measured: there was no card. By an H100's data sheet its fp64 matrix product is 67
# TFLOP/s, more than a thousand such cores, and its memory, which an eigensolver waits for, 3.35
# TB/s, some two hundred; no solver uses all of that. A card is reckoned as 40 cores.
CARD = 40.0
CARDS = (10, 100, 1_000)

LATENCY = 0.05  # seconds of a request to an object store in another region; assumed
REQUESTS = 2 * FILES + 1  # of a header: its length, itself; and the index
THREADS = (1, 16, 64)

CHECKED_ORDER = 4096  # decomposed for real, against what the rates say of it

QUIET, TRIES = 0.95, 8  # of the cores' time: with less, the rates are those of a busy machine

SMALL_K, WIDE_K = 16, 8192
SMALL_STEPS, WIDE_STEPS = [10_000, 100_000, 300_000, 1_000_000], [3_000]


@dataclass(frozen=True, slots=True)
class Constants:
    """What was measured.

    Attributes:
        rates: of this machine.
        checked: seconds of eigenvalues that were measured, over those that the rates say.
        listed: a checkpoint's headers.
        rowed: a row of the table.
        small: stores of short spectra.
        wide: stores of spectra of 8192 values.
        task: seconds a task of Dask's scheduler and our client, its result one such spectrum.
    """

    rates: Rates
    checked: float
    listed: Listed
    rowed: Rowed
    small: list[Stored]
    wide: list[Stored]
    task: float

    @property
    def client(self) -> float:
        """Seconds a matrix of the process that collects them."""
        return self.rates.row + self.wide[-1].put

    def site(self, workers: int, storage: float, clients: int = 1) -> Site:
        """So many cores at a storage of so many bytes/s."""
        return Site(workers, storage, self.task, self.client, clients=clients)


def bench_scale(folder: Path) -> None:
    """The tables of docs/scale.md, and its figure."""
    found = measured(folder)
    kinds = scalemodel.kinds_70b(found.rates)
    _work()
    _constants(found)
    _phases(found)
    _times(found, kinds)
    _cards(found, kinds)
    _limits(found, kinds)
    _rest(found)
    draw(found, kinds, IMAGE)


def measured(folder: Path) -> Constants:
    """The constants, in about four minutes."""
    rates = _quiet_rates()
    index = scaleconstants.sparse_70b(folder / "llama-70b")
    return Constants(
        rates,
        _checked(rates),
        scaleconstants.listing(index),
        scaleconstants.row(folder),
        scaleconstants.fill_store(folder / "small.sqlite3", index, SMALL_K, SMALL_STEPS),
        scaleconstants.fill_store(folder / "wide.sqlite3", index, WIDE_K, WIDE_STEPS),
        scaleconstants.dask_task(WIDE_K, 2000),
    )


def _quiet_rates() -> Rates:
    """The rates of a machine that is our own, or of the quietest of a few tries."""
    # What is read lies in the page cache by then, at the rate that plans find here: 5 to 6 GB/s.
    nowhere = Storage("", None, 5e9, None, 0)
    found: list[Rates] = []
    while len(found) < TRIES and (not found or found[-1].share < QUIET):
        found.append(measured_rates(nowhere, scalemodel.WIDTH, ["bfloat16"]))
    return max(found, key=lambda rates: rates.share)


def _checked(rates: Rates) -> float:
    matrix = np.random.default_rng(0).standard_normal((CHECKED_ORDER, CHECKED_ORDER))
    matrix = matrix @ matrix.T
    with blas_threads(1):
        begun = time.process_time()
        np.linalg.eigvalsh(matrix)
        taken = time.process_time() - begun
    return taken / rates.alone.eigen_seconds(CHECKED_ORDER)


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in Markdown."""
    print(f"\n### {title}\n\n| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def _work() -> None:
    one = scalemodel.totals()
    names = {"matrices": "", "parameters": "", "bytes": "B", "flops": "FLOP", "spectra": "B"}
    rows = [
        (name, *(f"{scaled(n * value)}{unit}" for n in (1, CHECKPOINTS)))
        for name, unit in names.items()
        for value in [asdict(one)[name]]
    ]
    table("The work", ("", "a checkpoint", f"{CHECKPOINTS:,}"), rows)


def _constants(found: Constants) -> None:
    rates = found.rates.together
    rows = [
        ("Gram product, order 1024", f"{rates.gram[-1][1] / 1e9:.1f} GFLOP/s"),
        ("eigenvalues, order 1536", f"{rates.eigen[-1][1]:.3f} s"),
        ("matrix-vector product from memory", f"{rates.bandwidth / 1e9:.1f} GB/s"),
        ("eigenvalues, order 8192, by these", f"{rates.eigen_seconds(8192):.0f} s"),
        ("share of the cores' time that was ours", f"{found.rates.share:.0%}"),
        (
            f"order {CHECKED_ORDER} alone: processor time to what is reckoned",
            f"{found.checked:.2f}",
        ),
        ("bf16 to float64 with norms", f"{1e-9 / rates.convert[0][1]:.2f} G/s"),
        ("SHA-256", f"{rates.hashing / 1e9:.2f} GB/s"),
        ("headers of a checkpoint, from memory", f"{found.listed.seconds * 1e3:.0f} ms"),
        ("its listing in memory", f"{size(found.listed.memory)}"),
        ("a row of the table", f"{found.rates.row * 1e3:.2f} ms, {size(found.rowed.memory)}"),
        ("a row of the JSON document", f"{size(found.rowed.json)}"),
        ("Dask, a task with 64 KiB of result", f"{found.task * 1e3:.2f} ms"),
    ]
    table("Measured, a core while all are busy", ("", ""), rows)
    stores = [
        (
            f"{one.spectra:,}",
            str(one.k),
            size(one.bytes),
            f"{one.bytes / one.spectra - 8 * one.k:.0f}",
            f"{1 / one.put:,.0f}",
            f"{one.find * 1e6:.0f} µs",
        )
        for one in [*found.small, *found.wide]
    ]
    heads = ("spectra", "values", "file", "bytes beside values", "put a second", "found in")
    table("The store", heads, stores)


def _phases(found: Constants) -> None:
    phases = asdict(scalemodel.phases_70b(found.rates))
    whole = sum(phases.values())
    rows = [
        (name, duration(seconds), f"{seconds / whole:.1%}")
        for name, seconds in sorted(phases.items(), key=lambda item: -item[1])
        if seconds
    ]
    rows.append(("all", duration(whole), f"{CHECKPOINTS * whole / 3600:,.0f} core-hours in all"))
    table("Where a core's time goes, one checkpoint", ("", "time", "share"), rows)


def _times(found: Constants, kinds: list[Kind]) -> None:
    rows = []
    for cores in CORES:
        runs = [simulate(kinds, found.site(cores, storage)) for storage in BANDWIDTHS]
        cells = [f"{duration(run.seconds)}, {run.limit} {_busiest(run):.0%}" for run in runs]
        rows.append((f"{cores:,}", *cells))
    heads = ("cores", *(f"{size(storage)}/s" for storage in BANDWIDTHS))
    table("Time by cores and storage, and what is busiest", heads, rows)


def _busiest(run: scalemodel.Run) -> float:
    return max(run.worker, run.storage, run.scheduler, run.client)


def _cards(found: Constants, kinds: list[Kind]) -> None:
    rows = []
    for cards in CARDS:
        sites = [replace(found.site(cards, storage), speed=CARD) for storage in BANDWIDTHS]
        runs = [simulate(kinds, site) for site in sites]
        cells = [f"{duration(run.seconds)}, {run.limit} {_busiest(run):.0%}" for run in runs]
        rows.append((f"{cards:,}", *cells))
    heads = ("cards", *(f"{size(storage)}/s" for storage in BANDWIDTHS))
    table(f"The same if a card does what {CARD:.0f} cores do (assumed)", heads, rows)


def _limits(found: Constants, kinds: list[Kind]) -> None:
    mean = sum(kind.seconds for kind in kinds) / len(kinds)
    read = sum(kind.size for kind in kinds) / len(kinds)
    rates = {f"storage of {size(storage)}/s": storage / read for storage in BANDWIDTHS}
    rates |= {"scheduler": 1 / found.task, "client and store": 1 / found.client}
    rows = [
        (name, f"{rate:,.0f}", f"{rate * mean:,.0f}", f"{rate * mean / CARD:,.0f}")
        for name, rate in sorted(rates.items(), key=lambda item: item[1])
    ]
    heads = ("", "matrices a second", "cores that fill it", "cards (assumed)")
    table("What gives way first", heads, rows)


def _rest(found: Constants) -> None:
    count = scalemodel.totals().matrices
    spectra = found.wide[-1].bytes / found.wide[-1].spectra
    rows = []
    for clients in CLIENTS:
        matrices = CHECKPOINTS * count / clients
        kept = matrices * found.rowed.memory + CHECKPOINTS / clients * found.listed.memory
        rows.append(
            (
                f"{clients:,}",
                size(matrices * spectra),
                size(kept),
                size(matrices * found.rowed.json),
                duration(CHECKPOINTS / clients * found.listed.seconds),
                *(
                    duration(CHECKPOINTS / clients * REQUESTS * LATENCY / threads)
                    for threads in THREADS
                ),
            )
        )
    heads = ("clients", "store", "client's memory", "JSON", "listing, local")
    far = tuple(f"50 ms, {threads} at once" for threads in THREADS)
    table("What each client holds and lists", (*heads, *far), rows)


def draw(found: Constants, kinds: list[Kind], target: Path) -> None:
    """Time over cores by storage; and how busy each part is at 10 GB/s."""
    cores = [round(10 ** (power / 4)) for power in range(17)]
    with house.styled():
        figure = house.blank(house.PAGE, 2.6, "10,000 checkpoints of 70 B parameters (simulated)")
        left, right = figure.subplots(1, 2)
        colours = shades(len(BANDWIDTHS))
        for storage, colour in zip(BANDWIDTHS, colours, strict=True):
            days = [simulate(kinds, found.site(n, storage)).seconds / 86400 for n in cores]
            left.loglog(cores, days, color=colour, label=f"storage of {size(storage)}/s")
        left.set(xlabel="cores", ylabel="days", title="time")
        left.legend()
        runs = [simulate(kinds, found.site(n, BANDWIDTHS[1])) for n in cores]
        parts = ("worker", "storage", "scheduler", "client")
        for part, colour in zip(parts, UNORDERED, strict=False):
            right.loglog(cores, [getattr(run, part) for run in runs], color=colour, label=part)
        title = f"busy share of time, storage of {size(BANDWIDTHS[1])}/s"
        right.set(xlabel="cores", ylim=(1e-6, 2), title=title)
        right.legend()
        house.save(figure, target)
