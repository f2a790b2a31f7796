"""Prediction 4.1 as a test: p-values against permutations counted by hand, and what is said."""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rankscope.sweeps.concordance import MANY
from rankscope.sweeps.trends import Point, Setting, Trend, trends

# What P1's code gives for ResNet-18 on CIFAR-10, Fig. 4(b), at eps 0.05.
PAPER = {4: 62, 8: 64, 16: 72, 32: 86, 64: 111, 128: 122}


def point(rank: float | None, run_seed: int | None = None, /, **settings: Setting) -> Point:
    return Point("run", settings, run_seed, {"rank": rank})


def only(points: Sequence[Point]) -> Trend:
    (trend,) = trends(points, ["rank"])
    return trend


def over(levels: Sequence[float], values: Sequence[float], varied: str = "B") -> Trend:
    """The trend of runs that are given as two columns, without seeds."""
    return only([point(v, None, **{varied: x}) for x, v in zip(levels, values, strict=True)])


def concordance(levels: Sequence[float], values: Sequence[float]) -> int:
    return sum(
        ((x < z) - (x > z)) * ((y < w) - (y > w))
        for (x, y), (z, w) in itertools.combinations(zip(levels, values, strict=True), 2)
    )


def by_permutation(levels: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """P-values for rising and for falling, from every order of the values."""
    observed = concordance(levels, values)
    null = [concordance(levels, order) for order in itertools.permutations(values)]
    rising = sum(one >= observed for one in null) / len(null)
    return rising, sum(one <= observed for one in null) / len(null)


samples = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=6).filter(
    lambda pairs: len({x for x, _ in pairs}) > 1 and len({y for _, y in pairs}) > 1
)


class TestKendall:
    @settings(max_examples=60, deadline=None)
    @given(samples)
    def test_p_against_all_orders_with_ties(self, pairs: list[tuple[int, int]]) -> None:
        levels, values = zip(*pairs, strict=True)
        trend = over(levels, values)
        assert (trend.tau_p, trend.against_p) == pytest.approx(by_permutation(levels, values))
        expected = concordance(levels, values) / math.sqrt(
            sum(x != y for x, y in itertools.combinations(levels, 2))
            * sum(x != y for x, y in itertools.combinations(values, 2))
        )
        assert trend.tau == pytest.approx(expected)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(0, 3), min_size=2, max_size=7), st.randoms(use_true_random=False))
    def test_p_against_all_orders_of_distinct_values(
        self, levels: list[int], rng: random.Random
    ) -> None:
        if len(set(levels)) > 1:
            values = rng.sample(range(100), len(levels))
            trend = over(levels, values)
            assert (trend.tau_p, trend.against_p) == pytest.approx(by_permutation(levels, values))

    @pytest.mark.parametrize("n", [4, 9, 17, 30])
    def test_without_replicates_it_is_scipys_exact_p(self, n: int) -> None:
        levels, values = range(n), random.Random(n).sample(range(1000), n)
        for side, got in zip(("greater", "less"), self.both(over(levels, values)), strict=True):
            expected = stats.kendalltau(levels, values, method="exact", alternative=side)
            assert got == pytest.approx(expected.pvalue, rel=1e-9)

    @pytest.mark.parametrize(("a", "b"), [(2, 3), (5, 5), (9, 4), (12, 12)])
    def test_of_two_levels_it_is_the_exact_test_of_mann_and_whitney(self, a: int, b: int) -> None:
        values = random.Random(a).sample(range(1000), a + b)
        trend = over([1] * a + [2] * b, values)
        for side, got in zip(("less", "greater"), self.both(trend), strict=True):
            low, high = values[:a], values[a:]
            expected = stats.mannwhitneyu(low, high, alternative=side, method="exact").pvalue
            assert got == pytest.approx(expected, rel=1e-9)

    def both(self, trend: Trend) -> tuple[float | None, float | None]:
        return trend.tau_p, trend.against_p

    def test_many_tied_runs_are_drawn_alike_each_time_and_near_the_truth(self) -> None:
        """Six levels, three seeds, half-integer ranks: two-sided bounds by many more draws."""
        rng = random.Random(3)
        levels = [x for x in range(6) for _ in range(3)]
        values = [rng.randrange(8) + 0.4 * x for x in levels]
        values = [round(value) for value in values]
        one, again = over(levels, values), over(levels, values)
        assert one == again
        observed = concordance(levels, values)
        null = [concordance(levels, rng.sample(values, len(values))) for _ in range(4000)]
        expected = sum(s >= observed for s in null) / len(null)
        assert 0.02 < expected < 0.98
        assert one.tau_p == pytest.approx(expected, abs=4 * math.sqrt(0.25 / len(null)))

    def test_drawn_p_is_never_zero(self) -> None:
        trend = over([x for x in range(6) for _ in range(4)], [x for x in range(6) for _ in "abcd"])
        assert trend.tau_p is not None
        assert 0 < trend.tau_p < 1e-4

    def test_very_many_runs_take_the_normal_approximation(self) -> None:
        levels = [x for x in range(8) for _ in range(10)]
        assert len(levels) > MANY
        rng = random.Random(4)
        values = [rng.gauss(0.05 * x, 1) for x in levels]
        trend = over(levels, values)
        found = stats.kendalltau(levels, values, alternative="greater", method="asymptotic")
        assert (trend.tau, trend.tau_p) == pytest.approx((found.statistic, found.pvalue))
        assert trend.against_p == pytest.approx(1 - found.pvalue)

    def test_both_sides_of_the_change_agree(self) -> None:
        """The exact count below `MANY` runs and the approximation above give nearly one p."""
        levels = [x % 6 for x in range(MANY)]
        rng = random.Random(1)
        values = [rng.gauss(0.15 * x, 1) for x in levels]
        exact = over(levels, values).tau_p
        assert exact is not None
        assert 0.001 < exact < 0.2
        rough = stats.kendalltau(levels, values, alternative="greater", method="asymptotic").pvalue
        assert exact == pytest.approx(rough, abs=0.003)

    @settings(max_examples=40, deadline=None)
    @given(samples)
    def test_reversed_levels_flip_tau_and_exchange_the_directions(
        self, pairs: list[tuple[int, int]]
    ) -> None:
        levels, values = zip(*pairs, strict=True)
        forward, back = over(levels, values), over([-x for x in levels], values)
        assert forward.tau is not None
        assert back.tau == pytest.approx(-forward.tau)
        assert (back.tau_p, back.against_p) == pytest.approx((forward.against_p, forward.tau_p))

    def test_averages_that_differ_by_their_summation_are_tied(self) -> None:
        almost = 0.1 + 0.2
        assert almost != 0.3
        assert over([1, 2, 3], [0.3, almost, 0.3]).tau is None
        assert over([1, 2, 3], [0.3, almost, 1]).tau == over([1, 2, 3], [0.3, 0.3, 1]).tau


class TestPage:
    def blocks(self, table: Sequence[Sequence[float]], varied: str = "B") -> Trend:
        return only(
            [
                point(value, seed, **{varied: level})
                for seed, row in enumerate(table)
                for level, value in enumerate(row)
            ]
        )

    @pytest.mark.parametrize("rows", [2, 3])
    def test_against_its_definition_and_all_orders(self, rows: int) -> None:
        rng = random.Random(rows)
        for _ in range(5):
            table = [rng.sample(range(20), 3) for _ in range(rows)]
            statistic = self.statistic(table)
            every = itertools.product(itertools.permutations((1, 2, 3)), repeat=rows)
            null = [self.statistic(one) for one in every]
            trend = self.blocks(table)
            assert trend.page == statistic
            expected = sum(one >= statistic for one in null) / len(null)
            assert trend.page_p == pytest.approx(expected)
            assert trend.seeds == rows

    def statistic(self, table: Sequence[Sequence[float]]) -> float:
        return sum(
            (level + 1) * (1 + sum(other < value for other in row))
            for row in table
            for level, value in enumerate(row)
        )

    def test_published_example(self) -> None:
        """Statext's ratings of tutorial, lecture and seminar, as SciPy's manual has them."""
        rows = "343 224 335 132 232 245 124 344 245 134"
        trend = self.blocks([[float(digit) for digit in row] for row in rows.split()])
        assert trend.page == 133.5
        assert trend.page_p == pytest.approx(0.0018191161948127822)

    def test_falls_with_the_learning_rate(self) -> None:
        table = [[9.0, 8, 7, 5], [8.0, 9, 6, 4]]
        falling, rising = self.blocks(table, "mu"), self.blocks([row[::-1] for row in table])
        assert (falling.page, falling.page_p) == (rising.page, rising.page_p)
        assert (falling.tau_p, falling.against_p) == (rising.tau_p, rising.against_p)
        assert falling.tau is not None
        assert falling.tau < 0

    def test_takes_seeds_that_are_at_every_level(self) -> None:
        runs = [point(10 * b + s, s, B=b) for b in (1, 2, 3) for s in range(3)]
        assert only(runs).seeds == 3
        fewer = only(runs[1:])
        assert (fewer.runs, fewer.seeds) == (8, 2)
        assert fewer.page == only([run for run in runs if run.seed]).page
        one = only(runs[2:])
        assert (one.seeds, one.page, one.page_p) == (1, None, None)
        assert one.tau_p is not None

    def test_takes_the_mean_of_a_repeated_run(self) -> None:
        runs = [point(10 * b + s, s, B=b) for b in (1, 2, 3) for s in range(2)]
        # Seed 0 at B 1 has mean 50, above its others: ranks 3, 1, 2 instead of 1, 2, 3.
        twice = only([*runs, point(90, 0, B=1)])
        assert (twice.runs, twice.seeds) == (7, 2)
        assert twice.page == (3 + 2 * 1 + 3 * 2) + (1 + 4 + 9)
        assert twice.means[0] == pytest.approx((10 + 11 + 90) / 3)

    def test_unknown_seeds_are_no_block(self) -> None:
        trend = only([point(10 * b + i, B=b) for b in (1, 2, 3) for i in range(2)])
        assert (trend.runs, trend.seeds, trend.page) == (6, 0, None)

    def test_two_levels_are_too_few_for_it(self) -> None:
        trend = only([point(10 * b + s, s, B=b) for b in (1, 2) for s in range(4)])
        assert (trend.seeds, trend.page) == (4, None)
        assert trend.verdict == "as predicted"


class TestNull:
    """Values that have nothing to do with the level: p is as often below alpha as alpha says."""

    @pytest.mark.parametrize("tied", [False, True])
    def test_p_is_uniform(self, *, tied: bool) -> None:
        rng = random.Random(11)
        count = 400
        found = []
        for _ in range(count):
            runs = [
                point(float(rng.randrange(6)) if tied else rng.random(), s, mu=m)
                for m in ((0.1, 0.2, 0.3) if tied else (0.1, 0.2, 0.3, 0.4))
                for s in range(2 if tied else 3)
            ]
            found.append(only(runs))
        for name in ("tau_p", "against_p", "page_p"):
            # Few values make p coarse, and Page's takes no account of ties: both only raise it.
            self.check([getattr(one, name) for one in found], above=0.3 if tied else 0.06)

    def check(self, ps: Sequence[float], above: float) -> None:
        """As many p below alpha as alpha says, within 3.5 deviations and what coarseness takes."""
        for alpha in (0.05, 0.2, 0.5, 0.8):
            share = sum(p <= alpha for p in ps) / len(ps)
            error = 3.5 * math.sqrt(alpha * (1 - alpha) / len(ps))
            assert alpha - error - above <= share <= alpha + error

    @pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (0.3, 1.0)])
    def test_the_check_sees_a_p_that_is_not(self, low: float, high: float) -> None:
        rng = random.Random(1)
        with pytest.raises(AssertionError):
            self.check([rng.uniform(low, high) for _ in range(400)], above=0.06)


class TestGroups:
    def sweep(self) -> Iterator[Point]:
        for b, mu, wd, seed in itertools.product((4, 8), (0.1, 0.2), (0.0, 5e-4, 1e-3), (0, 1)):
            rank = 50 + b - 100 * mu - 1e4 * wd + seed / 10
            yield point(rank, seed, B=b, mu=mu, weight_decay=wd, model="mlp", momentum=None)

    def test_each_hyperparameter_varies_alone(self) -> None:
        found = trends(list(self.sweep()), ["rank"])
        assert [trend.varied for trend in found] == (["B"] * 6 + ["mu"] * 6 + ["weight_decay"] * 4)
        assert {trend.verdict for trend in found[:12]} == {"too few"}
        assert {trend.verdict for trend in found[12:]} == {"as predicted"}
        for trend in found:
            assert trend.runs == 2 * len(trend.levels)
            assert set(trend.fixed) == {"B", "mu", "weight_decay", "model", "momentum"} - {
                trend.varied
            }
        last = found[-1]
        assert (last.levels, last.fixed["B"], last.fixed["mu"]) == ((0.0, 5e-4, 1e-3), 8, 0.2)

    def test_order_of_the_points_changes_no_number(self) -> None:
        runs = [point((7 * i) % 5, i % 4, B=i % 3, mu=0.1) for i in range(12)]
        expected = only(runs)
        for seed in range(5):
            assert only(random.Random(seed).sample(runs, len(runs))) == expected

    @pytest.mark.parametrize(
        "other", [{"model": "vgg"}, {"momentum": 0.9}, {"data": "mnist"}, {"mu": 0.2}]
    )
    def test_another_setting_is_another_group(self, other: Mapping[str, Setting]) -> None:
        base: dict[str, Setting] = {"mu": 0.1, "model": "mlp", "momentum": 0.0, "data": "digits"}
        runs = [point(b, None, **{**base, "B": b}) for b in (1, 2, 3)]
        changed = [point(-b, None, **{**base, **other, "B": b}) for b in (1, 2, 3)]
        found = [trend for trend in trends([*runs, *changed], ["rank"]) if trend.varied == "B"]
        assert [trend.tau for trend in found] == pytest.approx([1.0, -1.0])

    def test_unknown_is_the_same_as_absent(self) -> None:
        assert only([point(1, B=1, momentum=None), point(2, B=2)]).runs == 2

    def test_runs_that_differ_in_two_ways_give_nothing(self) -> None:
        assert trends([point(1, B=1, mu=0.1), point(2, B=2, mu=0.2)], ["rank"]) == ()
        assert trends([point(1, 0, B=1), point(2, 1, B=1)], ["rank"]) == ()
        assert trends([], ["rank"]) == ()

    def test_missing_values_and_levels_leave_the_run_out_of_that_trend(self) -> None:
        runs = [
            Point("r", {"B": b}, 0, {"rank": 10.0 * b, "rank@0.1": None if b == 2 else -b})
            for b in (1, 2, 3)
        ]
        rank, coarse = trends([*runs, point(1, B=None), point(99)], ["rank", "rank@0.1"])
        assert (rank.key, rank.levels, rank.runs) == ("rank", (1, 2, 3), 3)
        assert (coarse.key, coarse.levels, coarse.runs) == ("rank@0.1", (1, 3), 2)
        assert trends(runs, ["nothing"]) == ()
        assert trends([point(None, B=1), point(None, B=2)], ["rank"]) == ()


class TestSentence:
    settings: Mapping[str, Any] = {"mu": 0.1, "weight_decay": 5e-4, "momentum": None}

    def paper(self, seeds: int, **more: Setting) -> list[Point]:
        return [
            point(rank + s / 10, s, B=b, **{**self.settings, **more})
            for b, rank in PAPER.items()
            for s in range(seeds)
        ]

    def test_as_predicted(self) -> None:
        assert only(self.paper(1)).sentence == (
            "rank at B 4 -> 128 (mu 0.1, weight decay 0.0005; 6 levels, 1 seed): mean 62 -> 122, "
            "rises with B as Prediction 4.1 says (Kendall tau 1.00, p = 0.00139)"
        )
        assert only(self.paper(3, model="mlp")).sentence.startswith(
            "rank at B 4 -> 128 (mu 0.1, weight decay 0.0005, model mlp; 6 levels, 3 seeds): "
            "mean 62.1 -> 122.1, rises with B as Prediction 4.1 says (Kendall tau 0.94, p = 7.29e"
        )
        assert "; Page p = " in only(self.paper(3)).sentence

    def test_falls_as_predicted(self) -> None:
        trend = over([0.0, 0.1, 0.2, 0.3], [9, 8, 7, 6], "weight_decay")
        assert trend.sentence == (
            "rank at weight decay 0 -> 0.3 (4 levels, 4 runs): mean 9 -> 6, "
            "falls with weight decay as Prediction 4.1 says (Kendall tau -1.00, p = 0.0417)"
        )

    def test_against(self) -> None:
        trend = over([1, 2, 3, 4], [9, 8, 7, 6])
        assert trend.verdict == "against"
        assert trend.sentence.endswith(
            "mean 9 -> 6, falls with B, against Prediction 4.1 "
            "(Kendall tau -1.00, p = 0.0417 in that direction)"
        )

    def test_unclear(self) -> None:
        assert over([1, 2, 3, 4], [6, 7, 9, 8]).sentence.endswith(
            "mean 6 -> 8, no clear trend (Kendall tau 0.67, p = 0.167)"
        )

    def test_too_few(self) -> None:
        for values, p in (((9, 8), 1.0), ((8, 9), 0.5)):
            trend = over([1, 2], values)
            assert (trend.tau_p, trend.least_p, trend.verdict) == (p, 0.5, "too few")
        assert trend.sentence.endswith(
            "(2 levels, 2 runs): mean 8 -> 9, too few runs to tell (Kendall tau 1.00, p = 0.5)"
        )
        # Three of each at two levels reach 1 in 20, which is not below it; four do.
        assert over([1, 1, 1, 2, 2, 2], range(6)).verdict == "too few"
        assert over([1, 1, 1, 1, 2, 2, 2, 2], range(8)).verdict == "as predicted"

    def test_constant(self) -> None:
        trend = only([point(64.0, s, B=b) for b in (1, 2, 3) for s in range(2)])
        assert (trend.tau, trend.tau_p, trend.against_p) == (None, None, None)
        assert (trend.page, trend.page_p, trend.verdict) == (None, None, "constant")
        assert trend.sentence == ("rank at B 1 -> 3 (3 levels, 2 seeds): 64 in every run, no trend")

    def test_incomplete_seeds(self) -> None:
        assert "(mu 0.1, weight decay 0.0005; 6 levels, 17 runs, 2 seeds at every level)" in (
            only(self.paper(3)[1:]).sentence
        )


def test_import_loads_nothing_heavy() -> None:
    code = "import rankscope.sweeps.trends, rankscope.sweeps.crossing, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "scipy", "torch"} & set(done.stdout.split())
