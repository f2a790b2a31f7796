"""Two checkpoints side by side: which matrix is which, what changed, and in which order."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import rankscope
from rankscope.comparing import Diff
from rankscope.differences.changes import change_row, worst_first
from rankscope.differences.difference import STRUCTURE
from rankscope.errors import InputRejected, OutputFailed, UsageError
from rankscope.how import How
from rankscope.question import Question
from rankscope.rows import Row
from rankscope.views import terminal
from rankscope.views.difference import report, sentence
from tests.matrix import Array, low_rank
from tests.views.test_views import HOSTILE, TEXTS, acting

RNG = np.random.default_rng(11)
HOW = How(workers=1, store=False)

WIDE = 1000  # columns, in which no path is wrapped


def save(path: Path, tensors: dict[str, Array]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, path)
    return path


def matrix(rows: int = 12, columns: int = 9) -> Array:
    return RNG.standard_normal((rows, columns)).astype(np.float32)


def compare(folder: Path, before: dict[str, Array], after: dict[str, Array], **asked: Any) -> Diff:
    paths = save(folder / "a.safetensors", before), save(folder / "b.safetensors", after)
    return rankscope.diff(*paths, **{"how": HOW, "delta": True, **asked})


def rows(found: Diff) -> dict[str, Row]:
    return {row["name"]: row for row in found.matrices}


class TestRows:
    def test_both_sides_are_what_analyze_says(self, tmp_path: Path) -> None:
        found = compare(tmp_path, {"w": matrix()}, {"w": low_rank(12, 9, 3).astype(np.float32)})
        (row,) = found.matrices
        for name, suffix in (("a", "_before"), ("b", "")):
            path = tmp_path / f"{name}.safetensors"
            (told,) = rankscope.analyze(path, metrics=found.columns, how=HOW).matrices
            for key in (*found.columns, "shape", "dtype", "kind", "status"):
                assert row[key + suffix] == told[key], key
        assert row["rank_change"] == 3 - 9
        assert row["effective_rank_change"] == row["effective_rank"] - row["effective_rank_before"]
        assert row["loss"] == pytest.approx(6 / 9)
        assert row["loss_of"] == "rank"
        assert row["equal"] is False

    def test_a_data_frame_simply_works(self, tmp_path: Path) -> None:
        pandas = pytest.importorskip("pandas")
        found = compare(tmp_path, {"w": matrix(), "v": matrix()}, {"w": matrix(), "v": matrix()})
        frame = pandas.DataFrame(json.loads(json.dumps(found.to_document()))["matrices"])
        assert len(frame) == 2
        assert frame.equals(found.to_pandas())
        assert {"rank", "rank_before", "delta_rank", "relative_change"} <= set(frame.columns)

    def test_without_delta_there_is_nothing_of_it(self, tmp_path: Path) -> None:
        found = compare(tmp_path, {"w": matrix()}, {"w": matrix()}, delta=False)
        assert not [key for key in found.matrices[0] if "delta" in key or key == "relative_change"]
        assert found.delta_columns == ()
        assert found.summary["moved"] is None
        assert sentence(found).startswith("0 of 1 matrix unchanged; 1 changed")

    def test_what_is_asked_is_what_is_there(self, tmp_path: Path) -> None:
        found = compare(tmp_path, {"w": matrix()}, {"w": 2 * matrix()}, metrics=("stable_rank",))
        assert found.columns == ("stable_rank",)
        assert found.matrices[0]["loss_of"] == "stable_rank"
        assert found.delta_columns == ("numerical_rank", "stable_rank")
        with pytest.raises(UsageError, match="not known"):
            compare(tmp_path, {"w": matrix()}, {"w": matrix()}, metrics=("rnak",))

    def test_numpys_rule_is_asked_of_the_difference_as_it_is(self, tmp_path: Path) -> None:
        base = matrix()
        metrics = ("numerical_rank(rule=numpy)", "numerical_rank(rule=storage)")
        tuned = (base + low_rank(12, 9, 2)).astype(np.float32)
        found = compare(tmp_path, {"w": base}, {"w": tuned}, metrics=metrics)
        assert found.delta_columns == ("numerical_rank", "numerical_rank(rule=numpy)")
        (row,) = found.matrices
        assert (row["delta_numerical_rank"], row["delta_numerical_rank(rule=numpy)"]) == (2, 9)


class TestOrder:
    def test_the_largest_loss_first_and_the_unchanged_last(self, tmp_path: Path) -> None:
        before = {f"w{i}": matrix() for i in range(5)}
        after = dict(before)
        after["w1"] = low_rank(12, 9, 5).astype(np.float32)
        after["w3"] = low_rank(12, 9, 2).astype(np.float32)
        after["w4"] = np.full((12, 9), np.nan, np.float32)
        found = compare(tmp_path, before, after)
        assert [row["name"] for row in found.matrices] == ["w4", "w3", "w1", "w0", "w2"]
        losses = [row["loss"] for row in found.matrices]
        assert losses == [None, pytest.approx(7 / 9), pytest.approx(4 / 9, abs=0.2), 0, 0]

    def test_the_effective_rank_is_lost_too(self) -> None:
        columns = Question(("rank", "effective_rank"), (0.1, 0.01)).columns()
        facts: Row = {
            "shape": [4, 4], "dtype": "float32", "kind": "linear", "status": "ok", "notes": {},
            "content": None, "name": "w",
        }  # fmt: skip
        before = {**facts, "rank@0.1": 4, "rank@0.01": 4, "effective_rank": 4.0}
        after = {**facts, "rank@0.1": 3, "rank@0.01": 4, "effective_rank": 1.0}
        row = change_row(before, after, columns)
        assert (row["loss"], row["loss_of"]) == (0.75, "effective_rank")
        assert row["equal"] is None
        back = change_row(after, before, columns)
        assert (back["loss"], back["loss_of"]) == (0, "rank@0.01")
        nothing = change_row({**before, **dict.fromkeys(("rank@0.1", "rank@0.01"), 0),
                              "effective_rank": None}, after, columns)  # fmt: skip
        assert nothing["loss"] is None
        equal = {**row, "equal": True}
        assert list(worst_first([equal, nothing, back, row])) == [row, back, nothing, equal]

    def test_of_the_same_loss_what_moved_further(self) -> None:
        row: Row = {"equal": False, "status": "ok", "status_before": "ok", "loss": 0.0}
        near, far = {**row, "relative_change": 0.1}, {**row, "relative_change": 0.2}
        assert list(worst_first([near, far])) == [far, near]


class TestStructure:
    @pytest.fixture
    def found(self, tmp_path: Path) -> Diff:
        kept, moved, tied, gone = (matrix() for _ in range(4))
        before = {"kept": kept, "old": moved, "head": tied, "embed": tied, "gone": gone}
        before |= {"wide": matrix(), "coarse": matrix()}
        after = {"kept": kept, "new": moved, "embed": tied, "fresh": matrix()}
        after |= {"wide": matrix(12, 10), "coarse": before["coarse"].astype(ml_dtypes.bfloat16)}
        return compare(tmp_path, before, after)

    def test_each_is_told_as_what_it_is(self, found: Diff) -> None:
        assert [row["name"] for row in found.removed] == ["gone"]
        assert [row["name"] for row in found.added] == ["fresh"]
        assert found.renamed == ({"before": "old", "after": "new"},)
        assert found.tied == ({"name": "head", "side": "before", "to": "embed"},)
        assert found.reshaped == ({"name": "wide", "before": [12, 9], "after": [12, 10]},)
        assert found.retyped == ({"name": "coarse", "before": "float32", "after": "bfloat16"},)
        assert rows(found).keys() == {"kept", "new", "embed", "wide", "coarse"}
        assert not found.incomplete

    def test_what_is_renamed_is_equal(self, found: Diff) -> None:
        row = rows(found)["new"]
        assert (row["name_before"], row["equal"], row["relative_change"]) == ("old", True, 0)

    def test_another_shape_has_no_difference(self, found: Diff) -> None:
        row = rows(found)["wide"]
        assert (row["delta_status"], row["relative_change"]) == (None, None)
        assert row["notes"]["delta_status"] == "shapes differ"
        assert row["rank_change"] == 1

    def test_counts(self, found: Diff) -> None:
        summary = found.summary
        assert (summary["matrices"], summary["unchanged"], summary["changed"]) == (5, 3, 2)
        assert (summary["moved"], summary["rounded"], summary["uncompared"]) == (0, 1, 0)

    def test_the_terminal_names_each(self, found: Diff) -> None:
        text = terminal.render(report(found), width=120)
        assert "3 of 5 matrices unchanged; 1 differs by no more than rounding" in text
        for line in (
            "removed: gone",
            "added: fresh",
            "renamed: old → new",
            "tied: head (before) to embed",
            "reshaped: wide 12x9 → 12x10",
            "retyped: coarse fp32 → bf16",
            "no delta rank of 1 matrix: shapes differ",
        ):
            assert line in text.splitlines()

    def test_many_that_were_retyped_are_counted(self, found: Diff) -> None:
        one = {"before": "float32", "after": "bfloat16"}
        several = tuple({"name": name, **one} for name in ("a", "b"))
        many = replace(found, retyped=(*several, {"name": "c", **one, "after": "float16"}))
        assert "retyped: 2 matrices fp32 → bf16, c fp32 → fp16" in str(many).replace("\n", " ")
        text = terminal.render(report(many), width=120, everything=True)
        assert "retyped: a fp32 → bf16, b fp32 → bf16, c fp32 → fp16" in text

    def test_it_is_in_the_document(self, found: Diff) -> None:
        document = found.to_document()
        assert document["schema"] == "rankscope/diff/1"
        for key in STRUCTURE:
            assert document[key] == list(getattr(found, key))
        assert document["before"]["format"] == "safetensors"
        json.dumps(document, allow_nan=False)

    def test_nothing_in_common(self, tmp_path: Path) -> None:
        found = compare(tmp_path, {"a": matrix()}, {"b": matrix()})
        assert sentence(found) == "no matrix stands in both"
        assert found.summary["relative_change"] is None

    def test_a_form_that_is_not_measured_is_no_removal(self, tmp_path: Path) -> None:
        found = compare(tmp_path, {"w": matrix()}, {"w": np.ones((12, 9), np.int8)})
        (row,) = found.removed
        assert row["reason"].startswith("int8: quantised")
        assert "removed: w (not measured there: int8" in str(found)


class TestWhatCannotBeMeasured:
    @pytest.mark.parametrize("side", ["before", "after", "both"])
    def test_weights_that_are_not_finite(self, tmp_path: Path, side: str) -> None:
        nan = matrix()
        nan[3, 4] = np.nan
        sound = matrix()
        before = {"w": sound if side == "after" else nan, "v": sound}
        found = compare(tmp_path, before, {"w": sound if side == "before" else nan, "v": sound})
        row = rows(found)["w"]
        assert found.incomplete
        assert row["delta_status"] == "nonfinite"
        assert row["relative_change"] is None
        assert row["equal"] is (side == "both")
        assert found.summary["uncompared"] == (side != "both")
        text = terminal.render(report(found), width=120)
        place = "w (before)" if side != "after" else "w"
        assert f"nonfinite: {place}: holds NaN or infinity" in text
        json.dumps(found.to_document(), allow_nan=False)

    def test_a_difference_beyond_float64(self, tmp_path: Path) -> None:
        before, after = np.diag([1e308, 1.0]), np.diag([-1e308, 1.0])
        found = compare(tmp_path, {"w": before}, {"w": after})
        assert found.matrices[0]["delta_status"] == "nonfinite"
        assert found.incomplete
        assert "nonfinite: w: holds NaN or infinity" in str(found)

    def test_matrices_without_entries(self, tmp_path: Path) -> None:
        none = np.empty((0, 4), np.float32)
        found = compare(tmp_path, {"w": none, "v": matrix()}, {"w": none, "v": matrix()})
        assert rows(found)["w"]["delta_status"] == "empty"
        assert not found.incomplete

    def test_a_missing_shard_is_no_removal(self, tmp_path: Path) -> None:
        tensors = {"w": matrix(), "v": matrix()}
        whole = save(tmp_path / "whole.safetensors", tensors)
        folder = tmp_path / "model"
        save(folder / "model-00001-of-00002.safetensors", {"w": tensors["w"]})
        shards = {"w": "model-00001-of-00002.safetensors", "v": "model-00002-of-00002.safetensors"}
        index = {"metadata": {}, "weight_map": shards}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        found = rankscope.diff(whole, folder, how=HOW)
        assert found.incomplete
        assert rows(found)["w"]["equal"] is True
        (row,) = found.removed
        assert "model-00002-of-00002.safetensors is missing" in row["reason"]

    @pytest.mark.parametrize("which", [0, 1])
    def test_a_damaged_one_is_refused(self, tmp_path: Path, which: int) -> None:
        a, b = (save(tmp_path / f"{name}.safetensors", {"w": matrix()}) for name in "ab")
        os.truncate((a, b)[which], 30)
        with pytest.raises(InputRejected) as told:
            rankscope.diff(a, b, how=HOW)
        assert told.value.path == str((a, b)[which])

    def test_a_series_is_no_checkpoint(self, tmp_path: Path) -> None:
        for step in (1, 2):
            save(tmp_path / "run" / f"step-{step}.safetensors", {"w": matrix()})
        alone = save(tmp_path / "a.safetensors", {"w": matrix()})
        with pytest.raises(InputRejected, match="holds 2 snapshots, expected one: give it"):
            rankscope.diff(alone, tmp_path / "run", how=HOW)
        with pytest.raises(InputRejected, match="no such file"):
            rankscope.diff(tmp_path / "nowhere", alone, how=HOW)

    def test_a_glob_may_match_either_and_must_match_one(self, tmp_path: Path) -> None:
        before, after = {"a": matrix(), "c": matrix()}, {"b": matrix(), "c": matrix()}
        chosen = rankscope.Selection(include=("a", "b"))
        found = compare(tmp_path, before, after, selection=chosen)
        assert [row["name"] for row in (*found.removed, *found.added)] == ["a", "b"]
        with pytest.raises(UsageError, match="matches no matrix"):
            compare(tmp_path, before, after, selection=rankscope.Selection(include=("z",)))


class TestViews:
    @pytest.mark.parametrize("case", [case for case in HOSTILE if case != "surrogate"])  # no UTF-8
    def test_nothing_in_a_name_acts(self, tmp_path: Path, case: str) -> None:
        name = HOSTILE[case]
        before = {name: matrix(), f"{name}2": matrix(), f"{name}3": matrix()}
        after = {name: matrix(), f"{name}4": matrix(), f"{name}5": before[f"{name}3"]}
        found = compare(tmp_path, before, after)
        for view in TEXTS:
            assert not acting(view.render(report(found)).decode("utf-8")), view
        text = terminal.render(report(found), width=WIDE)
        assert not acting(text)
        plain = compare(tmp_path, {"w": matrix()}, {"w": matrix()})
        assert text.count("\n") == terminal.render(report(plain), width=WIDE).count("\n") + 3

    @pytest.fixture
    def many(self, tmp_path: Path) -> Diff:
        before = {f"model.layers.{i}.self_attn.q_proj.weight": matrix(40, 30) for i in range(70)}
        after = {
            name: one + low_rank(40, 30, 4, seed=i).astype(np.float32) * (i < 60)
            for i, (name, one) in enumerate(before.items())
        }
        after["model.layers.5.self_attn.q_proj.weight"] = low_rank(40, 30, 6).astype(np.float32)
        return compare(tmp_path, before, after)

    def test_one_sentence_tells_it(self, many: Diff) -> None:
        assert sentence(many).startswith("10 of 70 matrices unchanged; 60 moved, by ")
        assert " % of their norm in 4 to 30 directions (median 4); the largest loss" in sentence(
            many
        )
        assert sentence(many).endswith("80 % of rank, model.layers.5.self_attn.q_proj.weight")

    def test_it_fits_80_columns_and_says_what_it_left_out(self, many: Diff) -> None:
        lines = terminal.render(report(many), width=80).splitlines()
        assert max(map(len, lines)) <= 80
        title = " ".join(" ".join(lines[:4]).split())
        assert ": the worst 48 of 60 that changed (--all shows every matrix)" in title
        head = next(i for i, line in enumerate(lines) if line.startswith("──"))
        assert lines[head + 1].split()[:4] == ["model.layers.5.self_attn.q_proj", "30", "→", "6"]
        names = {line.split()[0] for line in lines[head + 1 : head + 49]}
        assert len(names) == 48
        for column in ("change", "moved", "delta"):
            assert column in " ".join(lines[:head])

    def test_everything_is_every_matrix(self, many: Diff) -> None:
        text = terminal.render(report(many), width=200, everything=True)
        assert sum("q_proj" in line for line in text.splitlines()) >= 70
        assert "--all" not in text

    def test_it_shows_itself(self, many: Diff, tmp_path: Path) -> None:
        assert "60 moved" in str(many)
        assert repr(many).startswith("<Diff: 10 of 70 matrices unchanged")
        assert "60 moved" in many._repr_html_()
        many.save(tmp_path / "d.csv")
        lines = (tmp_path / "d.csv").read_text().splitlines()
        assert len(lines) == 71
        assert lines[0].startswith("name,name_before,rows_before,columns_before,rows,columns,")
        with pytest.raises(UsageError):
            many.save(tmp_path / "d.txt")
        with pytest.raises(OutputFailed):
            many.save(tmp_path / "nowhere" / "d.csv")
