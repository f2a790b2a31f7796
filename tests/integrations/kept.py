"""A sink that keeps what it is told."""

from __future__ import annotations

from rankscope.integrations import SnapshotReading


class Kept:
    """A sink as a user writes one."""

    def __init__(self, *metrics: str, latest: int | None = None) -> None:
        self.metrics = metrics
        self.readings: list[SnapshotReading] = []
        self.closed = 0
        self._latest = latest

    def latest(self) -> int | None:
        return self._latest

    def write(self, reading: SnapshotReading) -> None:
        self.readings.append(reading)

    def close(self) -> None:
        self.closed += 1

    @property
    def steps(self) -> list[int]:
        return [one.step for one in self.readings]
