"""What pictures are made of: a table, and the spectra that it was read off.

A table keeps no spectra, since a long run of a large model has more of them than fit into memory.
A picture shows few: those of a model, of some snapshots of a run, of where each of several runs
ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from rankscope.differences.difference import Difference
from rankscope.inventory import Entry, Inventory
from rankscope.measure import Measured
from rankscope.records import Spectrum
from rankscope.sweeps.runs import only_runs
from rankscope.table import Table

# Of a run: as many as lines in one colour's shades can be told apart.
MOST_SNAPSHOTS = 8

Kind = Literal["model", "run", "sweep"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Curve:
    """The spectrum of one matrix at one snapshot.

    Attributes:
        source: the series' path, as rows of the table have it.
        name: the matrix's.
        step: the snapshot's; None where it has none.
        spectrum: its singular values.
    """

    source: str
    name: str
    step: int | None
    spectrum: Spectrum


@dataclass(frozen=True, slots=True)
class Scene:
    """A table and what is drawn beside it.

    Attributes:
        table: everything that was measured.
        curves: in the order of the table's rows: of a series by itself at most `MOST_SNAPSHOTS` of
            its snapshots, the first and the last among them; of several, the last of each.
    """

    table: Table
    curves: tuple[Curve, ...]

    @property
    def kind(self) -> Kind:
        """A sweep of several runs, one run of several snapshots, or else single checkpoints.

        Runs beside a checkpoint that is of no run are no sweep: drawn are the ends of all of them.
        """
        if only_runs(self.table.runs, self.table.summary):
            return "sweep"
        steps: dict[str, int] = {}
        for row in self.table.summary:
            steps[row["source"]] = steps.get(row["source"], 0) + 1
        return "run" if len(steps) == 1 and max(steps.values()) > 1 else "model"


@dataclass(frozen=True, slots=True)
class DiffScene:
    """Two checkpoints side by side, and their spectra.

    Attributes:
        difference: what was compared.
        before: of A, in the natural order of names.
        after: of B, likewise.
        moved: of B - A under the names of B, where it was asked for and A and B differ.
    """

    difference: Difference
    before: tuple[Curve, ...]
    after: tuple[Curve, ...]
    moved: tuple[Curve, ...]


@dataclass(slots=True)
class Keeper:
    """Keeps of the spectra that pass by those that are drawn.

    Attributes:
        places: the series' path of each snapshot that is drawn, in their order.
        found: its spectra by matrix.
    """

    places: list[tuple[str, Entry]] = field(default_factory=list)
    found: dict[int, dict[str, Spectrum]] = field(default_factory=dict)

    def watch(self, inventory: Inventory, measured: Iterable[Measured]) -> Iterator[Measured]:
        """The same measurements, what is drawn of them noted as it passes."""
        self.places += [
            (str(inventory.series[entry.series].path), entry) for entry in chosen(inventory)
        ]
        self.found |= {id(entry): {} for _, entry in self.places}
        for one in measured:
            if isinstance(one.measurement, Spectrum) and id(one.entry) in self.found:
                self.found[id(one.entry)][one.spec.name] = one.measurement
            yield one

    @property
    def curves(self) -> tuple[Curve, ...]:
        """What was noted, in the order of the inventory."""
        return tuple(
            Curve(source, spec.name, entry.snapshot.step, spectrum)
            for source, entry in self.places
            for spec in entry.specs
            if (spectrum := self.found[id(entry)].get(spec.name)) is not None
        )


def chosen(inventory: Inventory) -> list[Entry]:
    """The snapshots whose spectra are drawn."""
    by_series: dict[int, list[Entry]] = {}
    for entry in inventory.entries:
        by_series.setdefault(entry.series, []).append(entry)
    most = MOST_SNAPSHOTS if len(by_series) == 1 else 1
    return [one for entries in by_series.values() for one in spread(entries, most)]


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many items, evenly apart, the last one and (of more than one) the first kept.

    >>> spread(range(10), 4), spread(range(3), 8), spread(range(5), 1)
    ([0, 3, 6, 9], [0, 1, 2], [4])
    """
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
