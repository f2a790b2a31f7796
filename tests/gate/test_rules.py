"""Rules as text, and what each says of two numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.errors import UsageError
from rankscope.gate.baseline import METRICS
from rankscope.gate.rules import (
    DEFAULT_RULES,
    BoundRule,
    ChangeRule,
    StateRule,
    metrics_in,
    parse_rule,
    rule_book,
)
from rankscope.question import Question

POSITIVE = st.floats(1e-6, 1e6)


def change(text: str) -> ChangeRule:
    rule = parse_rule(text)
    assert isinstance(rule, ChangeRule)
    return rule


def bound(text: str) -> BoundRule:
    rule = parse_rule(text)
    assert isinstance(rule, BoundRule)
    return rule


class TestText:
    @pytest.mark.parametrize(
        ("text", "subject", "direction", "share", "absolute"),
        [
            ("rank: drop <= 2%", "rank", "drop", 0.02, 0.0),
            ("effective_rank: change <= 5%", "effective_rank", "change", 0.05, 0.0),
            ("spectral_norm: rise <= 20%", "spectral_norm", "rise", 0.2, 0.0),
            ("rank: drop <= 3", "rank", "drop", 0.0, 3.0),
            ("rank: drop <= 2% + 1", "rank", "drop", 0.02, 1.0),
            ("rank@0.01:drop<=.5%+1e1", "rank@0.01", "drop", 0.005, 10.0),
            ("schatten_norm(p=0.5): rise <= 0", "schatten_norm(p=0.5)", "rise", 0.0, 0.0),
        ],
    )
    def test_change(
        self, text: str, subject: str, direction: str, share: float, absolute: float
    ) -> None:
        rule = change(text)
        assert (rule.subject, str(rule.direction), rule.glob) == (subject, direction, "*")
        assert rule.share == pytest.approx(share)
        assert rule.absolute == absolute
        assert rule.text == text

    @pytest.mark.parametrize(
        ("text", "comparison", "limit"),
        [
            ("effective_rank >= 0.4 * min(shape)", ">=", 12.0),
            ("rank<=2*max(shape)", "<=", 80.0),
            ("spectral_norm <= 1e2", "<=", 100.0),
            ("rank >= 0.5 * rows", ">=", 20.0),
            ("rank >= 1 * columns", ">=", 30.0),
        ],
    )
    def test_bound(self, text: str, comparison: str, limit: float) -> None:
        rule = bound(text)
        assert rule.comparison == comparison
        assert rule.bound((40, 30)) == pytest.approx(limit)

    def test_states(self) -> None:
        for text in ("status: all measured", "removed: none", "retyped:none", "added : none"):
            rule = parse_rule(text)
            assert isinstance(rule, StateRule)
            assert rule.forbidden
        lenient = parse_rule("status: any")
        assert isinstance(lenient, StateRule)
        assert not lenient.forbidden

    def test_globs(self) -> None:
        rule = parse_rule("rank: drop <= 10% for *.experts.w[[]3]")
        assert rule.glob == "*.experts.w[[]3]"
        assert rule.concerns("layer.experts.w[3]")
        assert not rule.concerns("layer.experts.w3")
        # A name pasted from the table means itself, though its brackets are a glob.
        assert parse_rule("rank: any for w[3]").concerns("w[3]")

    @pytest.mark.parametrize(
        "text",
        [
            *("", "rank", "rank:", "rank: drop", "rank: drop <=", "rank: drop <= x", ": drop <= 1"),
            *("rank: drop <= 2%%", "rank: drop <= -1", "rank: drop <= 2% 1", "rank: drop <= + 1"),
            *("rank: fall <= 2%", "rank: drop < 2%", "rank: drop >= 2%", "rank: none"),
            *("rank >= ", "rank > 3", "rank >= min(shape)", "rank >= 0.4 * depth", "rank >= 2%"),
            *("status: none", "status: drop <= 1", "removed: all measured", "added >= 3"),
            *("rank: drop <= nan", "rank: drop <= inf", "rank >= nan", "rank: drop <= 2% + 1 +"),
        ],
    )
    def test_what_is_no_rule_is_refused_with_examples(self, text: str) -> None:
        with pytest.raises(UsageError, match="not understood, expected such as"):
            parse_rule(text)

    def test_metrics_to_ask_for(self) -> None:
        texts = ("rank@0.01 >= 3", "rank@0.1 >= 2", "energy_rank(p=0.5) >= 2", "status: any")
        assert metrics_in(texts) == ("rank", "energy_rank(p=0.5)")


class TestExcess:
    """Brute force: the rule's own words, number by number."""

    @given(before=POSITIVE, after=POSITIVE)
    def test_drop_rise_and_change(self, before: float, after: float) -> None:
        drop = change("x: drop <= 10%").excess(before, after) > 0
        rise = change("x: rise <= 10%").excess(before, after) > 0
        both = change("x: change <= 10%").excess(before, after) > 0
        assert both == (drop or rise)
        if abs(after / before - 0.9) > 1e-9:
            assert drop == (after < 0.9 * before)
        if abs(after / before - 1.1) > 1e-9:
            assert rise == (after > 1.1 * before)

    def test_exactly_what_is_allowed_is_allowed(self) -> None:
        rule = change("rank: drop <= 2% + 1")
        assert not rule.excess(100, 97)
        assert rule.excess(100, 96) == pytest.approx(4 / 3)
        for before in range(1, 2000):
            assert not change("rank: drop <= 10%").excess(10 * before, 9 * before)

    def test_nothing_allowed(self) -> None:
        assert change("rank: change <= 0").excess(5, 6) == math.inf
        assert not change("rank: change <= 0").excess(5, 5)

    def test_of_a_negative_value_the_share_is_of_its_size(self) -> None:
        assert not change("x: drop <= 10%").excess(-10.0, -10.9)
        assert change("x: drop <= 10%").excess(-10.0, -11.1)

    def test_bounds(self) -> None:
        assert not bound("x >= 0.5 * min(shape)").excess(5, (10, 20))
        assert bound("x >= 0.5 * min(shape)").excess(4, (10, 20)) == pytest.approx(1.25)
        assert not bound("x <= 3").excess(3, (1, 1))
        assert bound("x <= 3").excess(6, (1, 1)) == pytest.approx(2)
        assert bound("x >= 1").excess(0, (1, 1)) == math.inf


class TestBook:
    columns = ("rank", "effective_rank", "spectral_norm")

    def texts(self, name: str, *given: str, columns: tuple[str, ...] = columns) -> list[str]:
        book = rule_book(given, columns, columns)
        return [rule.text for rule in book.rules_for(name)]

    def test_defaults_are_rules_about_what_a_baseline_holds(self) -> None:
        columns = [column.key for column in Question(METRICS).columns()]
        book = rule_book((), columns, columns)
        assert [rule.text for rule in book.defaults] == list(DEFAULT_RULES)

    def test_own_rules_replace_the_default_ones_of_their_subject(self) -> None:
        found = self.texts("w", "rank: drop <= 50%")
        assert "rank: drop <= 50%" in found
        assert "rank: drop <= 2% + 1" not in found
        assert "effective_rank: drop <= 5%" in found
        assert "removed: none" in found

    def test_only_of_the_matrices_that_they_are_about(self) -> None:
        given = ("rank: drop <= 50% for *v_proj*",)
        assert "rank: drop <= 50%" in self.texts("a.v_proj.weight", *given)
        assert "rank: drop <= 2% + 1" in self.texts("a.q_proj.weight", *given)

    def test_the_later_rule_holds(self) -> None:
        given = ("rank: drop <= 50%", "rank: drop <= 10% for head", "rank: rise <= 3")
        assert [text for text in self.texts("head", *given) if text.startswith("rank")] == [
            "rank: drop <= 10%",
            "rank: rise <= 3",
        ]
        assert "rank: drop <= 50%" in self.texts("body", *given)

    def test_any_takes_back_and_may_be_taken_back(self) -> None:
        def of_rank(*given: str) -> list[str]:
            return [text for text in self.texts("head", *given) if "rank: d" in text[:7]]

        assert of_rank("rank: any for head") == []
        assert of_rank("rank: drop <= 1", "rank: any for head") == []
        assert of_rank("rank: any for head", "rank: drop <= 1") == ["rank: drop <= 1"]

    def test_defaults_hold_at_every_eps(self) -> None:
        book = rule_book((), *[("rank@0.01", "rank@0.001")] * 2)
        subjects = [rule.subject for rule in book.defaults if isinstance(rule, ChangeRule)]
        assert subjects == ["rank@0.01", "rank@0.001"]

    def test_a_reading_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(UsageError, match="efective_rank is not in the baseline; did you mean"):
            rule_book(("efective_rank: drop <= 1",), self.columns, self.columns)

    @pytest.mark.parametrize("text", ["rank: drop <= 1", "added: none"])
    def test_without_a_baseline_nothing_is_compared(self, text: str) -> None:
        with pytest.raises(UsageError, match="there is no --baseline"):
            rule_book((text,), self.columns, None)

    def test_without_a_baseline_everything_must_be_measured(self) -> None:
        book = rule_book(("rank >= 3",), self.columns, None)
        assert [rule.text for rule in book.rules_for("w")] == ["status: all measured", "rank >= 3"]
