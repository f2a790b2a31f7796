"""Two checkpoints -> their difference: measured together, paired, and where asked subtracted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from rankscope.checkpoints import is_isolated
from rankscope.differences.changes import change_row, summary_of, worst_first
from rankscope.differences.delta import Known
from rankscope.differences.difference import Difference
from rankscope.differences.running import Places
from rankscope.differences.subtraction import add_deltas, delta_keys
from rankscope.errors import InputRejected
from rankscope.how import How
from rankscope.identities import Identity, identity_of_hint, identity_or_absence
from rankscope.inventory import Entry, Inventory
from rankscope.matrices import Selection, tensor_of
from rankscope.measure import Measured, measure
from rankscope.pairing import Pairing, pair
from rankscope.presence import can_move
from rankscope.question import Question
from rankscope.records import Spectrum
from rankscope.rows import Row
from rankscope.series import on_base, single
from rankscope.store import store_path
from rankscope.table import Run, Table, build
from rankscope.tabulation import provenance


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of two checkpoints.

    Attributes:
        question: what is read off the spectra.
        selection: which matrices, by their names in either.
        delta: whether B - A is measured too.
        base: the model that B is an adapter of, to be merged into; None where it is a model.
    """

    question: Question
    selection: Selection
    delta: bool
    base: PurePath | str | None = None


@dataclass(slots=True)
class Spectra:
    """The spectra that pass by while two checkpoints are compared, by matrix.

    Attributes:
        before: of A.
        after: of B.
        moved: of B - A, by the names of B; neither of what is equal in both, nor unmeasured.
    """

    before: dict[str, Spectrum] = field(default_factory=dict)
    after: dict[str, Spectrum] = field(default_factory=dict)
    moved: dict[str, Spectrum] = field(default_factory=dict)

    def note(self, measured: Iterable[Measured]) -> Iterator[Measured]:
        """The same measurements, their spectra noted as they pass."""
        for one in measured:
            if isinstance(one.measurement, Spectrum):
                side = self.after if one.entry.series else self.before
                side[one.spec.name] = one.measurement
            yield one


def difference(before: PurePath | str, after: PurePath | str, asked: Asked, how: How) -> Difference:
    """Compare two checkpoints; arguments and errors as of `with_spectra`."""
    return with_spectra(before, after, asked, how)[0]


def with_spectra(
    before: PurePath | str, after: PurePath | str, asked: Asked, how: How
) -> tuple[Difference, Spectra]:
    """Compare two checkpoints, and keep the spectra that were compared.

    Args:
        before: the checkpoint A: a file, or a model's directory.
        after: the checkpoint B.
        asked: what is compared.
        how: by which means. What is equal in both, and what the store knows, costs nothing.

    Raises:
        InputRejected: one of them is not sound, or no single checkpoint.
        UsageError: an unknown metric, a glob that matches nothing.
    """
    columns = asked.question.columns()
    spectra = Spectra()
    first = single(before)
    second = single(after, anew=not can_move(first.path))
    series = [first, *on_base([second], asked.base)]
    inventory, measured = measure(series, asked.selection, columns, replace(how, keyed=True))
    with closing(measured):
        entries = _entries(inventory)
        # From before anything is read: what is subtracted must be what was measured.
        seen = _identities(entries)
        known: tuple[dict[str, Known], dict[str, Known]] = ({}, {})
        told = provenance(inventory, asked.question, how)
        noted = _noted(spectra.note(measured), known)
        table = build(inventory, noted, columns, [Run(), Run()], told)
    sides = _split(table, len(known[0]))
    ties = _ties(entries[0]), _ties(entries[1])
    found = _Found(entries, table, sides, pair(*sides, ties))
    rows = {old: change_row(sides[0][old], sides[1][new], columns) for old, new in found.compared}
    if asked.delta:
        isolated = any(is_isolated(entry.listing) for entry in entries)
        store = store_path(series[1], how.store)
        places = Places(entries[0].snapshot, entries[1].snapshot, seen, isolated, store)
        matrices = [(rows[old], known[0][old], known[1][new]) for old, new in found.compared]
        spectra.moved |= add_deltas(matrices, columns, places, how)
    norms = {name: one.norm for name, one in known[0].items() if one.norm is not None}
    delta_columns = delta_keys(columns) if asked.delta else ()
    return found.record(worst_first(rows.values()), norms, delta_columns), spectra


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is to compare, measured.

    Attributes:
        entries: A and B.
        table: the rows of both.
        sides: those of each by name.
        pairing: which is which.
    """

    entries: tuple[Entry, Entry]
    table: Table
    sides: tuple[dict[str, Row], dict[str, Row]]
    pairing: Pairing

    @property
    def compared(self) -> list[tuple[str, str]]:
        """The names in A and B of every matrix that stands in both."""
        return [(name, name) for name in self.pairing.common] + list(self.pairing.renamed.items())

    def record(
        self, rows: tuple[Row, ...], norms: Mapping[str, float], delta_columns: tuple[str, ...]
    ) -> Difference:
        """The record, of rows in their final order and the norms of A's matrices by name."""
        table, pairing, (before, after) = self.table, self.pairing, self.sides
        sources = [
            {key: one[key] for key in ("path", "format")} for one in table.provenance["sources"]
        ]
        return Difference(
            before=sources[0],
            after=sources[1],
            columns=table.columns,
            delta_columns=delta_columns,
            matrices=rows,
            removed=_alone(pairing.removed, before, self.entries[1]),
            added=_alone(pairing.added, after, self.entries[0]),
            renamed=tuple({"before": old, "after": new} for old, new in pairing.renamed.items()),
            tied=tuple(
                {"name": name, "side": "before" if name in before else "after", "to": twin}
                for name, twin in pairing.tied.items()
            ),
            reshaped=_turned(rows, "shape"),
            retyped=_turned(rows, "dtype"),
            skipped=table.skipped,
            summary=summary_of(rows, norms),
            provenance=table.provenance,
        )


def _entries(inventory: Inventory) -> tuple[Entry, Entry]:
    """The two checkpoints; `InputRejected` where one is not sound."""
    for _, error in inventory.rejected:
        raise error
    found = {entry.series: entry for entry in inventory.entries}
    for index, one in enumerate(inventory.series):
        if index not in found:
            reason = one.skipped[0].reason if one.skipped else "holds no snapshot"
            raise InputRejected(one.path, reason)
    return found[0], found[1]


def _identities(entries: Iterable[Entry]) -> tuple[Identity, ...]:
    """What tells that the files stay as they are; `InputRejected` where one cannot be looked at."""
    seen: list[Identity] = []
    for entry in entries:
        try:
            seen += map(identity_or_absence, entry.listing.files)
            seen += map(identity_of_hint, entry.listing.hints)
        except OSError as error:
            raise InputRejected(entry.snapshot.path, error.strerror or str(error)) from error
    return tuple(seen)


def _noted(
    measured: Iterable[Measured], known: tuple[dict[str, Known], dict[str, Known]]
) -> Iterator[Measured]:
    """The same, what is needed of each noted as it passes."""
    for one in measured:
        known[one.entry.series][one.spec.name] = Known.of(one)
        yield one


def _split(table: Table, count: int) -> tuple[dict[str, Row], dict[str, Row]]:
    """The rows of A, which come first, and of B, by name; both may have the same path."""
    before, after = table.matrices[:count], table.matrices[count:]
    return {row["name"]: row for row in before}, {row["name"]: row for row in after}


def _ties(entry: Entry) -> dict[str, str]:
    """Further names of a checkpoint's tensors, as its files tell, and which each is of."""
    return {item.name: item.same_as for item in entry.skipped if item.same_as}


def _alone(names: Iterable[str], rows: Mapping[str, Row], other: Entry) -> tuple[Row, ...]:
    """What only one of them has, or what the other one has in a form that is not measured."""
    unread = {item.name: item.reason for item in (*other.skipped, *other.listing.missing)}
    parts = (f"{item.name} {item.reason}" for item in other.listing.missing if item.unnamed)
    unknown = next(parts, "")
    return tuple(
        {key: rows[name][key] for key in ("name", "shape", "dtype", "status")}
        | {"reason": unread.get(name) or unread.get(tensor_of(name)) or unknown}
        for name in names
    )


def _turned(rows: Iterable[Row], key: str) -> tuple[Row, ...]:
    """The matrices of which this is another one."""
    return tuple(
        {"name": row["name"], "before": row[f"{key}_before"], "after": row[key]}
        for row in rows
        if row[key] != row[f"{key}_before"]
    )
