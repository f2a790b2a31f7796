"""What is in a run's directory now: names and sizes only, again and again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from rankscope.errors import InputRejected, UsageError
from rankscope.grouping import group_files
from rankscope.identities import Identity, identity, identity_or_absence
from rankscope.runrecord import RUN_FILE, RunRecord, read_run_record
from rankscope.series import Series, discover, is_run
from rankscope.text import nearest


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look finds.

    Attributes:
        series: the numbered snapshots; None while there is none.
        seen: of each of their paths, by step, which file it is.
        waiting: what is waited for, while there is none.
        record: what run.json says; None where there is none that can be read.
        remark: why it cannot.
    """

    series: Series | None = None
    seen: Mapping[int, Identity] = field(default_factory=dict)
    waiting: str = ""
    record: RunRecord | None = None
    remark: str = ""


class Lookout:
    """Looks at one directory, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: Identity | None = None
        self._record: RunRecord | None = None
        self._remark = ""

    def check(self) -> None:
        """Refuse what no waiting will make a run of.

        Raises:
            UsageError: it is a file, or holds runs.
        """
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise UsageError(
                f"{self.path}: is a file, expected the directory of a run; "
                "rankscope analyze measures a file"
            )
        run = self._run_inside()
        if run is not None:
            raise UsageError(f"{self.path}: holds runs, expected one: give its path, as {run}")

    def look(self) -> Sight:
        """What is there now."""
        self._read_record()
        try:
            series = discover(self.path)
        except InputRejected as error:
            return self._nothing(error.reason)
        except OSError as error:
            return self._nothing(error.strerror or str(error))
        seen: dict[int, Identity] = {}
        for one in series.snapshots:
            if one.step is None:
                return self._nothing(f"{one.path.name} has no step in its name")
            with suppress(OSError):  # removed since it was listed
                seen[one.step] = identity(one.path)
        left = tuple(one for one in series.snapshots if one.step in seen)
        if not left:
            return self._nothing("")
        return Sight(replace(series, snapshots=left), seen, "", self._record, self._remark)

    def _nothing(self, reason: str) -> Sight:
        if not os.path.exists(self.path):
            reason = self._why_not_there()
        elif (run := self._run_inside()) is not None:
            reason = f"{self.path} holds runs, expected one: give its path, as {run}"
        words = "waiting for the first snapshot"
        waiting = f"{words}: {reason}" if reason else words
        return Sight(None, {}, waiting, self._record, self._remark)

    def _run_inside(self) -> Path | None:
        """A run below a directory that is none itself."""
        try:
            below = [one.path for one in group_files([self.path]) if one.run]
        except InputRejected as error:
            below = [Path(error.path)] if is_run(Path(error.path)) else []  # just begun
        except OSError:
            below = []
        return Path(below[-1]) if below and below[-1] != self.path else None

    def _why_not_there(self) -> str:
        """What to say of a path that is not there: a typing error must be seen as one."""
        parent = self.path.absolute().parent
        if not parent.is_dir():
            return f"there is no {self.path}, nor a directory {parent}"
        try:
            with os.scandir(parent) as entries:
                near = nearest(self.path.name, [one.name for one in entries if one.is_dir()])
        except OSError:
            near = []
        beside = f"; beside it: {', '.join(near)}" if near else ""
        return f"there is no {self.path} yet{beside}"

    def _read_record(self) -> None:
        """Read run.json when it has changed."""
        try:
            seen = identity_or_absence(self.path / RUN_FILE)
            if seen != self._read:
                self._read, self._record, self._remark = seen, None, ""
                self._record = read_run_record(self.path)
        except (InputRejected, OSError, ValueError) as error:
            self._remark = str(error)
