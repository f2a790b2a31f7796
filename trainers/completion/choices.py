"""What can be chosen for the runs of a figure of P2, kept beside them: OUT/P2-F1.json.

Whoever ran a figure at another scale need not say so again to draw it, and runs of different
choices do not get into one figure.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from rankscope.errors import InputRejected, OutputFailed, UsageError
from trainers.completion.cell import Cell, Initialisation, parse_initialisation
from trainers.completion.options import DtypeName

SCHEMA = "rankscope/curves/1"

LEAST_SCALE = 0.1  # 10x10 of rank 1, below which nearly every entry would be observed


@dataclass(frozen=True)  # without slots, so that Choices.seeds is the default
class Choices:
    """The same for all runs of a figure.

    Attributes:
        seeds: how many of each, from 0 on.
        scale: of both sides of the target and of its rank; 1 for P2's.
        iterations: limit in place of the figure's own.
        lr: learning rate; P2's.
        start: initialisation in place of the figure's own.
        dtype: of the weights.
    """

    seeds: int = 3
    scale: float = 1.0
    iterations: int | None = None
    lr: float = Cell.lr
    start: Initialisation | None = None
    dtype: DtypeName = "float32"

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"seeds is {self.seeds}, expected at least 1")
        if not LEAST_SCALE <= self.scale <= 1:
            raise UsageError(f"scale is {self.scale:g}, expected {LEAST_SCALE:g} to 1")
        if self.iterations is not None and self.iterations < 1:
            raise UsageError(f"iterations is {self.iterations}, expected at least 1")
        if self.dtype not in get_args(DtypeName):
            raise UsageError(f"dtype is {self.dtype!r}, expected float32 or float64")

    def applied(self, cell: Cell) -> Cell:
        """A cell of P2's size as it is trained.

        The entries observed keep their ratio to the r (m + n - r) that determine a matrix of rank
        r, so that the smaller problem is about as hard; one entry at least is left to predict.
        """
        rank = max(1, round(self.scale * cell.rank))
        rows, columns = (round(self.scale * side) for side in cell.shape)
        share = _freedom(rank, (rows, columns)) / _freedom(cell.rank, cell.shape)
        observed = min(round(share * cell.observed), rows * columns - 1)
        start = cell.start if self.start is None else self.start
        return replace(
            cell, shape=(rows, columns), rank=rank, observed=observed, lr=self.lr, start=start
        )


def _freedom(rank: int, shape: tuple[int, int]) -> int:
    return rank * (sum(shape) - rank)


# What may be another when runs are gone on with: a higher limit runs what had reached the lower.
FREE = ("seeds", "iterations")


def choices_path(name: str, runs: Path) -> Path:
    """Where those of a figure are, `runs` being the directory of all runs."""
    return runs / f"{name}.json"


def write_choices(path: Path, choices: Choices) -> None:
    """Keep them, whole or not at all.

    Raises:
        UsageError: there are other runs already.
        InputRejected: the file that is there is damaged.
        OutputFailed: it cannot be written.
    """
    document = _document(choices)
    if path.exists():
        there = _document(read_choices(path))
        for key in there.keys() - set(FREE):
            if there[key] != document[key]:
                runs = path.with_suffix("")
                raise UsageError(
                    f"{runs}: run with {key} {there[key]}, now {document[key]}; choose another "
                    f"--out, or remove it and {path.name}"
                )
    replace_file(path, json.dumps({"schema": SCHEMA, **document}, indent=1) + "\n")


def read_choices(path: Path) -> Choices:
    """Those of a file.

    Raises:
        InputRejected: it cannot be read, or holds none.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema is {document['schema']!r}, expected {SCHEMA!r}")
        start, iterations = document["init"], document["iterations"]
        return Choices(
            int(document["seeds"]),
            float(document["scale"]),
            None if iterations is None else int(iterations),
            float(document["lr"]),
            None if start is None else parse_initialisation(start),
            document["dtype"],
        )
    except OSError as error:
        raise InputRejected(path, f"cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, UsageError) as error:
        reason = f"does not say how runs were made ({error!r}); remove it and its runs"
        raise InputRejected(path, reason) from error


def _document(choices: Choices) -> dict[str, Any]:
    return {
        "seeds": choices.seeds,
        "scale": choices.scale,
        "iterations": choices.iterations,
        "lr": choices.lr,
        "init": None if choices.start is None else choices.start.name,
        "dtype": choices.dtype,
    }


def replace_file(path: Path, text: str) -> None:
    """Write a file and its directory, whole or not at all.

    Raises:
        OutputFailed: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, "utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OutputFailed(path, error.strerror or str(error)) from error
