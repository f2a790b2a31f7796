"""Run directories made by hand: a record, and whatever matrices a test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankscope import analyze
from rankscope.api import Analysis
from rankscope.how import How
from rankscope.snapshots import (
    Hyperparameters,
    LogRecord,
    MatrixRecord,
    Optimiser,
    RunRecord,
    SnapshotWriter,
)
from rankscope.views import terminal
from rankscope.views.analysis import report

Array = NDArray[np.float64]
Snapshots = Mapping[int, Mapping[str, Array]]


@dataclass(frozen=True)
class Recipe:
    """What run.json shall say; `inputs` None leaves m_l out, `unmarked` are not averaged."""

    batch: int = 2
    lr: float = 0.1
    weight_decay: float = 0.5
    world_size: int = 1
    accumulation: int = 1
    schedule: tuple[tuple[int, float], ...] | None = ()
    optimiser: str | None = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    inputs: int | None = 1
    unmarked: tuple[str, ...] = ()
    model: str | None = "net"
    data: str | None = "digits"
    seed: int | None = 0

    def record(self, snapshots: Snapshots) -> RunRecord:
        """The record of a run with these matrices."""
        shapes = {name: a.shape for one in snapshots.values() for name, a in one.items()}
        optimiser = None
        if self.optimiser is not None:
            optimiser = Optimiser(self.optimiser, self.momentum, self.nesterov)
        return RunRecord(
            model=self.model,
            data=self.data,
            seed=self.seed,
            optimiser=optimiser,
            hyperparameters=Hyperparameters(
                self.batch,
                self.lr,
                self.weight_decay,
                self.world_size,
                self.accumulation,
                self.schedule,
            ),
            matrices=tuple(
                MatrixRecord(
                    name,
                    "stacked" if len(shape) == 3 else "linear",
                    shape,
                    self.inputs,
                    name not in self.unmarked,
                )
                for name, shape in shapes.items()
            ),
        )


def write_run(
    path: Path,
    snapshots: Snapshots,
    recipe: Recipe | None = None,
    logs: Mapping[int, LogRecord] | None = None,
) -> Path:
    """A run directory with these snapshots."""
    record = (recipe or Recipe()).record(snapshots)
    logs = logs or {}
    with SnapshotWriter(path, record) as writer:
        for step, arrays in snapshots.items():
            writer.save(step, dict(arrays), logs.get(step))
    return path


def ask(*paths: Path, **options: Any) -> Analysis:
    """An analysis that keeps no store, of the rank unless told otherwise."""
    options.setdefault("metrics", ["rank"])
    return analyze(*paths, how=How(store=False, workers=1), **options)


def column(table: Analysis, name: str, key: str) -> list[Any]:
    """A matrix's values of one column, by step."""
    return [row[key] for row in table.matrices if row["name"] == name]


def notes(table: Analysis, name: str, key: str) -> list[str]:
    """A matrix's notes on one column, by step; empty where there is none."""
    return [row["notes"].get(key, "") for row in table.matrices if row["name"] == name]


def diagonal(values: Sequence[float], rows: int = 0) -> Array:
    """A matrix with these singular values."""
    found = np.zeros((max(rows, len(values)), len(values)))
    np.fill_diagonal(found, values)
    return found


def shown(table: Analysis) -> str:
    """What a person sees on a wide screen, so that no sentence is broken."""
    return terminal.render(report(table), width=400)
