"""What a sink is told of a snapshot: the numbers of each matrix, and where its spectrum lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, TypeGuard

from rankscope.api import analyze
from rankscope.errors import InputRejected, UsageError
from rankscope.how import How
from rankscope.matrices import Selection
from rankscope.measure import measure
from rankscope.question import Question
from rankscope.records import Spectrum
from rankscope.rows import Row
from rankscope.series import Series, discover
from rankscope.table import Table

# log10(sigma / ||W||) from 1e-8 up: float32 rounds at 6e-8 of the largest entry, and what lies
# below is noise in anything that was trained. A tenth of a power of ten a bin.
LOWEST = -8.0
BINS = 80


@dataclass(frozen=True, slots=True)
class MatrixReading:
    """One matrix at one snapshot.

    Attributes:
        name: the matrix's.
        values: by column of the analysis, `rank`, `norm_ratio`, ..., those that are numbers.
        counts: of its singular values per bin of log10(sigma / ||W||), ||W|| the Frobenius norm;
            the first bin also holds what is smaller. () where there is no spectrum, or no norm.
    """

    name: str
    values: Mapping[str, float]
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotReading:
    """One snapshot.

    Attributes:
        step: updates done.
        matrices: in the order of the analysis.
        means: of each column over the matrices that the run marks as averaged.
        trouble: why nothing is known of it; no sink is told of such a one.
    """

    step: int
    matrices: tuple[MatrixReading, ...]
    means: Mapping[str, float]
    trouble: str = ""

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> SnapshotReading:
        """What `dataclasses.asdict` and JSON made of one."""
        matrices = tuple(
            MatrixReading(one["name"], one["values"], tuple(one["counts"]))
            for one in told["matrices"]
        )
        return cls(told["step"], matrices, told["means"], told["trouble"])


def edges() -> tuple[float, ...]:
    """The bounds of the bins of `MatrixReading.counts`, ascending, one more than there are bins.

    >>> edges()[0], edges()[-1], len(edges())
    (-8.0, 0.0, 81)
    """
    return tuple((index - BINS) / (BINS / -LOWEST) for index in range(BINS + 1))


def readings(
    path: Path, after: int | None, metrics: Sequence[str], how: How
) -> Iterator[SnapshotReading]:
    """The snapshots of a series whose step is above `after`, in the order of their steps.

    The whole series is analysed, because ratios and bounds need what came before; the store knows
    all of it but the new snapshots.

    Args:
        path: a run directory, or anybody's directory of numbered checkpoints.
        after: the last step that is known already; None where none is.
        metrics: as of `rankscope.analyze`.
        how: by which means.

    Raises:
        InputRejected: no snapshot is sound.
        UsageError: the snapshots have no steps; a metric is not known.
    """
    series = discover(path)
    check_steps(series)
    new = {step: one for one in series.snapshots if above(step := one.step, after)}
    if not new:
        return
    counts = counts_of(replace(series, snapshots=tuple(new.values())), metrics, how)
    table = analyze(path, metrics=metrics, how=how)
    means = {row["step"]: numbers_of(row, table.columns) for row in table.summary}
    matrices: dict[int, list[MatrixReading]] = {}
    for row in table.matrices:
        values = numbers_of(row, table.columns)
        reading = MatrixReading(row["name"], values, counts.get((row["step"], row["name"]), ()))
        matrices.setdefault(row["step"], []).append(reading)
    for step, snapshot in new.items():
        known = step in means
        yield SnapshotReading(
            step,
            tuple(matrices.get(step, ())),
            means.get(step, {}),
            "" if known else _trouble(table, snapshot.path),
        )


def check_steps(series: Series) -> None:
    """`UsageError` where nothing tells in which order the snapshots are."""
    if all(snapshot.step is None for snapshot in series.snapshots):
        raise UsageError(
            f"{series.path}: no snapshot has a step in its name, expected a run's snapshots"
        )


def _trouble(table: Table, path: PurePath) -> str:
    """Why a snapshot is no part of a table."""
    found = (row["reason"] for row in table.skipped if row["name"].startswith(str(path)))
    return f"{path}: {next(found, 'is gone')}"


def above(step: int | None, after: int | None) -> TypeGuard[int]:
    """Whether a step is later than the last one that is known already."""
    return step is not None and (after is None or step > after)


def counts_of(
    series: Series, metrics: Sequence[str], how: How
) -> dict[tuple[int | None, str], tuple[int, ...]]:
    """Of each spectrum, by step and matrix, how many singular values lie in each bin."""
    # Asking the same question as the analysis does has the store answer that one.
    columns = Question(tuple(metrics)).columns()
    try:
        _, measured = measure([series], Selection(), columns, how)
    except InputRejected:  # none of them is sound, as the analysis will say
        return {}
    return {
        (one.entry.snapshot.step, one.spec.name): _histogram(one.measurement)
        for one in measured
        if isinstance(one.measurement, Spectrum) and one.measurement.frobenius_norm > 0
    }


def _histogram(spectrum: Spectrum) -> tuple[int, ...]:
    import numpy as np

    shares = spectrum.sigma / spectrum.frobenius_norm
    # A matrix of rank 1 may round to a little more than its norm.
    heights = np.log10(np.clip(shares, 10.0**LOWEST, 1.0))
    counts, _ = np.histogram(heights, edges())
    return tuple(counts.tolist())


def numbers_of(row: Row, columns: Sequence[str]) -> dict[str, float]:
    """What can be drawn over steps."""
    found = {key: row.get(key) for key in columns}
    return {
        key: value
        for key, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
