"""Spectra on disk, keyed by content, and a memo that spares even the reading of a known file.

One SQLite file. Transactions make a kill at any moment leave the old state or the new one, and
let two analyses share it. Everything in it can be computed again: it is safe to delete.
"""

from __future__ import annotations

import os
import sqlite3
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

import platformdirs

from rankscope.identities import Identity, unchanged
from rankscope.places import masked
from rankscope.records import Listing, Measurement, Route, Spectrum
from rankscope.series import Series
from rankscope.storefile import (
    identity_text,
    key_row,
    listing_in,
    listing_row,
    measurement_in,
    measurement_row,
    name_in,
    path_bytes,
    prepare,
    route_in,
    sealed,
)

FOLDER = "spectra"  # in a run directory
FILE_NAME = "spectra.sqlite3"

LOCK_SECONDS = 20.0  # how long to wait for another analysis's transaction; each lasts milliseconds

# A file that changed this recently could change again within one tick of its file system's
# clock and look the same, so it is not remembered (the "racy git" problem; FAT ticks in 2 s).
RACY_SECONDS = 2.0

# UnicodeError: the name that SQLite quotes from a damaged schema need not be text.
FAULTS = (sqlite3.Error, UnicodeError, OSError)


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
        # The identity under which this object has found or remembered a checkpoint.
        self._seen: dict[bytes, tuple[Identity, ...]] = {}
        if path is None:
            return
        try:
            if read_only:
                uri = f"{path.absolute().as_uri()}?mode=ro"
                self._db = sqlite3.connect(uri, LOCK_SECONDS, uri=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(path, LOCK_SECONDS)
                prepare(self._db)
        except FAULTS as error:
            self._give_up(error)

    def find(self, key: bytes, route: Route) -> Measurement | None:
        """What is known of the content `key` by this route."""
        query = "SELECT * FROM spectra WHERE key = ? AND route = ? AND version = ?"
        rows = self._query(query, (key, route, self._version))
        return measurement_in(rows[0]) if rows else None

    def find_all(self, path: PurePath) -> dict[tuple[str, Route], tuple[bytes, Measurement]]:
        """Of a file that is `seen`: by name and route, a matrix's key and what is known of it."""
        query = (
            "SELECT keys.*, spectra.* FROM files JOIN keys ON keys.path = files.path "
            "JOIN spectra ON spectra.key = keys.key "
            "WHERE files.path = ? AND identity = ? AND version = ?"
        )
        values = (path_bytes(path), identity_text(self.seen(path)), self._version)
        found: dict[tuple[str, Route], tuple[bytes, Measurement]] = {}
        for row in self._query(query, values):
            name, measurement = name_in(row[:4]), measurement_in(row[4:])
            if name is not None and measurement is not None:
                found[name, route_in(row[4:])] = row[2], measurement
        return found

    @property
    def empty(self) -> bool:
        """Whether nothing is known of any content."""
        return not self._query("SELECT 1 FROM spectra LIMIT 1", ())

    def listing(self, path: PurePath) -> Listing | None:
        """What a checkpoint holds, when none of its files has changed since it was remembered."""
        name = path_bytes(path)
        rows = self._query("SELECT * FROM files WHERE path = ?", (name,))
        known = listing_in(rows[0]) if rows else None
        if known is None or not unchanged(known[1]):
            return None
        listing, self._seen[name] = known
        return listing

    def seen(self, path: PurePath) -> tuple[Identity, ...]:
        """The identity of the files of a checkpoint that is remembered; () of any other."""
        return self._seen.get(path_bytes(path), ())

    def remember(self, path: PurePath, listing: Listing, seen: Sequence[Identity]) -> None:
        """Remember a checkpoint's listing, its files being `seen` before they were read.

        What was remembered of this path before is forgotten. Nothing new is remembered of files
        that changed so recently that they could again, or while pieces are missing; nor of a URL
        with a query, which would have to be kept: it may be a signature, and who has it can read.
        """
        self.forget([path])
        now = time.time_ns()
        old = all(now - one.mtime_ns > RACY_SECONDS * 1e9 for one in seen)
        secret = any(masked(one.path) != one.path for one in seen)
        if self._db is not None and seen and old and not listing.missing and not secret:
            name = path_bytes(path)
            row = listing_row(name, listing, seen)
            self._write("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", [sealed(row)])
            self._seen[name] = tuple(seen)

    def forget(self, paths: Iterable[PurePath]) -> None:
        """Forget these files, so that they are read again; spectra stay, found by content."""
        names = [(path_bytes(path),) for path in paths]
        self._write("DELETE FROM keys WHERE path = ?", names)
        self._write("DELETE FROM files WHERE path = ?", names)
        for (name,) in names:
            self._seen.pop(name, None)

    def put(
        self,
        path: PurePath,
        matrix: str,
        key: bytes,
        computed: Iterable[tuple[Route, Measurement]],
        seen: Sequence[Identity] = (),
    ) -> None:
        """Keep what a matrix of a checkpoint is, and what was computed for it.

        Only what follows from the content is kept: a lost worker or an unreadable file is not.
        The memo of what is in a file is kept only for the file that it was read from: one `seen`
        with this identity, before and after, that is remembered with the same.
        """
        rows = [
            sealed(measurement_row(key, route, self._version, found))
            for route, found in computed
            if keeps(found)
        ]
        places = ", ".join("?" * 16)
        self._write(f"INSERT OR REPLACE INTO spectra VALUES ({places})", rows)  # noqa: S608
        if seen:
            name = path_bytes(path)
            query = (
                "INSERT OR REPLACE INTO keys SELECT ?, ?, ?, ? "
                "FROM files WHERE path = ? AND identity = ?"
            )
            row = sealed(key_row(name, matrix, key))
            self._write(query, [(*row, name, identity_text(seen))])

    def commit(self) -> None:
        """Make everything that was put last."""
        if self._db is not None:
            try:
                self._db.commit()
            except FAULTS as error:
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
        except FAULTS as error:
            self._give_up(error)
            return []

    def _write(self, text: str, rows: Sequence[tuple[object, ...]]) -> None:
        if self._db is None:
            return
        try:
            self._db.executemany(text, rows)
        except FAULTS as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.close()
        if not self._quiet:
            # Not every file that `--store` may name by mistake is ours to throw away.
            ours = self.path is not None and self.path.name == FILE_NAME
            damaged = ours and type(error) is sqlite3.DatabaseError
            advice = " (it is safe to delete)" if damaged else ""
            text = f"{self.path}: {error}; going on without a store{advice}"
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
    if isinstance(series.run, Path) and os.access(series.run, os.W_OK):
        return series.run / FOLDER / FILE_NAME
    return Path(platformdirs.user_cache_dir("rankscope")) / FILE_NAME


def keeps(measurement: Measurement) -> bool:
    """Whether a measurement follows from the content alone."""
    return isinstance(measurement, Spectrum) or measurement.status in ("nonfinite", "empty")
