"""Spectra in TensorBoard: scalars per matrix, and a histogram of each spectrum over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankscope.extras import needs
from rankscope.integrations.readings import SnapshotReading, edges
from rankscope.integrations.sinks import checked_metrics, histograms, scalars

needs("TensorBoardSink", "tensorboard", "tensorboard")
needs("TensorBoardSink", "torch", "tensorboard")


class TensorBoardSink:
    """Writes event files, with tags such as `rank/encoder.0.weight` and `spectrum/lm_head`.

    A histogram is of log10(sigma / ||W||_F), from -8 to 0. What an earlier process wrote into the
    directory is told anew and taken for superseded from the first step on, as TensorBoard does of a
    run that was resumed.

    Args:
        log_dir: of its own: TensorBoard stops looking at a file of events once there is a newer
            one beside it. A directory below that of the loop's own writer is shown beside it.
        metrics: as of `rankscope.analyze`; () for the default.

    Raises:
        UsageError: a metric is not known.
    """

    def __init__(self, log_dir: Path | str, *, metrics: Sequence[str] = ()) -> None:
        self.log_dir = Path(log_dir)
        self.metrics = checked_metrics(metrics)
        self._writer: Any = None

    def latest(self) -> None:
        """Nothing need be left out: what is told twice is shown once."""
        return

    def write(self, reading: SnapshotReading) -> None:
        """Add the events of a snapshot."""
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(str(self.log_dir), purge_step=reading.step)
        for tag, value in scalars(reading):
            self._writer.add_scalar(tag, value, reading.step)
        for tag, counts in histograms(reading):
            self._add_histogram(tag, counts, reading.step)
        self._writer.flush()

    def _add_histogram(self, tag: str, counts: Sequence[int], step: int) -> None:
        low, high = edges()[:-1], edges()[1:]
        middles = [(left + right) / 2 for left, right in zip(low, high, strict=True)]
        self._writer.add_histogram_raw(
            tag,
            min=low[0],
            max=high[-1],
            num=sum(counts),
            sum=sum(n * at for n, at in zip(counts, middles, strict=True)),
            sum_squares=sum(n * at * at for n, at in zip(counts, middles, strict=True)),
            bucket_limits=high,
            bucket_counts=counts,
            global_step=step,
        )

    def close(self) -> None:
        """Close the file of events."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
