"""Where readings go: TensorBoard, Weights & Biases, or whatever has the methods of a `Sink`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from rankscope.how import How
from rankscope.integrations.readings import SnapshotReading, readings
from rankscope.question import Question
from rankscope.text import printable


class Sink(Protocol):
    """Shows the readings of a run."""

    @property
    def metrics(self) -> Sequence[str]:
        """What is asked of each matrix, as of `rankscope.analyze`; () for the default."""

    def latest(self) -> int | None:
        """The last step that it has from an earlier process, and need not be told again."""

    def write(self, reading: SnapshotReading) -> None:
        """Show a snapshot; they come in the order of their steps."""

    def close(self) -> None:
        """Everything has been told."""


def export(path: Path | str, sink: Sink, *, how: How | None = None) -> int:
    """Tell a sink of every snapshot of a run that is over, or of numbered checkpoints.

    Args:
        path: a run directory, or anybody's directory of numbered checkpoints.
        sink: closed when it has been told.
        how: workers, store, progress.

    Returns:
        How many snapshots it was told of; one that cannot be read is a `RuntimeWarning`.

    Raises:
        InputRejected: no snapshot is sound.
        UsageError: the snapshots have no steps; a metric is not known.
    """
    count = 0
    try:
        for reading in readings(Path(path), sink.latest(), sink.metrics, how or How(device="cpu")):
            if reading.trouble:
                trouble = f"{printable(reading.trouble)}: no sink is told of it"
                warnings.warn(trouble, RuntimeWarning, stacklevel=2)
                continue
            sink.write(reading)
            count += 1
    finally:
        sink.close()
    return count


def checked_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """What a sink asks of each matrix, found out to be known before hours of training.

    Raises:
        UsageError: a metric is not known, or its parameter is out of range.
    """
    found = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    Question(found).columns()
    return found


def scalars(reading: SnapshotReading) -> Iterator[tuple[str, float]]:
    """A tag and a value: `rank/encoder.0.weight`, and `mean/rank` over the averaged matrices."""
    for key, value in reading.means.items():
        yield f"mean/{key}", value
    for matrix in reading.matrices:
        for key, value in matrix.values.items():
            yield f"{key}/{printable(matrix.name)}", value


def histograms(reading: SnapshotReading) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A tag and the counts per bin, of each matrix that has a spectrum: `spectrum/lm_head`."""
    for matrix in reading.matrices:
        if matrix.counts:
            yield f"spectrum/{printable(matrix.name)}", matrix.counts
