"""The runs behind a figure, as `rankscope.analyze` sees them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import rankscope
from rankscope.errors import InputRejected
from trainers.figures.house import described
from trainers.recipes.manifest import Manifest, Member

Row = Mapping[str, Any]

# Where a run directory has its snapshots; one being written has another name.
SNAPSHOTS, SNAPSHOT = "snapshots", "step-*"

NAMED = 1  # of the runs that are missing; a name is long


@dataclass(frozen=True, slots=True)
class Measured:
    """One run.

    Attributes:
        path: its directory.
        table: its analysis.
        epochs: how many it has done when it is finished.
    """

    path: Path
    table: rankscope.Analysis
    epochs: int

    @property
    def per_epoch(self) -> list[Row]:
        """The rows of the summary at the end of an epoch; in a burst there are others."""
        return [row for row in self.table.summary if row.get("epoch") is not None]

    @property
    def first(self) -> Row:
        """The first of these."""
        return self.per_epoch[0]

    @property
    def last(self) -> Row:
        """The last of these."""
        return self.per_epoch[-1]

    @property
    def finished(self) -> bool:
        """Whether it has done all its epochs."""
        return bool(self.last["epoch"] >= self.epochs)

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """Epochs, and the values at their ends; NaN where there is none."""
        rows = self.per_epoch
        return [row["epoch"] for row in rows], [value_of(row, key) for row in rows]

    def layers(self, step: int) -> list[Row]:
        """The rows of the matrices that the average is over, at one step, from the input on.

        The analysis has them by name, numbers ascending; what has no number (`stem`,
        `patch_embedding`) is next to the input, as the head is in no average.
        """
        rows = [
            row
            for row in self.table.matrices
            if row["step"] == step and row["averaged"] is not False
        ]
        return sorted(rows, key=lambda row: any(map(str.isdigit, row["name"])))

    def mean(self, row: Row, key: str) -> float:
        """The mean of a column over these at a row of the summary; NaN where one has none."""
        values: list[Any] = [layer.get(key) for layer in self.layers(row["step"])]
        return math.nan if None in values or not values else fmean(values)

    @property
    def full_rank(self) -> float:
        """The average that the matrices would have at full rank."""
        sides = [min(row["shape"]) for row in self.layers(self.last["step"])]
        return float(sum(sides) / len(sides))


Runs = Mapping[str, Measured]  # by the directory's name below that of all runs


def value_of(row: Row, key: str) -> float:
    """A value of the summary; NaN where a matrix without a spectrum is missing in the mean."""
    value = row.get(key)
    logged = key.endswith(("accuracy", "loss"))
    return math.nan if value is None or (row["unmeasured"] and not logged) else float(value)


def key_at(metric: str, eps: float, all_eps: Sequence[float]) -> str:
    """The key of a metric that depends on eps; it says which where there are several."""
    text = f"{eps:g}" if float(f"{eps:g}") == eps else repr(eps)
    return f"{metric}@{text}" if len(set(all_eps)) > 1 else metric


def by_title(manifest: Manifest, runs: Runs) -> dict[str, list[Measured]]:
    """The runs that are there, by what tells them from the others; several where seeds vary."""
    found: dict[str, list[Measured]] = {}
    for panel in manifest.panels:
        for member in panel.runs:
            if member.run in runs:
                own = described(member.labels)
                parts = [own] if own and len(manifest.panels) == 1 else [panel.title, own]
                title = ", ".join(part for part in parts if part)
                found.setdefault(title, []).append(runs[member.run])
    return found


def measure(manifest: Manifest, directory: Path, metrics: Sequence[str]) -> Runs:
    """Analyse every run that has a snapshot; what is missing or unfinished is told on stderr.

    Raises:
        InputRejected: none of the runs is there.
    """
    found: dict[str, Measured] = {}
    members = {run.run: run for panel in manifest.panels for run in panel.runs}
    for run in _begun(list(members.values()), directory, manifest.recipe):
        path = directory / run.run
        try:
            found[run.run] = _measured(run, path, metrics, manifest.eps)
        except InputRejected as error:
            _tell(f"not drawn: {error}")
            continue
        for line in _remarks(found[run.run]):
            _tell(f"{path}: {line}")
    if not found:
        raise InputRejected(
            directory,
            f"has none of the {len(members)} runs of {manifest.recipe} to draw; "
            "run the recipe again as before",
        )
    return found


def drawable(manifest: Manifest, runs: Runs) -> Manifest:
    """The manifest without the panels of which no run is there; they are named on stderr."""
    panels = manifest.panels
    there = tuple(one for one in panels if any(run.run in runs for run in one.runs))
    left_out = [one.title for one in panels if one not in there]
    if left_out:
        _tell(f"{len(left_out)} of {len(panels)} panels have no run yet: {'; '.join(left_out)}")
    return replace(manifest, panels=there)


def _begun(runs: Sequence[Member], directory: Path, recipe: str) -> list[Member]:
    """The runs that have a snapshot; how many others there are is told on stderr."""
    there = [run for run in runs if (directory / run.run).is_dir()]
    begun = [run for run in there if any((directory / run.run / SNAPSHOTS).glob(SNAPSHOT))]
    for before, after, one, many in (
        (runs, there, "is not there", "are not there"),
        (there, begun, "has no snapshot yet", "have no snapshot yet"),
    ):
        missing = [run.run for run in before if run not in after]
        if missing:
            words = one if len(missing) == 1 else many
            names = ", ".join([*missing[:NAMED], *(["..."] if missing[NAMED:] else [])])
            _tell(f"missing: {len(missing)} of {len(runs)} runs of {recipe} {words}: {names}")
    return begun


def _measured(run: Member, path: Path, metrics: Sequence[str], eps: Sequence[float]) -> Measured:
    measured = Measured(path, rankscope.analyze(path, metrics=metrics, eps=eps), run.epochs)
    if not measured.per_epoch:
        raise InputRejected(path, "its log knows no epochs")
    return measured


def _remarks(run: Measured) -> list[str]:
    """What a reader of the figure has to know of a run that is not whole."""
    lines = [f"{row['name']}: {row['reason']}" for row in run.table.skipped if row["missing"]]
    if not run.finished:
        lines.append(f"unfinished, epoch {run.last['epoch']:g} of {run.epochs}; drawn so far")
    broken = [row["step"] for row in run.table.summary if row["unmeasured"]]
    if broken:
        lines.append(f"from step {broken[0]} on, weights without a spectrum: no average there")
    return lines


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
