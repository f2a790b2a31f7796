"""P2's figures 4 and 5: error and effective rank over the number of observed entries.

    OUT/P2-F4.json                                          the choices, `choices`
    OUT/P2-F4/points.jsonl                                  a line for each method and problem
    OUT/P2-F4/observed-2000/gd-3-seed-0/none/seed-0/        a run directory for each trained network

What is in points.jsonl, or finished there, is not done again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from rankscope.errors import InputRejected
from trainers.completion.baselines import METHODS
from trainers.completion.cell import Cell
from trainers.completion.choices import Choices, replace_file
from trainers.completion.curves import observed_place
from trainers.completion.groups import Group, Result, Settings, finished, run_group

POINTS = "points.jsonl"

# The limits of `python -m trainers table`: all that converge do so before.
ITERATIONS = 20_000
PLAIN_ITERATIONS = 100_000

# P2 calls them Adam:1+R and GD:3. Its factor here is not printed; this is that of its tables.
TRAINED: Mapping[str, Cell] = {
    "adam-1-ratio": Cell(optimiser="adam", depth=1, penalty="ratio", strength=0.05),
    "gd-3": Cell(optimiser="gd", depth=3, strength=0.0),
}

ALL_METHODS = (*TRAINED, *METHODS)

Key: TypeAlias = tuple[str, int, int]  # method, observed entries, seed


@dataclass(frozen=True, slots=True)
class Samples:
    """A figure.

    Attributes:
        rank: of the target.
        observed: how many of 100x100 entries are known.
    """

    rank: int
    observed: tuple[int, ...]


# P2's axes are not in its text; these numbers are ours, around the fixed ones of its other figures.
# r (200 - r) numbers determine a matrix of rank r: 975 and 1900.
FIGURES: Mapping[str, Samples] = {
    "P2-F4": Samples(5, (1000, 1500, 2000, 2500, 3000, 4000, 5000)),
    "P2-F5": Samples(10, (2000, 2500, 3000, 3500, 4000, 5000, 6000)),
}


@dataclass(frozen=True, slots=True)
class Point:
    """What one method made of one problem.

    Attributes:
        method: one of `ALL_METHODS`.
        observed: how many entries were known.
        seed: of the problem, and of the initialisation.
        error_all: mean of (W - W*)^2 over all entries; None where it diverged.
        error_unobserved: over those that are not observed; likewise.
        effective_rank: of W; None for W = 0, too.
        converged: whether it stopped by its own criterion.
    """

    method: str
    observed: int
    seed: int
    error_all: float | None
    error_unobserved: float | None
    effective_rank: float | None
    converged: bool

    @property
    def key(self) -> Key:
        """Which it is."""
        return self.method, self.observed, self.seed


@dataclass(frozen=True, slots=True)
class Piece:
    """One method on one problem.

    Attributes:
        method: one of `ALL_METHODS`.
        cell: what is trained; of a baseline, the problem alone counts.
    """

    method: str
    cell: Cell

    @property
    def name(self) -> str:
        """Of it and, where it is trained, of its group's directory."""
        return f"{observed_place(self.cell)}/{self.method}-seed-{self.cell.seed}"

    @property
    def key(self) -> Key:
        """That of its point."""
        return self.method, self.cell.observed, self.cell.seed

    @property
    def group(self) -> Group:
        """A group of its own, so that more seeds can be added."""
        return Group(self.name, (self.cell,))


def pieces(figure: Samples, choices: Choices) -> tuple[Piece, ...]:
    """What is in a figure, what takes longest first."""
    return tuple(
        Piece(method, replace(choices.applied(cell), seed=seed))
        for method in ALL_METHODS
        for observed in figure.observed
        for seed in range(choices.seeds)
        for cell in [replace(TRAINED.get(method, Cell()), rank=figure.rank, observed=observed)]
    )


def settings(choices: Choices, device: str) -> Settings:
    """How networks are trained: to a plateau."""
    own = (ITERATIONS, PLAIN_ITERATIONS)
    limits = own if choices.iterations is None else (choices.iterations, choices.iterations)
    return Settings(1, *limits, choices.dtype, device)


def left(
    wanted: Iterable[Piece], how: Settings, directory: Path
) -> tuple[dict[str, Callable[[], Point]], dict[Key, Point]]:
    """What is still to be done, by name, and the points that are there already, by their keys.

    Args:
        wanted: what should be done.
        how: networks are trained.
        directory: the figure's.

    Raises:
        InputRejected: a file there is damaged.
    """
    points = {point.key: point for point in read_points(directory / POINTS)}
    work: dict[str, Callable[[], Point]] = {}
    for piece in wanted:
        if piece.method in TRAINED:
            results = finished(piece.group, how, directory)
            if results is None:
                work[piece.name] = partial(trained, piece, how, directory)
            else:  # also where the last session was killed before it noted the point
                points[piece.key] = point_of(piece, results[0])
        elif piece.key not in points:
            work[piece.name] = partial(completed, piece)
    return work, points


def trained(piece: Piece, how: Settings, directory: Path) -> Point:
    """Train a network.

    Raises:
        OutputFailed: the directory cannot be written to.
    """
    run_group(piece.group, how, directory)
    results = finished(piece.group, how, directory) or []
    return point_of(piece, results[0])


def completed(piece: Piece) -> Point:
    """Ask a baseline.

    Raises:
        ModuleNotFoundError: `nuclear` needs cvxpy.
    """
    from trainers.completion.comparison import judge
    from trainers.completion.problem import draw

    cell = piece.cell
    problem = draw(cell.shape, cell.rank, cell.observed, cell.seed, scaled=cell.scaled)
    _, record = judge(piece.method, problem, cell.seed)
    return Point(
        piece.method,
        cell.observed,
        cell.seed,
        _finite(record.error_all),
        _finite(record.error_unobserved),
        record.effective_rank,
        record.converged,
    )


def point_of(piece: Piece, result: Result) -> Point:
    """That of a trained network."""
    return Point(
        *piece.key,
        _finite(result.error_all),
        _finite(result.error_unobserved),
        _finite(result.effective_rank) or None,  # a result has 0 for W = 0
        result.end == "plateau",
    )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def read_points(path: Path) -> list[Point]:
    """Those of a file; none where there is no file.

    Raises:
        InputRejected: it cannot be read, or holds something else.
    """
    try:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [Point(**json.loads(line)) for line in lines]
    except OSError as error:
        raise InputRejected(path, f"cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:
        raise InputRejected(path, f"holds no points ({error!r}); remove it") from error


def write_points(path: Path, points: Iterable[Point]) -> None:
    """Keep them in the order of the figure, whole or not at all.

    Raises:
        OutputFailed: it cannot be written.
    """
    ordered = sorted(points, key=lambda point: (ALL_METHODS.index(point.method), point.key))
    replace_file(path, "".join(json.dumps(asdict(point)) + "\n" for point in ordered))
