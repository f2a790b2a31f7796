"""The file behind the store: its tables, and records to and from their rows.

Every row that a result is drawn from ends in a digest of itself: SQLite does not notice a bit
that changes within a value.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

from rankscope.identities import Identity
from rankscope.records import (
    Factors,
    Kind,
    Listing,
    MatrixSpec,
    Measurement,
    Part,
    Route,
    Skipped,
    Solved,
    Spectrum,
    TensorInfo,
    Unmeasured,
)

Row = tuple[object, ...]

# Spectra stand in the order in which they came, which is that of their files, and are read so;
# WITHOUT ROWID they would be ordered by the hash of their content, three times the size.
# Names are BLOBs: a file name may be no text, and a tensor's name hold half a surrogate pair.
TABLES = (
    """CREATE TABLE spectra (
        key BLOB, route TEXT, version INTEGER, status TEXT, reason TEXT,
        sigma BLOB, rows INTEGER, columns INTEGER, dtype TEXT, frobenius REAL, max_row REAL,
        max_column REAL, resolution REAL, computed_by TEXT, zeros INTEGER, digest BLOB,
        PRIMARY KEY (key, route, version)
    )""",
    "CREATE TABLE files (path BLOB PRIMARY KEY, identity TEXT, listing TEXT, digest BLOB)",
    """CREATE TABLE keys (
        path BLOB, matrix BLOB, key BLOB, digest BLOB, PRIMARY KEY (path, matrix)
    ) WITHOUT ROWID""",
)

# Both stand in the header of the file. The first, "RkSc", keeps us from writing into another
# program's database. The second is raised when `TABLES` or what a column means changes.
APPLICATION = 0x526B5363
LAYOUT = 2


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables of a new file, or of one with another layout; leave anybody else's alone.

    Raises:
        sqlite3.Error: it is not a database, or somebody else's.
    """
    if _header(db) == (APPLICATION, LAYOUT):
        return
    # Another process may be doing the same.
    db.execute("BEGIN IMMEDIATE")
    application, layout = _header(db)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if names and application != APPLICATION:
        raise sqlite3.DatabaseError("a database of another program, no store")
    if layout != LAYOUT:
        for name in names:
            db.execute(f'DROP TABLE "{name}"')
        for table in TABLES:
            db.execute(table)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {LAYOUT}")
    db.commit()


def _header(db: sqlite3.Connection) -> tuple[int, int]:
    """The application id and the version of the layout."""
    pragmas = ("application_id", "user_version")
    application, layout = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas)
    return application, layout


def path_bytes(path: PurePath) -> bytes:
    """The absolute path, whatever bytes it is made of; or the URL as it may be kept."""
    return os.fsencode(path.absolute() if isinstance(path, Path) else str(path))


def key_row(path: bytes, matrix: str, key: bytes) -> Row:
    """A row of `keys`, without its digest."""
    return (path, matrix.encode("utf-8", "surrogatepass"), key)


def name_in(whole: Sequence[Any]) -> str | None:
    """The matrix that a row of `keys` is of; None when it is not as it was written."""
    *row, digest = whole
    return row[1].decode("utf-8", "surrogatepass") if digest == _digest(row) else None


def sealed(row: Row) -> Row:
    """The row with its digest at the end."""
    return (*row, _digest(row))


def _digest(row: Sequence[object]) -> bytes:
    parts = [value if isinstance(value, bytes) else repr(value).encode() for value in row]
    # Lengths first, so that no two rows run together to the same bytes.
    lengths = struct.pack(f"<{len(parts)}Q", *map(len, parts))
    return hashlib.sha256(lengths + b"".join(parts)).digest()


def measurement_row(key: bytes, route: str, version: int, found: Measurement) -> Row:
    """A row of `spectra`, without its digest."""
    if isinstance(found, Unmeasured):
        return (key, route, version, found.status, found.reason, *[None] * 10)
    return (
        key, route, version, "ok", "", found.sigma.astype("<f8").tobytes(), *found.shape,
        found.dtype, float(found.frobenius_norm), float(found.max_row_norm),
        float(found.max_column_norm), float(found.resolution), found.route, found.zeros,
    )  # fmt: skip


def measurement_in(whole: Sequence[Any]) -> Measurement | None:
    """What a row of `spectra` says; None when it is not as it was written."""
    import numpy as np

    *row, digest = whole
    if digest != _digest(row):
        return None
    status, reason, sigma, rows, columns, dtype, *rest = row[3:]
    if status != "ok":
        return Unmeasured(status, reason)
    frobenius, max_row, max_column, resolution, route, zeros = rest
    values = np.frombuffer(sigma, "<f8")
    return Spectrum(
        values, (rows, columns), dtype, frobenius, max_row, max_column, resolution, route, zeros
    )


def route_in(whole: Sequence[Any]) -> Route:
    """The route that a row of `spectra` was computed by; the row is as it was written."""
    route: Route = whole[1]
    return route


def identity_text(seen: Sequence[Identity]) -> str:
    """The identity of a checkpoint's files, to be compared as text."""
    return json.dumps(seen)


def listing_row(path: bytes, listing: Listing, seen: Sequence[Identity]) -> Row:
    """A row of `files`, without its digest."""
    return (path, identity_text(seen), json.dumps(asdict(listing)))


def listing_in(whole: Sequence[Any]) -> tuple[Listing, tuple[Identity, ...]] | None:
    """What a row of `files` says; None when it is not as it was written."""
    *row, digest = whole
    if digest != _digest(row):
        return None
    try:
        seen = tuple(Identity(*known) for known in json.loads(row[1]))
        return _listing(json.loads(row[2])), seen
    except (KeyError, TypeError, ValueError):
        return None  # written by a version whose records have other fields


def _listing(value: Mapping[str, Any]) -> Listing:
    skipped, missing = (
        tuple(
            Skipped(item["name"], item["reason"], item["what"], item["same_as"], item["unnamed"])
            for item in value[key]
        )
        for key in ("skipped", "missing")
    )
    tensors = tuple(map(_tensor, value["tensors"]))
    files, hints = tuple(value["files"]), tuple(value["hints"])
    ties = tuple((further, stored) for further, stored in value["ties"])
    return Listing(value["path"], value["format"], tensors, skipped, missing, files, hints, ties)


def _tensor(item: Mapping[str, Any]) -> TensorInfo:
    factors = item["factors"]
    return TensorInfo(
        item["name"],
        tuple(item["shape"]),
        item["dtype"],
        item["channels_last"],
        item["transposed"],
        tuple(Part(**part) for part in item["parts"]),
        item["encoding"],
        tuple(item["sources"]),
        None
        if factors is None
        else Factors(_matrix(factors["left"]), _matrix(factors["right"]), factors["scale"]),
        tuple(map(_solved, item["solved"])),
    )


def _solved(item: Mapping[str, Any]) -> Solved:
    sigma = item["sigma"]
    return Solved(**{**item, "sigma": None if sigma is None else _matrix(sigma)})


def _matrix(item: Mapping[str, Any]) -> MatrixSpec:
    """A factor, or singular values: a whole matrix of a stored tensor."""
    rows, columns = item["shape"]
    kind: Kind = item["kind"]
    return MatrixSpec(
        item["name"],
        item["tensor"],
        tuple(item["index"]),
        item["split"],
        (rows, columns),
        item["dtype"],
        kind,
    )
