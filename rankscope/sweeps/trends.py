"""Prediction 4.1 of P1, tested over a sweep of runs.

The rank is predicted to fall with a smaller batch, a larger weight decay or a larger step size.
P1 = "SGD and Weight Decay Secretly Minimize the Rank of Your Neural Network" (Galanti, Siegel,
Gupte & Poggio), Section 4.

P1 varies one hyperparameter at a time; so does a trend here: it is taken over runs that agree in
all else but the seed. Each has its own p-value; none is corrected for how many there are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rankscope.sweeps.concordance import kendall, page_test

Setting = float | str | None
Verdict = Literal["as predicted", "against", "unclear", "too few", "constant"]

# What rank does as the setting grows, by Prediction 4.1.
PREDICTED: Mapping[str, Literal[1, -1]] = {"B": 1, "mu": -1, "weight_decay": -1}

LEVEL = 0.05  # the usual level of significance; P1 has no test


@dataclass(frozen=True, slots=True)
class Point:
    """One run at its end.

    Attributes:
        source: where it is.
        settings: what can vary, by name: B, mu, weight_decay (PyTorch's, twice the theorem's
            lambda, which is therefore no setting of its own), momentum, model, data, ...; None
            is the same as absent: not known.
        seed: None when not known.
        values: column key (`rank`, `rank@0.01`) -> final average, finite; None for none.
    """

    source: str
    settings: Mapping[str, Setting]
    seed: int | None
    values: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Trend:
    """How one value goes with one hyperparameter where all others are fixed.

    Kendall's tau takes every run by itself, so that it needs no seed; runs of one seed that are
    alike make its p-value larger, not smaller. Page's test compares runs within a seed only.

    Attributes:
        key: which value.
        varied: B, mu or weight_decay.
        fixed: the other settings, common to all runs.
        levels: of the varied one, ascending.
        means: mean of the value over the runs at each level.
        runs: how many have the value.
        seeds: how many seeds have it at every level; Page's blocks.
        tau: Kendall's tau-b of value and level; None when all values are equal.
        tau_p: the chance of such a tau or one further in the predicted direction, were the runs
            exchangeable.
        against_p: the same in the other direction.
        least_p: the least tau_p that so many runs at these levels can give.
        page: Page's L in the predicted direction, with mean ranks for ties, over the mean of
            each seed's runs at a level; None below 2 seeds or 3 levels.
        page_p: its one-sided p-value, SciPy's; with ties within a seed not exact, but where it is
            below 0.05, not too small as far as tested.
    """

    key: str
    varied: str
    fixed: Mapping[str, Setting]
    levels: tuple[float, ...]
    means: tuple[float, ...]
    runs: int
    seeds: int
    tau: float | None
    tau_p: float | None
    against_p: float | None
    least_p: float
    page: float | None
    page_p: float | None

    @property
    def verdict(self) -> Verdict:
        """What the runs say of the prediction, by Kendall's tau at a level of 0.05."""
        if self.tau_p is None or self.against_p is None:
            return "constant"
        if self.least_p >= LEVEL:
            return "too few"
        if self.tau_p < LEVEL:
            return "as predicted"
        return "against" if self.against_p < LEVEL else "unclear"

    @property
    def sentence(self) -> str:
        """The trend in one plain sentence, without a full stop."""
        first, last = self.means[0], self.means[-1]
        if self.tau is None:
            return f"{self._head()}: {first:.4g} in every run, no trend"
        label = _words(self.varied)
        means = f"mean {_ends(first, last)}"
        verb = "rises" if self.tau > 0 else "falls"
        tests = self._tests()
        said = {
            "as predicted": f"{means}, {verb} with {label} as Prediction 4.1 says ({tests})",
            "against": f"{means}, {verb} with {label}, against Prediction 4.1 ({tests})",
            "unclear": f"{means}, no clear trend ({tests})",
            "too few": f"{means}, too few runs to tell ({tests})",
        }
        return f"{self._head()}: {said[self.verdict]}"

    def _head(self) -> str:
        fixed = ", ".join(
            f"{_words(name)} {_text(value)}"
            for name, value in self.fixed.items()
            if value is not None
        )
        counts = f"{len(self.levels)} levels, {self._replicates()}"
        inside = f"{fixed}; {counts}" if fixed else counts
        ends = f"{_text(self.levels[0])} -> {_text(self.levels[-1])}"
        return f"{self.key} at {_words(self.varied)} {ends} ({inside})"

    def _replicates(self) -> str:
        seeds = f"{self.seeds} seed{'' if self.seeds == 1 else 's'}"
        if self.runs == self.seeds * len(self.levels):
            return seeds
        return f"{self.runs} runs, {seeds} at every level" if self.seeds else f"{self.runs} runs"

    def _tests(self) -> str:
        if self.verdict == "against":
            return f"Kendall tau {self.tau:.2f}, p = {self.against_p:.3g} in that direction"
        kendall = f"Kendall tau {self.tau:.2f}, p = {self.tau_p:.3g}"
        return kendall if self.page_p is None else f"{kendall}; Page p = {self.page_p:.3g}"


@dataclass(frozen=True, slots=True)
class _Run:
    level: float
    value: float
    seed: int | None


def trends(points: Sequence[Point], keys: Sequence[str]) -> tuple[Trend, ...]:
    """A trend for every hyperparameter that varies alone, group of runs and value.

    A run without a value, or without the hyperparameter, is left out of that trend; two runs
    with the same settings and seed are two runs. The order of `points` changes no number.

    Args:
        points: the runs.
        keys: of their values; ranks, of which alone the prediction speaks.
    """
    found = []
    for varied in PREDICTED:
        for fixed, group in _groups(points, varied):
            for key in keys:
                runs = _runs(group, varied, key)
                if len({run.level for run in runs}) > 1:
                    found.append(_trend(key, varied, fixed, runs))
    return tuple(found)


def _groups(
    points: Sequence[Point], varied: str
) -> list[tuple[Mapping[str, Setting], list[Point]]]:
    """Points that agree in all settings but one, with what they agree in."""
    groups: dict[frozenset[tuple[str, Setting]], list[Point]] = defaultdict(list)
    for point in points:
        known = {name: value for name, value in point.settings.items() if value is not None}
        groups[frozenset((name, known[name]) for name in known if name != varied)].append(point)
    return [
        ({name: value for name, value in group[0].settings.items() if name != varied}, group)
        for group in groups.values()
    ]


def _runs(group: Sequence[Point], varied: str, key: str) -> list[_Run]:
    """The runs that have both, sorted."""
    runs = []
    for point in group:
        level, value = point.settings.get(varied), point.values.get(key)
        if isinstance(level, int | float) and value is not None:
            runs.append(_Run(level, value, point.seed))
    return sorted(runs, key=lambda run: (run.level, run.value))


def _trend(key: str, varied: str, fixed: Mapping[str, Setting], runs: Sequence[_Run]) -> Trend:
    by_level: dict[float, list[float]] = defaultdict(list)
    for run in runs:
        by_level[run.level].append(run.value)
    blocks = _blocks(runs, tuple(by_level))
    tau = rising = falling = page = page_p = None
    values = [_rounded(run.value) for run in runs]
    if len(set(values)) > 1:
        tau, rising, falling = kendall([run.level for run in runs], values)
        differ = any(len(set(block)) > 1 for block in blocks)
        if len(blocks) >= 2 and len(by_level) >= 3 and differ:
            page, page_p = page_test(blocks, PREDICTED[varied])
    orders = math.factorial(len(runs))
    same = math.prod(math.factorial(len(level)) for level in by_level.values())
    return Trend(
        key=key,
        varied=varied,
        fixed=fixed,
        levels=tuple(by_level),
        means=tuple(_mean(level) for level in by_level.values()),
        runs=len(runs),
        seeds=len(blocks),
        tau=tau,
        tau_p=rising if PREDICTED[varied] > 0 else falling,
        against_p=falling if PREDICTED[varied] > 0 else rising,
        least_p=same / orders,
        page=page,
        page_p=page_p,
    )


def _blocks(runs: Sequence[_Run], levels: Sequence[float]) -> list[list[float]]:
    """For each seed that is at every level, its mean at each."""
    cells: dict[int, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.seed is not None:
            cells[run.seed][run.level].append(run.value)
    return [
        [_rounded(_mean(cell[level])) for level in levels]
        for _, cell in sorted(cells.items())
        if len(cell) == len(levels)
    ]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _rounded(value: float) -> float:
    """To 12 digits: averages of whole numbers that are equal stay so whatever their summation."""
    return float(f"{value:.12g}")


def _ends(first: float, last: float) -> str:
    """Both in as many digits as tell them apart, four at least."""
    texts = ((f"{first:.{digits}g}", f"{last:.{digits}g}") for digits in range(4, 17))
    return " -> ".join(next((pair for pair in texts if pair[0] != pair[1]), (f"{first:.4g}",) * 2))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(value: Setting) -> str:
    return value if isinstance(value, str) else f"{value:g}"
