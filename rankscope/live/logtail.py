"""`log.jsonl` read as it grows: each line once."""

from __future__ import annotations

from pathlib import Path

from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile, opened
from rankscope.identities import ABSENT, Identity, identity_or_absence
from rankscope.rows import Row
from rankscope.runlog import parse_log, whole_lines

# At a time: some 20 000 lines, about a quarter of a second's work.
PORTION = 2**22


class LogTail:
    """The records of a log so far.

    A log that was cut, replaced or removed is read anew. Lines that are no records are left out,
    as a half line at the end is: a live view goes on.

    Attributes:
        records: by step, the later of two lines for one.
        behind: whether more is there than has been read.
        remark: what is wrong with it; empty where nothing is.
        version: grows whenever there is anything new.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: Identity | None = None
        self.version = 0
        self._begin()

    def _begin(self) -> None:
        self.records: dict[int, Row] = {}
        self.behind = False
        self.remark = ""
        self._offset = 0
        self._lines = 0
        self._last = b""  # the line before the offset: another one there is of another log

    def read(self) -> bool:
        """Read on; whether there was anything new."""
        try:
            seen = identity_or_absence(self._path)
            if seen == self._seen and not self.behind:
                return False
            if seen.size == ABSENT:
                self._begin()
            else:
                self._take(opened(self._path, self._next))
            self._seen = seen
        except (InputRejected, OSError) as error:
            if self._seen is None and self.remark == str(error):
                return False
            self._begin()
            self._seen, self.remark = None, str(error)
        self.version += 1
        return True

    def _next(self, file: RandomAccessFile) -> bytes:
        try:
            start = self._offset - len(self._last)
            cut = file.size < self._offset
            if not self._offset or cut or file.read(start, len(self._last)) != self._last:
                self._begin()
            data = bytes(file.read(self._offset, min(PORTION, file.size - self._offset)))
            self.behind = self._offset + len(data) < file.size
            return data
        finally:
            file.close()

    def _take(self, data: bytes) -> None:
        """Note the whole lines; of one that is longer than a portion, that it is no record."""
        size = whole_lines(data) or (len(data) if self.behind else 0)
        lines = data[:size].splitlines(keepends=True)
        for line in lines:
            self._lines += 1
            try:
                for record in parse_log(self._path, line, self._lines):
                    self.records[record["step"]] = record
            except InputRejected as error:
                self.remark = f"{error}; the line is left out"
        self._offset += size
        self._last = lines[-1] if lines else self._last
