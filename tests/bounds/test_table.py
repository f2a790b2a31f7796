"""The bound as a table: what is given is fixed, what is not is swept."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.bounds.setting import Setting
from rankscope.bounds.table import (
    BATCHES,
    LEVELS,
    MOST,
    STEP_SIZES,
    WEIGHT_DECAYS,
    BoundQuestion,
    Row,
    bound_table,
)
from rankscope.errors import UsageError

KEYS = {
    *("B", "mu", "lambda", "weight_decay", "momentum", "eps", "m", "steps", "closed_form"),
    *("exact", "first_useful_width"),
}


def rows(setting: Setting | None = None, **chosen: Any) -> tuple[Row, ...]:
    return bound_table(BoundQuestion(setting or Setting(), **chosen)).rows


def one(setting: Setting | None = None, **chosen: Any) -> Row:
    fixed = {"batch": (8,), "mu": (0.5,), "weight_decay": (0.01,), "eps": (0.1,)}
    (row,) = rows(setting, **{**fixed, **chosen})
    return row


def count(mu: float, lambda_: float, eps: float) -> int:
    """n*, by multiplying until it is little enough."""
    with localcontext(prec=40):
        left, n = Decimal(1), 0
        while left > Decimal(repr(eps)) / 2:
            left *= 1 - 2 * Decimal(repr(mu)) * Decimal(repr(lambda_))
            n += 1
    return n


class TestSweep:
    def test_everything_is_swept_that_is_not_given(self) -> None:
        every = rows(Setting())
        combinations = [(row["B"], row["mu"], row["weight_decay"], row["eps"]) for row in every]
        assert combinations == list(itertools.product(BATCHES, STEP_SIZES, WEIGHT_DECAYS, LEVELS))
        assert len(every) == 6 * 7 * 4 * 4

    def test_the_values_are_the_paper_s(self) -> None:
        """Of its figures' captions: Fig. 3 has mu 1.5; Figs. 4, 10, 17 and 18 have the lambdas."""
        assert {4, 8, 16, 32} <= set(BATCHES)
        assert {1e-3, 5e-3, 1e-2, 0.1, 1.5} <= set(STEP_SIZES)
        assert [decay / 2 for decay in WEIGHT_DECAYS] == [4e-4, 5e-4, 6e-3, 8e-3]
        assert {1e-3, 0.01} <= set(LEVELS)

    @pytest.mark.parametrize("given_", ["batch", "mu", "weight_decay", "eps"])
    def test_what_is_given_is_fixed(self, given_: str) -> None:
        values: dict[str, Any] = {
            "batch": (3, 7),
            "mu": (0.2, 0.3),
            "weight_decay": (0.1,),
            "eps": (0.2, 1.5),
        }
        key = {"batch": "B"}.get(given_, given_)
        found = rows(Setting(), **{given_: values[given_]})
        assert {row[key] for row in found} == set(values[given_])
        sizes = {"batch": 6, "mu": 7, "weight_decay": 4, "eps": 4}
        others = math.prod(size for name, size in sizes.items() if name != given_)
        assert len(found) == len(values[given_]) * others

    def test_each_row_by_brute_force(self) -> None:
        for row in rows(Setting(inputs=9), batch=(8, 5), mu=(0.5, 1.5), eps=(0.3, 0.05)):
            n = count(row["mu"], row["lambda"], row["eps"])
            assert (row["steps"], row["exact"]) == (n, 9 * row["B"] * n)
            assert row["first_useful_width"] == row["exact"] + 1
            formula = 9 * row["B"] * math.log(2 / row["eps"]) / (2 * row["mu"] * row["lambda"])
            assert row["closed_form"] == pytest.approx(formula, rel=1e-14)
            assert row["weight_decay"] == 2 * row["lambda"]

    @given(value=st.floats(1e-3, 0.4))
    def test_the_theorem_s_factor_is_two(self, value: float) -> None:
        """Given as weight decay, a number is half the lambda, and leaves twice the rank."""
        as_lambda, as_decay = one(weight_decay=(2 * value,)), one(weight_decay=(value,))
        assert as_lambda["lambda"] == value == as_decay["weight_decay"]
        assert as_decay["closed_form"] == pytest.approx(2 * as_lambda["closed_form"])

    @pytest.mark.parametrize(
        ("decay", "closed", "steps"), [(16e-3, 7114, 1185), (8e-3, 14228, 2371)]
    )
    def test_figure_18_in_both_conventions(self, decay: float, closed: int, steps: int) -> None:
        row = one(Setting(width=10000), batch=(6,), mu=(0.1,), weight_decay=(decay,), eps=(0.3,))
        assert round(row["closed_form"]) == closed
        assert (row["steps"], row["exact"]) == (steps, 6 * steps)
        assert row["vacuous"] is (closed > 10000)

    def test_the_ceiling_puts_the_count_above_the_formula(self) -> None:
        row = one(batch=(1,), mu=(1.0,), weight_decay=(0.2,), eps=(0.5,))
        assert row["closed_form"] == pytest.approx(6.93, abs=0.005)
        assert row["exact"] == 7

    def test_devices_and_accumulation_and_inputs_multiply(self) -> None:
        single = one()
        row = one(Setting(inputs=3, world_size=5, accumulation=7))
        assert row["effective_batch"] == 8 * 5 * 7
        assert row["steps"] == single["steps"]
        assert row["exact"] == 105 * single["exact"]
        assert row["closed_form"] == pytest.approx(105 * single["closed_form"])
        assert (row["B"], row["m"], row["world_size"], row["accumulation"]) == (8, 3, 5, 7)

    @pytest.mark.parametrize("nesterov", [False, True])
    def test_with_momentum_there_is_no_closed_form(self, *, nesterov: bool) -> None:
        row = one(Setting(momentum=0.9, nesterov=nesterov))
        assert row["closed_form"] is None
        assert row["exact"] == 8 * (row["steps"] + nesterov)
        assert (row["momentum"], row["nesterov"]) == (0.9, nesterov)
        # Ten times the step size in effect.
        assert row["steps"] == pytest.approx(one(mu=(5.0,))["steps"], abs=15)

    def test_vacuous_from_the_width_on(self) -> None:
        exact = one()["exact"]
        verdicts = [one(Setting(width=exact + d))["vacuous"] for d in (-1, 0, 1)]
        assert verdicts == [True, True, False]
        assert one()["vacuous"] is None

    def test_out_of_range_in_a_sweep_is_a_note(self) -> None:
        found = rows(batch=(4,), weight_decay=(0.8,), eps=(0.1,))
        assert [bool(row["note"]) for row in found] == [mu >= 1.25 for mu in STEP_SIZES]
        assert "mu lambda is 0.6" in found[-1]["note"]
        assert found[-1]["exact"] is found[-1]["closed_form"] is None


class TestSchedule:
    SCHEDULE = ((0, 0.4), (30, 0.1), (80, 0.02))

    def ask(self, step: int | None) -> tuple[Row, ...]:
        setting = Setting(schedule=self.SCHEDULE, step=step)
        return rows(setting, batch=(8,), weight_decay=(0.2,), eps=(0.5,))

    @pytest.mark.parametrize(
        ("until", "ends"),
        [
            (None, [30, 80, None]),
            (30, [30]),
            (31, [30, 31]),
            (80, [30, 80]),
            (500, [30, 80, 500]),
        ],
    )
    def test_a_row_at_the_end_of_each_phase(self, until: int | None, ends: list[int]) -> None:
        assert [row["step"] for row in self.ask(until)] == ends

    def test_an_end_before_the_first_change_is_its_only_row(self) -> None:
        assert [(row["step"], row["mu"]) for row in self.ask(20)] == [(20, 0.4)]
        with pytest.raises(UsageError, match="no bound yet: 10 steps are too few"):
            self.ask(10)

    def test_each_is_the_product_over_the_last_steps(self) -> None:
        for row in self.ask(200):
            left, n = 1.0, 0
            while left > 0.25:
                n += 1
                mu = [mu for start, mu in self.SCHEDULE if start <= row["step"] - n][-1]
                left *= 1 - mu * 0.2
            assert (row["steps"], row["exact"]) == (n, 8 * n)
            assert row["mu"] == {30: 0.4, 80: 0.1, 200: 0.02}[row["step"]]
        assert [row["steps"] for row in self.ask(200)] == [17, 55, 165]

    def test_long_after_the_last_change_is_its_constant_step_size(self) -> None:
        constant = one(mu=(0.02,), weight_decay=(0.2,), eps=(0.5,))
        assert self.ask(None)[-1] == constant

    def test_too_short_a_phase_has_no_bound_and_no_closed_form(self) -> None:
        setting = Setting(schedule=((0, 1e-3), (10, 0.5)))
        first, second = rows(setting, batch=(8,), weight_decay=(0.2,), eps=(0.5,))
        assert "10 steps are too few" in first["note"]
        assert first["steps"] is first["exact"] is first["closed_form"] is None
        assert second["note"] == ""


class TestSolving:
    def test_what_is_solved_for_is_filled_in(self) -> None:
        wide = Setting(width=2000)
        decay = one(wide, weight_decay=(), solve_for="lambda")
        assert decay["lambda"] == decay["weight_decay"] / 2
        assert one(wide, weight_decay=(decay["weight_decay"],))["exact"] < 2000
        assert one(wide, eps=(), solve_for="eps")["exact"] < 2000
        assert one(wide, mu=(), solve_for="mu")["exact"] < 2000
        batch = one(wide, batch=(), solve_for="B")
        assert one(wide, batch=(batch["B"],)) == batch
        assert one(wide, batch=(batch["B"] + 1,))["exact"] >= 2000
        assert all(row["vacuous"] is False for row in (decay, batch))
        assert one(solve_for="width")["width"] == one()["exact"] + 1

    def test_the_rest_is_swept(self) -> None:
        found = rows(Setting(width=10**6), batch=(4, 8), weight_decay=(0.01,), solve_for="eps")
        assert [(row["B"], row["mu"]) for row in found] == list(
            itertools.product((4, 8), STEP_SIZES)
        )

    def test_what_has_no_answer_is_blank_and_says_why(self) -> None:
        found = rows(Setting(width=6), mu=(0.5,), eps=(0.1,), solve_for="lambda")
        assert [row["note"] == "" for row in found] == [True, False, False, False, False, False]
        assert found[1]["lambda"] is found[1]["weight_decay"] is found[1]["exact"] is None
        assert found[1]["mu"] == 0.5
        assert "one step alone adds m B = 8" in found[1]["note"]

    def test_a_batch_without_an_answer_is_blank(self) -> None:
        first, *_, last = rows(
            Setting(width=500), mu=(0.5,), weight_decay=(0.1,), eps=(0.1, 1e-12), solve_for="B"
        )
        assert first["B"] == 499 // first["steps"]
        assert last["B"] is last["effective_batch"] is None

    def test_no_answer_at_all_is_an_error(self) -> None:
        with pytest.raises(UsageError, match="m B = 4 directions; no other combination has one"):
            rows(Setting(width=3), mu=(0.5,), eps=(0.1,), solve_for="lambda")


class TestDocument:
    def test_keys_and_schema(self) -> None:
        question = BoundQuestion(Setting(), (8,), (0.5,))
        document = bound_table(question).to_document()
        assert document["schema"] == "rankscope/bound/1"
        assert document["provenance"]["weight_decay"].startswith("PyTorch's, 2 lambda")
        assert len(document["rows"]) == 16
        assert all(set(row) >= KEYS for row in document["rows"])

    @given(
        mu=st.floats(0, 1e308, exclude_min=True),
        decay=st.floats(0, 1e308, exclude_min=True),
        eps=st.floats(0, 2, exclude_min=True, exclude_max=True),
        batch=st.integers(1, MOST),
    )
    def test_is_strict_json_or_a_usage_error(
        self, mu: float, decay: float, eps: float, batch: int
    ) -> None:
        setting = Setting(inputs=MOST, world_size=MOST, accumulation=MOST)
        try:
            made = bound_table(BoundQuestion(setting, (batch,), (mu,), (decay,), (eps,)))
        except UsageError:
            return
        assert json.loads(json.dumps(made.to_document(), allow_nan=False))["rows"][0]["exact"]


@pytest.mark.parametrize(
    ("setting", "chosen", "why"),
    [
        (Setting(), {"batch": (8, 0)}, "B is 0, expected at least 1"),
        (Setting(), {"batch": (2**63,)}, "B is above"),
        (Setting(inputs=0), {}, "m is 0"),
        (Setting(world_size=-2), {}, "world size is -2"),
        (Setting(accumulation=0), {}, "accumulation is 0"),
        (Setting(width=0), {}, "width is 0"),
        (Setting(width=10**5000), {}, "width is above"),
        (Setting(schedule=((0, 0.1), (9, 0.2)), step=0), {}, "the end of training is 0"),
        (Setting(schedule=((0, 0.1), (10**400, 0.2))), {}, "the start of a phase is above"),
        (Setting(schedule=((0, 0.1), (5, 0.1), (5, 1.0))), {}, "phases start at 0, 5, 5"),
        (Setting(schedule=((1, 0.1),)), {}, "phases start at 1; expected 0"),
        (Setting(schedule=((0, 0.1), (-3, 0.1))), {}, "phases start at 0, -3"),
        (Setting(schedule=((0, 0.1),)), {"mu": (0.1,)}, "exclude each other"),
        (Setting(schedule=((0, 0.1),)), {"solve_for": "mu"}, "exclude each other"),
        (Setting(schedule=((0, 9.0),)), {"weight_decay": (0.5,)}, "mu lambda is 2.25"),
        (Setting(schedule=((0, math.nan),)), {}, "mu is nan"),
        (Setting(step=5), {}, "needs a schedule"),
        (Setting(nesterov=True), {}, "nesterov needs a momentum"),
        (Setting(momentum=1.0), {}, "momentum is 1, expected"),
        (Setting(momentum=-0.5), {}, "momentum is -0.5, expected"),
        (Setting(momentum=math.nan), {}, "momentum is nan, expected"),
        (Setting(momentum=1 - 1e-16), {}, "momentum is 0.9999999999999999, expected at most"),
        (Setting(), {"eps": (0.1, 0.0)}, "eps is 0,"),
        (Setting(), {"eps": (2.0,)}, "eps is 2,"),
        (Setting(), {"eps": (math.nan,)}, "eps is nan,"),
        (Setting(), {"mu": (0.1, 0.0)}, "nothing of the initial weights"),
        (Setting(), {"weight_decay": (0.0,)}, "nothing of the initial weights"),
        (Setting(), {"mu": (1.0,), "weight_decay": (0.5, 1.0)}, "mu lambda is 0.5, expected"),
        (Setting(), {"mu": (1e-30,), "weight_decay": (1e-3,)}, "too little"),
        (Setting(), {"mu": (math.inf,)}, "mu is inf"),
        (Setting(), {"weight_decay": (-1.0,)}, "weight decay is -1"),
        (Setting(), {"solve_for": "eps"}, "solving for eps needs a width"),
        (Setting(width=9), {"solve_for": "width"}, "width is given"),
        (Setting(width=9), {"solve_for": "B", "batch": (8,)}, "B is given"),
        (Setting(width=9), {"solve_for": "eps", "eps": (0.1,)}, "eps is given"),
        (Setting(width=9), {"solve_for": "lambda", "weight_decay": (0.1,)}, "lambda is given"),
        (Setting(width=9), {"solve_for": "mu", "mu": (0.1,)}, "mu is given"),
        (Setting(width=9), {"solve_for": "momentum"}, "cannot solve for 'momentum'"),
    ],
)
def test_refused(setting: Setting, chosen: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why) as raised:
        rows(setting, **chosen)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_the_largest_momentum_ends() -> None:
    """Heavy ball oscillates here, and is searched step by step."""
    row = one(Setting(momentum=0.9999), mu=(0.1,), weight_decay=(0.02,))
    assert row["steps"] == 59915
    with pytest.raises(UsageError, match="expected at most"):
        rows(replace(Setting(), momentum=math.nextafter(0.9999, 1)))
