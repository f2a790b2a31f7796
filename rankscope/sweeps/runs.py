"""Several runs beside each other: a row a run, trends over them, and where their spectra cross."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankscope.bounds.dynamics import Dynamics
from rankscope.question import Column
from rankscope.rows import Row
from rankscope.runrecord import RunRecord
from rankscope.sweeps.crossing import common_crossing
from rankscope.sweeps.trends import PREDICTED, Point, Trend, trends

# How a run was trained, as far as a row of it says.
SETTINGS = (
    "model",
    "data",
    "seed",
    "optimiser",
    "momentum",
    "nesterov",
    "B",
    "mu",
    "lambda",
    "weight_decay",
)

VARIED = ("B", "mu", "weight_decay", "momentum", "nesterov", "optimiser", "model", "data")

# Metrics that count directions, of which Prediction 4.1 speaks.
COUNTING = ("rank", "effective_rank", "approximation_rank", "numerical_rank", "stable_rank")


def settings_row(run: RunRecord | None, dynamics: Dynamics | None) -> Row:
    """How a run was trained: by its updates where they are known, else by its record; or None.

    The updates are those that the bound is reckoned with: what the user states has gone in, and
    what only the log has.
    """
    run = run or RunRecord()
    known, optimiser = run.hyperparameters, run.optimiser
    row: Row = {"model": run.model, "data": run.data, "seed": run.seed}
    row["optimiser"] = optimiser.name if optimiser else "sgd" if dynamics else None
    if dynamics is not None:
        first = dynamics.phases[0]
        row |= {"momentum": dynamics.momentum, "nesterov": dynamics.nesterov}
        # The peak: a warm-up does not name a run, and what follows it mostly falls.
        row |= {"B": first.batch, "mu": max(phase.mu for phase in dynamics.phases)}
        decay: float | None = first.weight_decay
    else:
        row["momentum"] = optimiser.momentum if optimiser else None
        row["nesterov"] = optimiser.nesterov if optimiser else None
        row["B"] = known.samples_per_update if known else None
        row["mu"] = known.lr if known else None
        decay = known.weight_decay if known else None
    return row | {"lambda": None if decay is None else decay / 2, "weight_decay": decay}


def only_runs(runs: Sequence[Row], summary: Sequence[Row]) -> bool:
    """Whether a table is of several runs and of nothing else: each source of a snapshot is one."""
    return 1 < len(runs) == len({row["source"] for row in summary})


def trend_keys(columns: Sequence[Column]) -> tuple[str, ...]:
    """The columns that a trend is tested for: ranks at each eps, or whatever else counts."""
    ranks = tuple(column.key for column in columns if column.metric.name == "rank")
    return ranks or tuple(c.key for c in columns if c.metric.name in COUNTING)


def run_trends(runs: Sequence[Row], keys: Sequence[str]) -> tuple[Trend, ...]:
    """Prediction 4.1 over the rows of runs, for each hyperparameter that varies."""
    if len(runs) < 2:
        return ()
    # What is the same in all runs tells no two groups apart.
    varied = [key for key in VARIED if key in PREDICTED or len({run[key] for run in runs}) > 1]
    points = [
        Point(
            run["source"],
            {key: run[key] for key in varied},
            run["seed"],
            {key: run[key] for key in keys},
        )
        for run in runs
    ]
    return trends(points, keys)


def distinct(found: Sequence[Trend]) -> list[Trend]:
    """One trend of each group of runs, whatever value it is about."""
    groups = {(one.varied, tuple(sorted(one.fixed.items(), key=str))): one for one in found}
    return list(groups.values())


def trend_row(trend: Trend) -> Row:
    """A trend as plain JSON values."""
    return {
        "value": trend.key,
        "varied": trend.varied,
        "fixed": {key: value for key, value in trend.fixed.items() if value is not None},
        "levels": list(trend.levels),
        "means": list(trend.means),
        "runs": trend.runs,
        "seeds": trend.seeds,
        "tau": trend.tau,
        "tau_p": trend.tau_p,
        "page": trend.page,
        "page_p": trend.page_p,
        "verdict": trend.verdict,
        "sentence": trend.sentence,
    }


@dataclass(frozen=True, slots=True)
class Final:
    """The spectra of a run's last snapshot: by matrix, each over its norm."""

    run: Row
    spectra: Mapping[str, NDArray[np.float64]]


def crossings(finals: Sequence[Final], trend: Trend) -> list[Row]:
    """Where each layer's spectra cross from level to level of what a trend varies (P1, Fig. 16).

    Spectra of a level are averaged over its runs.
    """
    members = [final for final in finals if _belongs(final.run, trend)]
    found: list[Row] = []
    for name in dict.fromkeys(name for final in members for name in final.spectra):
        levels = _levels(members, trend.varied, name)
        common = common_crossing([spectrum for _, spectrum in levels]) if levels else None
        if common is None:
            continue
        found.append(
            {
                "name": name,
                "varied": trend.varied,
                "fixed": {key: value for key, value in trend.fixed.items() if value is not None},
                "levels": [level for level, _ in levels],
                "crossing": common.median,
                "smallest": common.smallest,
                "largest": common.largest,
                "agreement": common.agreement,
                "head_mass": [float(s[: round(common.median)].sum() / s.sum()) for _, s in levels],
            }
        )
    return found


def _belongs(run: Row, trend: Trend) -> bool:
    return run[trend.varied] in trend.levels and all(
        run.get(key) == value for key, value in trend.fixed.items()
    )


def _levels(
    members: Iterable[Final], varied: str, name: str
) -> list[tuple[float, NDArray[np.float64]]]:
    """The mean spectrum at each level, ascending; none where the shape differs between runs."""
    groups: dict[float, list[NDArray[np.float64]]] = defaultdict(list)
    for final in members:
        if name in final.spectra:
            groups[final.run[varied]].append(final.spectra[name])
    if len({len(one) for group in groups.values() for one in group}) > 1:
        return []
    return [(level, np.mean(groups[level], axis=0)) for level in sorted(groups)]
