"""Spectra on disk, keyed by content, and a memo that spares even the reading of a known file.

One SQLite file. Transactions make a kill at any moment leave the old state or the new one, and
let two analyses share it. Everything in it can be computed again: it is safe to delete.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs

from rankscope.files import Identity, identity
from rankscope.records import Listing, Measurement, Route, Skipped, Spectrum, TensorInfo, Unmeasured
from rankscope.series import Series

FOLDER = "spectra"  # in a run directory
FILE_NAME = "spectra.sqlite3"

SCHEMA = """
CREATE TABLE IF NOT EXISTS spectra (
    key BLOB, route TEXT, version INTEGER, status TEXT, reason TEXT,
    sigma BLOB, rows INTEGER, columns INTEGER, dtype TEXT, frobenius REAL, max_row REAL,
    max_column REAL, resolution REAL, computed_by TEXT, zeros INTEGER,
    PRIMARY KEY (key, route, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, identity TEXT, listing TEXT);
CREATE TABLE IF NOT EXISTS keys (
    path TEXT, matrix TEXT, key BLOB, PRIMARY KEY (path, matrix)
) WITHOUT ROWID;
"""

LOCK_SECONDS = 20.0  # how long to wait for another analysis's transaction; each lasts milliseconds

# A file that changed this recently could change again within one tick of its file system's
# clock and look the same, so it is not remembered (the "racy git" problem; FAT ticks in 2 s).
RACY_SECONDS = 2.0


class StoreWarning(UserWarning):
    """The store cannot be used; the analysis goes on without it."""


class SpectrumStore:
    """Spectra of one store file; each process opens its own.

    A store is a convenience: when its file is damaged, locked or cannot be written, there is one
    `StoreWarning`, and from then on nothing is found and nothing kept.
    """

    def __init__(self, path: Path | None, version: int, *, read_only: bool = False) -> None:
        """Open a store file, creating it unless `read_only`.

        Args:
            path: the file; None for a store that keeps nothing.
            version: the solvers' version; spectra of another one are not found.
            read_only: do not write, do not warn: for workers, whose parent does both.
        """
        self.path = path
        self._version = version
        self._quiet = read_only
        self._db: sqlite3.Connection | None = None
        if path is None:
            return
        try:
            if read_only:
                uri = f"{path.absolute().as_uri()}?mode=ro"
                self._db = sqlite3.connect(uri, LOCK_SECONDS, uri=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(path, LOCK_SECONDS)
                self._db.executescript(SCHEMA)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def find(self, key: bytes, route: Route) -> Measurement | None:
        """What is known of the content `key` by this route."""
        query = "SELECT * FROM spectra WHERE key = ? AND route = ? AND version = ?"
        rows = self._query(query, (key, route, self._version))
        return _measurement(rows[0][3:]) if rows else None

    def find_all(self, path: Path, route: Route) -> dict[str, Measurement]:
        """What is known of the matrices of a remembered file, by name."""
        query = (
            "SELECT keys.matrix, spectra.* FROM keys JOIN spectra ON spectra.key = keys.key "
            "WHERE keys.path = ? AND route = ? AND version = ?"
        )
        rows = self._query(query, (_absolute(path), route, self._version))
        return {row[0]: _measurement(row[4:]) for row in rows}

    def listing(self, path: Path) -> Listing | None:
        """What a checkpoint holds, when none of its files has changed since it was remembered."""
        rows = self._query("SELECT identity, listing FROM files WHERE path = ?", (_absolute(path),))
        if not rows:
            return None
        try:
            unchanged = all(
                identity(known[0]) == Identity(*known) for known in json.loads(rows[0][0])
            )
            return _listing(json.loads(rows[0][1])) if unchanged else None
        except (OSError, ValueError, TypeError, KeyError):
            return None  # a file is gone, or the row was written by another version

    def remember(self, path: Path, listing: Listing, seen: Sequence[Identity]) -> None:
        """Remember a checkpoint's listing, its files being `seen` before they were read.

        What was remembered of this path before is forgotten. Nothing new is remembered of files
        that changed so recently that they could again, or while pieces are missing.
        """
        self.forget([path])
        now = time.time_ns()
        old = all(now - one.mtime_ns > RACY_SECONDS * 1e9 for one in seen)
        if seen and old and not listing.missing:
            row = (_absolute(path), json.dumps(seen), json.dumps(asdict(listing)))
            self._write("INSERT INTO files VALUES (?, ?, ?)", [row])

    def forget(self, paths: Iterable[Path]) -> None:
        """Forget these files, so that they are read again; spectra stay, found by content."""
        names = [(_absolute(path),) for path in paths]
        self._write("DELETE FROM keys WHERE path = ?", names)
        self._write("DELETE FROM files WHERE path = ?", names)

    def put(
        self, path: Path, matrix: str, key: bytes, computed: Iterable[tuple[Route, Measurement]]
    ) -> None:
        """Keep what a matrix of a checkpoint is, and what was computed for it.

        Only what follows from the content is kept: a lost worker or an unreadable file is not.
        """
        self._write(
            f"INSERT OR REPLACE INTO spectra VALUES ({', '.join('?' * 15)})",  # noqa: S608
            [
                (key, route, self._version, *_columns(found))
                for route, found in computed
                if keeps(found)
            ],
        )
        # The memo holds while the file is the one that was remembered.
        name = _absolute(path)
        query = "INSERT OR REPLACE INTO keys SELECT ?, ?, ? FROM files WHERE path = ?"
        self._write(query, [(name, matrix, key, name)])

    def commit(self) -> None:
        """Make everything that was put last."""
        if self._db is not None:
            try:
                self._db.commit()
            except sqlite3.Error as error:
                self._give_up(error)

    def close(self) -> None:
        """Close without committing."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _query(self, text: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        if self._db is None:
            return []
        try:
            return self._db.execute(text, values).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return []

    def _write(self, text: str, rows: Sequence[tuple[object, ...]]) -> None:
        if self._db is None:
            return
        try:
            self._db.executemany(text, rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.close()
        if not self._quiet:
            text = f"{self.path}: {error}; going on without a store (it is safe to delete)"
            warnings.warn(text, StoreWarning, stacklevel=4)


def store_path(series: Series, store: bool | Path) -> Path | None:
    """Where the store of a series lies: in the run's directory, else in the user's cache.

    Only a directory with `run.json` is ours to write into, and only when it is writable.

    Args:
        series: what is analysed.
        store: False for none, a path to use that one.
    """
    if isinstance(store, Path):
        return store
    if not store:
        return None
    if series.run is not None and os.access(series.run, os.W_OK):
        return series.run / FOLDER / FILE_NAME
    return Path(platformdirs.user_cache_dir("rankscope")) / FILE_NAME


def keeps(measurement: Measurement) -> bool:
    """Whether a measurement follows from the content alone."""
    return isinstance(measurement, Spectrum) or measurement.status in ("nonfinite", "empty")


def _absolute(path: Path) -> str:
    return str(path.absolute())


def _columns(found: Measurement) -> tuple[object, ...]:
    if isinstance(found, Unmeasured):
        return (found.status, found.reason, *[None] * 10)
    return (
        "ok", "", found.sigma.astype("<f8").tobytes(), *found.shape, found.dtype,
        found.frobenius_norm, found.max_row_norm, found.max_column_norm, found.resolution,
        found.route, found.zeros,
    )  # fmt: skip


def _measurement(row: Sequence[Any]) -> Measurement:
    import numpy as np

    status, reason, sigma, rows, columns, dtype, *rest = row
    if status != "ok":
        return Unmeasured(status, reason)
    frobenius, max_row, max_column, resolution, route, zeros = rest
    values = np.frombuffer(sigma, "<f8")
    return Spectrum(
        values, (rows, columns), dtype, frobenius, max_row, max_column, resolution, route, zeros
    )


def _listing(value: Mapping[str, Any]) -> Listing:
    tensors = tuple(
        TensorInfo(item["name"], tuple(item["shape"]), item["dtype"], item["channels_last"])
        for item in value["tensors"]
    )
    skipped, missing = (
        tuple(Skipped(item["name"], item["reason"]) for item in value[key])
        for key in ("skipped", "missing")
    )
    return Listing(value["path"], value["format"], tensors, skipped, missing, tuple(value["files"]))
