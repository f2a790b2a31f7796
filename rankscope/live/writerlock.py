"""Whether somebody is writing a run, told without getting in the writer's way.

A `SnapshotWriter` holds a lock on the run's log. Trying to take it, for however short, could make
a writer fail that starts at that moment. Linux lists who holds which lock; see proc_locks(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LOCKS = Path("/proc/locks")


def is_locked(path: Path, locks: Path = LOCKS) -> bool | None:
    """Whether a process of this machine holds the lock on a file; None where it cannot be told.

    A process in another container is not seen.
    """
    try:
        status = os.stat(path)
        # Two of these numbers, in hexadecimal, and the inode's, in decimal.
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        lines = locks.read_text().splitlines()
    except (OSError, AttributeError):
        return None
    holders = dict(_holders(lines, status.st_ino))
    return device in holders or any(_has_open(pid, status) for pid in holders.values())


def _holders(lines: list[str], inode: int) -> Iterator[tuple[str, str]]:
    """Device and process of each lock on a file of this inode's number."""
    for line in lines:
        words = line.split()  # `1: FLOCK ADVISORY WRITE 4711 fe:00:2711908 0 EOF`
        if len(words) == 8 and words[1] == "FLOCK":
            device, _, number = words[5].rpartition(":")
            if number == str(inode):
                yield device, words[4]


def _has_open(pid: str, wanted: os.stat_result) -> bool:
    """Whether a process has a file open; on btrfs and overlays the devices' numbers differ."""
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with suppress(OSError):
                if os.path.samestat(entry.stat(), wanted):
                    return True
    return False
