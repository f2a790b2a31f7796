"""Spectra in Weights & Biases, in the training loop's own run, over steps of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rankscope.extras import needs
from rankscope.integrations.readings import SnapshotReading, edges
from rankscope.integrations.sinks import checked_metrics, histograms, scalars

needs("WandbSink", "wandb", "wandb")

PREFIX = "rankscope"
STEP = f"{PREFIX}/step"


class WandbSink:
    """Logs under `rankscope/`, over `rankscope/step`: `rankscope/rank/encoder.0.weight`.

    Spectra come late, when the loop's own step is beyond theirs, and W&B drops what is logged below
    the current step. So they have a step metric of their own, and join the row that the loop is at:
    a loop that passes `step=` to `run.log` loses nothing and has no step moved. Only where two
    snapshots are told while the loop logs nothing is the row ended, as `run.log` does.

    Args:
        run: what `wandb.init` returned; it is not finished here. `wandb.init(..., reinit=
            "create_new")` gives a run that is for spectra only.
        metrics: as of `rankscope.analyze`; () for the default.

    Raises:
        UsageError: a metric is not known.
    """

    def __init__(self, run: Any, *, metrics: Sequence[str] = ()) -> None:
        self.metrics = checked_metrics(metrics)
        self._run = run
        self._row: int | None = None
        run.define_metric(STEP, hidden=True)
        run.define_metric(f"{PREFIX}/*", step_metric=STEP)

    def latest(self) -> int | None:
        """What W&B knows of a run that was resumed."""
        step = self._run.summary.get(STEP) if self._run.resumed else None
        return None if step is None else int(step)

    def write(self, reading: SnapshotReading) -> None:
        """Add a snapshot to the row that the loop is at."""
        import wandb

        if self._run.step == self._row:
            self._run.log({}, commit=True)  # the row holds a snapshot already
        told: dict[str, Any] = {STEP: reading.step}
        told |= {f"{PREFIX}/{tag}": value for tag, value in scalars(reading)}
        for tag, counts in histograms(reading):
            histogram = wandb.Histogram(np_histogram=(list(counts), list(edges())))
            told[f"{PREFIX}/{tag}"] = histogram
        self._run.log(told, commit=False)
        self._row = self._run.step

    def close(self) -> None:
        """Nothing is left to be done: who began the run finishes it."""
