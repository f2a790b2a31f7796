"""The cells of a table that train as one batch, kept so that what is finished is not done again.

    OUT/P2-T1/adam-1-penalised/group.json           how each of its cells ended
    OUT/P2-T1/adam-1-penalised/ratio/seed-0/        a run directory for each

A group is written beside its place and moved there when it is finished.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rankscope.errors import InputRejected, OutputFailed, UsageError
from trainers.completion.cell import Cell, OptimiserName
from trainers.completion.options import DtypeName, StopName

GROUP = "group.json"
PARTIAL = ".partial"  # ends the name of a group that is not finished

# What is not finite where a run diverged.
MEASURED = ("error_all", "error_unobserved", "effective_rank")

# Updates between two readings: a reading takes as long as some updates of a penalised network.
RECORD_EVERY = 200


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same for all groups of a table.

    Attributes:
        seeds: how many each cell is trained with, from 0 on.
        iterations: limit of a group with penalties, each update of which has to decompose W.
        plain_iterations: limit of a group without.
        dtype: float32 or float64.
        device: as PyTorch calls it; what was run on another counts as well.
        stop: plateau, or iterations for lines that go on to the limit.
        also: further steps to read at.
    """

    seeds: int
    iterations: int
    plain_iterations: int
    dtype: DtypeName = "float32"
    device: str = "cpu"
    stop: StopName = "plateau"
    also: frozenset[int] = frozenset()

    def limit(self, group: Group) -> int:
        """Of that group."""
        return self.iterations if group.penalised else self.plain_iterations

    def record(self, group: Group) -> dict[str, Any]:
        """What `group.json` says of them."""
        return {"seeds": self.seeds, "dtype": self.dtype, "iterations": self.limit(group)}


@dataclass(frozen=True, slots=True)
class Group:
    """Cells with the same optimiser and depth, all with a penalty or all without.

    Attributes:
        name: such as adam-1-penalised.
        cells: with all seeds.
    """

    name: str
    cells: tuple[Cell, ...]

    @property
    def penalised(self) -> bool:
        """Whether they have penalties."""
        return self.cells[0].penalty != "none"


@dataclass(frozen=True, slots=True)
class Result:
    """How a cell ended.

    Attributes:
        optimiser: with depth, penalty and seed, which cell.
        error_all: mean square over all entries; infinite where it diverged.
        error_unobserved: over those that are not observed.
        effective_rank: 0 for W = 0, infinite where it diverged.
        iterations: how many updates there were.
        end: `descent.End`.
    """

    optimiser: OptimiserName
    depth: int
    penalty: str
    seed: int
    error_all: float
    error_unobserved: float
    effective_rank: float
    iterations: int
    end: str


def grouped(cells: Sequence[Cell], seeds: int) -> tuple[Group, ...]:
    """The groups of a table's cells, those that take longest first."""
    members: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        members[group_name(cell)] += [replace(cell, seed=seed) for seed in range(seeds)]
    groups = [Group(name, tuple(found)) for name, found in members.items()]
    return tuple(sorted(groups, key=lambda group: (not group.penalised, -group.cells[0].depth)))


def group_name(cell: Cell) -> str:
    """Of the group that a cell belongs to."""
    return f"{cell.optimiser}-{cell.depth}{'' if cell.penalty == 'none' else '-penalised'}"


def place(cell: Cell) -> str:
    """The run directory of a cell below its group's."""
    return f"{cell.penalty.replace(':', '-').replace('/', '_')}/seed-{cell.seed}"


def finished(group: Group, settings: Settings, directory: Path) -> list[Result] | None:
    """How its cells ended, where that was finished; None where it has to be run.

    A higher limit than it was run with counts only if it reached that.

    Raises:
        UsageError: it was run with other seeds, or in another dtype.
        InputRejected: its file is damaged.
    """
    path = directory / group.name / GROUP
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        results = [_result(entry) for entry in content["cells"]]
        there = {key: content["settings"][key] for key in settings.record(group)}
        short = int(there["iterations"]) < settings.limit(group)
    except (ValueError, TypeError, KeyError) as error:
        raise InputRejected(path, f"no record of a group; remove {path.parent}") from error
    for key in ("seeds", "dtype"):
        if there[key] != settings.record(group)[key]:
            raise UsageError(
                f"{path.parent}: run with {key} {there[key]}, now {settings.record(group)[key]}; "
                "choose another --out, or remove it"
            )
    return None if short and any(result.end == "iterations" for result in results) else results


def run_group(group: Group, settings: Settings, directory: Path) -> float:
    """Train all of its cells as one batch; the seconds it took.

    Raises:
        OutputFailed: the directory cannot be written to.
    """
    import torch

    from trainers.completion.descent import Plan
    from trainers.completion.plateau import Plateau
    from trainers.completion.progress import Progress
    from trainers.completion.running import Keeping, train

    torch.set_num_threads(1)
    begun = time.monotonic()
    partial = directory / f"{group.name}{PARTIAL}"
    if partial.exists():
        shutil.rmtree(partial)
    first = group.cells[0]
    plan = Plan(
        first.optimiser,
        first.lr,
        settings.limit(group),
        Plateau() if settings.stop == "plateau" else None,
        record_every=RECORD_EVERY,
        also=settings.also,
        dtype=getattr(torch, settings.dtype),
        device=settings.device,
    )
    places = [partial / place(cell) for cell in group.cells]
    keeping = Keeping(sigma=(1, first.rank, first.rank + 1))
    outcomes = train(group.cells, places, plan, keeping, Progress(f"{group.name}: ", seconds=60))
    results = [
        Result(
            optimiser=cell.optimiser,
            depth=cell.depth,
            penalty=cell.penalty,
            seed=cell.seed,
            error_all=outcome.reading.error_all,
            error_unobserved=outcome.reading.error_unobserved,
            effective_rank=outcome.reading.effective_rank or 0.0,
            iterations=outcome.reading.step,
            end=outcome.end,
        )
        for cell, outcome in zip(group.cells, outcomes, strict=True)
    ]
    seconds = time.monotonic() - begun
    content = {
        "settings": settings.record(group),
        "seconds": round(seconds, 1),
        "cells": [_line(result) for result in results],
    }
    try:
        (partial / GROUP).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if (directory / group.name).exists():
            shutil.rmtree(directory / group.name)  # it was run to a lower limit
        os.replace(partial, directory / group.name)
    except OSError as error:
        raise OutputFailed(partial, error.strerror or str(error)) from error
    return seconds


def _line(result: Result) -> dict[str, Any]:
    """As JSON, which has no name for infinity."""
    line = asdict(result)
    if result.end == "diverged":
        line |= dict.fromkeys(MEASURED)
    return line


def _result(entry: dict[str, Any]) -> Result:
    known = {key: float("inf") if entry[key] is None else entry[key] for key in MEASURED}
    return Result(**(entry | known))
