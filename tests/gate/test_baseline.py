"""The baseline's file: stable, readable as a difference, and refused when it is not whole."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rankscope
from rankscope.answering import RouteChoice
from rankscope.errors import InputRejected
from rankscope.gate.baseline import (
    METRICS,
    Baseline,
    noted,
    read_baseline,
    rounded,
    to_text,
)
from rankscope.how import How
from rankscope.matrices import Selection
from rankscope.question import Question
from rankscope.rows import Row
from tests.gate import models

NO_STORE = How(store=False)
HOSTILE = "w\x1b[31m\n::error::\"'</script>\u202e\ud7ff é"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save(tmp_path_factory.mktemp("released") / "v1", models.model())


def kept(released: Path, **more: Any) -> Baseline:
    return rankscope.baseline(released, how=NO_STORE, **more)


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "ranks.json"
    path.write_text(json.dumps(document))
    return path


class TestFile:
    def test_reads_back_as_itself(self, tmp_path: Path, released: Path) -> None:
        selection = Selection(("*proj*",), ("*down*",))
        one = kept(released, eps=(0.1, 0.001), norm="spectral", selection=selection)
        rankscope.write_baseline(one, tmp_path / "ranks.json")
        other = read_baseline(tmp_path / "ranks.json")
        assert to_text(other) == to_text(one)
        assert other.question == one.question
        assert other.selection == selection
        row = other.matrices[models.VALUE]
        assert (row["shape"], row["dtype"], row["kind"]) == ([64, 64], "float32", "linear")
        assert {"rank@0.1", "rank@0.001"} <= row.keys()

    def test_is_json_with_sorted_keys_and_ends_in_a_line(self, released: Path) -> None:
        text = to_text(kept(released))
        document = json.loads(text)
        assert text.endswith("}\n")
        assert list(document) == sorted(document)
        assert list(document["matrices"]) == sorted(document["matrices"])
        for row in document["matrices"].values():
            assert list(row) == sorted(row)

    def test_a_changed_matrix_is_a_changed_line(self, tmp_path: Path, released: Path) -> None:
        weights = models.model()
        weights[models.UP] = 2 * weights[models.UP]
        other = models.save(tmp_path / "v2", weights)
        before, after = (to_text(kept(path)).splitlines() for path in (released, other))
        changes = [
            line
            for line in difflib.unified_diff(before, after, n=0, lineterm="")
            if line[0] in "+-" and line[:3] not in ("+++", "---")
        ]
        assert len(changes) == 2
        assert all(models.UP in line for line in changes)

    def test_numbers_do_not_depend_on_who_computes_them(self, released: Path) -> None:
        """Threads, routes and a rotation in the last bits leave every digit of it."""
        ways: list[tuple[int, RouteChoice]] = [(1, "auto"), (2, "auto"), (1, "direct")]
        texts = {
            to_text(
                rankscope.baseline(released, how=How(store=False, workers=workers, route=route))
            )
            for workers, route in ways
        }
        assert len(texts) == 1

    def test_is_small(self, released: Path) -> None:
        one = kept(released)
        assert len(to_text(one)) < 400 * len(one.matrices)

    def test_holds_no_time_and_no_path(self, released: Path) -> None:
        text = to_text(kept(released))
        assert str(released) not in text
        assert set(json.loads(text)) == {"matrices", "question", "schema", "vectors"}

    def test_hostile_names_come_back(self, tmp_path: Path) -> None:
        row: Row = {"content": None, "dtype": "float32", "kind": "linear", "shape": [2, 2]}
        row |= {"status": "ok", "rank": 2}
        one = Baseline(Question(("rank",)), Selection(), {HOSTILE: row})
        (tmp_path / "ranks.json").write_text(to_text(one))
        assert to_text(one).isascii()
        assert list(read_baseline(tmp_path / "ranks.json").matrices) == [HOSTILE]

    def test_of_nothing(self, tmp_path: Path) -> None:
        one = Baseline(Question(METRICS), Selection(), {})
        (tmp_path / "ranks.json").write_text(to_text(one))
        assert read_baseline(tmp_path / "ranks.json").matrices == {}


class TestRounding:
    def test_six_digits(self) -> None:
        assert rounded(123.456789) == 123.457
        assert rounded(1.23456789e-9) == 1.23457e-9
        assert rounded(123456789) == 123456789  # a count is exact
        assert rounded(None) is None

    def test_is_idempotent(self) -> None:
        for value in np.random.default_rng(0).lognormal(0, 20, 1000):
            assert rounded(rounded(float(value))) == rounded(float(value))

    def test_notes_facts_and_columns_only(self) -> None:
        facts: Row = {"content": "c", "dtype": "d", "kind": "k", "shape": [1, 1], "status": "ok"}
        row: Row = {"name": "w", **facts, "rank": 1, "route": "gram", "notes": {}, "step": None}
        assert noted(row, ["rank"]) == {**facts, "rank": 1}


class TestRefused:
    def document(self, released: Path) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(to_text(kept(released)))
        return document

    def test_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputRejected, match="no such file; write it with `rankscope baseline MODEL -o FILE`"
        ):
            read_baseline(tmp_path / "ranks.json")

    @pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"schema": 3}', "[" * 100_000])
    def test_no_baseline(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "ranks.json"
        path.write_text(text)
        with pytest.raises(InputRejected, match=r"ranks\.json"):
            read_baseline(path)

    def test_another_version_tells_what_to_do(self, tmp_path: Path) -> None:
        path = written(tmp_path, {"schema": "rankscope/baseline/9"})
        with pytest.raises(InputRejected, match="write it with `rankscope baseline MODEL -o FILE`"):
            read_baseline(path)

    def test_an_analysis_is_no_baseline(self, tmp_path: Path, released: Path) -> None:
        rankscope.analyze(released, how=NO_STORE).save(tmp_path / "ranks.json")
        with pytest.raises(InputRejected, match="expected 'rankscope/baseline/1'"):
            read_baseline(tmp_path / "ranks.json")

    def test_a_name_twice(self, tmp_path: Path, released: Path) -> None:
        text = to_text(kept(released)).replace(models.UP, models.VALUE)
        (tmp_path / "ranks.json").write_text(text)
        with pytest.raises(InputRejected, match="stands twice"):
            read_baseline(tmp_path / "ranks.json")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("rank", "3"), ("rank", True), ("rank", [3]), ("effective_rank", float("nan"))),
            *(("shape", [3]), ("shape", [3, -1]), ("shape", "3x3"), ("shape", [3.5, 1])),
            *(("dtype", None), ("dtype", 32), ("status", None), ("content", 5)),
        ],
    )
    def test_a_wrong_value(self, tmp_path: Path, released: Path, key: str, value: object) -> None:
        document = self.document(released)
        document["matrices"][models.UP][key] = value
        with pytest.raises(InputRejected, match=rf"{models.UP}\.{key} is .*, expected"):
            read_baseline(written(tmp_path, document))

    def test_a_reading_left_out(self, tmp_path: Path, released: Path) -> None:
        document = self.document(released)
        del document["matrices"][models.UP]["rank"]
        with pytest.raises(InputRejected, match=r"rank is missing, expected a number or null"):
            read_baseline(written(tmp_path, document))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("eps", [-1.0]), ("eps", ["1"]), ("eps", []), ("norm", "max"), ("norm", 3)),
            *(("metrics", ["no_such"]), ("metrics", "rank"), ("include", "w")),
        ],
    )
    def test_a_question_that_makes_no_sense(
        self, tmp_path: Path, released: Path, key: str, value: object
    ) -> None:
        document = self.document(released)
        document["question"][key] = value
        with pytest.raises(InputRejected, match=r"ranks\.json: question"):
            read_baseline(written(tmp_path, document))
