"""What B - A is, matrix by matrix, written into the rows of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rankscope.differences.changes import DELTA
from rankscope.differences.delta import (
    NUMERICAL,
    Known,
    Pair,
    delta_columns,
    difference_key,
    zero_spectrum,
)
from rankscope.differences.running import Places, deltas
from rankscope.how import How
from rankscope.question import Column, read_all
from rankscope.records import INFINITE, Measurement, Reading, Spectrum
from rankscope.resolution import real_reading
from rankscope.rows import Row, write

Compared = tuple[Row, Known, Known]  # a row of the comparison, and the matrices that it is of


def delta_keys(columns: Sequence[Column]) -> tuple[str, ...]:
    """The keys of what is read off B - A, given what was asked of A and B."""
    return tuple(column.key for column in delta_columns(columns, 0.0))


def add_deltas(
    matrices: Sequence[Compared], columns: Sequence[Column], places: Places, how: How
) -> dict[str, Spectrum]:
    """Write into every row what B - A is; its spectra by the names of B.

    Equal matrices, those of different shapes and what cannot be subtracted are not read.
    """
    spectra: dict[str, Spectrum] = {}
    waiting: dict[tuple[str, str], Compared] = {}
    pairs: list[Pair] = []
    for one in matrices:
        row, before, after = one
        row |= dict.fromkeys(("relative_change", f"{DELTA}status", f"{DELTA}noise"))
        row |= dict.fromkeys(DELTA + key for key in delta_keys(columns))
        if _without(row, before, after):
            continue
        noise = _noise(row, before, after)
        asked = delta_columns(columns, noise)
        row[f"{DELTA}noise"] = noise
        if before.key is None or after.key is None:
            raise AssertionError("what was measured is known by its content")
        if before.key == after.key:
            _write(one, zero_spectrum(after.spec.shape), asked)
            continue
        pairs.append(Pair(before.spec, after.spec, difference_key(before.key, after.key), asked))
        waiting[before.spec.name, after.spec.name] = one
    for found in deltas(pairs, places, how):
        one = waiting[found.pair.before.name, found.pair.after.name]
        _write(one, found.measurement, found.pair.columns, found.readings)
        if isinstance(found.measurement, Spectrum):
            spectra[found.pair.after.name] = found.measurement
    return spectra


def _without(row: Row, before: Known, after: Known) -> bool:
    """Whether there is no B - A to be measured; the row then says why."""
    status, note = None, ""
    if before.status != "ok" or after.status != "ok":
        side = "status" if after.status != "ok" else "status_before"
        status = row[side]
        note = f"{'before: ' if side == 'status_before' else ''}{row['notes'].get(side, status)}"
    elif before.spec.shape != after.spec.shape:
        note = "shapes differ"
    row[f"{DELTA}status"] = status
    if note:
        row["notes"][f"{DELTA}status"] = note
    return bool(note)


def _noise(row: Row, before: Known, after: Known) -> float | None:
    """The spectral norm that the rounding of both may have; None where one is encoded."""
    if before.noise is None or after.noise is None:
        encoding = before.spec.encoding or after.spec.encoding
        row["notes"][DELTA + NUMERICAL] = f"undefined: the rounding of {encoding} is not known"
        return None
    return before.noise + after.noise


def _write(
    one: Compared,
    found: Measurement,
    columns: Sequence[Column],
    readings: Sequence[Reading] | None = None,
) -> None:
    row, before, _ = one
    if not isinstance(found, Spectrum):
        row[f"{DELTA}status"] = found.status
        row["notes"][f"{DELTA}status"] = found.reason
        return
    row[f"{DELTA}status"] = "ok"
    write(row, "relative_change", _share(found.frobenius_norm, before.norm or 0.0))
    inexact = f"not exact by the {found.route} route"
    values = read_all(columns, found) if readings is None else readings
    for column, reading in zip(columns, values, strict=True):
        write(row, DELTA + column.key, reading, inexact)


def _share(part: float, whole: float) -> Reading:
    if whole > 0:
        return real_reading(part / whole, exact=True)
    return Reading(math.inf, f"{INFINITE}: it was zero") if part > 0 else Reading(0.0)
