"""Frames hold what the JSON document holds, each column of one type: pandas and Polars read it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import rankscope
from rankscope import frames
from rankscope.errors import UsageError
from tests.documents import Document, changed, documents, parts, run, same, sweep
from tests.views.test_views import HOSTILE, table


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Document]:
    return documents(tmp_path_factory.mktemp("documents"))


def in_polars(found: frames.Frame) -> list[dict[str, Any]]:
    """Rows of a data frame; what has no type is read from its JSON."""
    mixed = {column.name for column in found.columns if column.kind == "json"}
    return [
        {k: json.loads(v) if k in mixed and v is not None else v for k, v in row.items()}
        for row in frames.to_polars(found).to_dicts()
    ]


def in_pandas(found: frames.Frame) -> list[dict[str, Any]]:
    """Rows of a data frame; what pandas takes for missing is None again."""
    frame = frames.to_pandas(found)
    return [
        {k: v if isinstance(v, dict | list) or not pd.isna(v) else None for k, v in row.items()}
        for row in frame.to_dict("records")
    ]


@pytest.mark.parametrize("read", [in_polars, in_pandas])
def test_every_row_is_the_documents(
    made: Mapping[str, Document],
    read: Callable[[frames.Frame], list[dict[str, Any]]],
) -> None:
    for name, document in made.items():
        assert parts(document) or name == "nothing"
        for part in parts(document):
            rows = read(frames.frame(document, part))
            assert len(rows) == len(document[part])
            for row, expected in zip(rows, document[part], strict=True):
                same(row, expected, f"{name}, {part}")


def test_integers_stay_integers(made: Mapping[str, Document]) -> None:
    """A matrix without a rank makes nobody's rank a float."""
    found = frames.frame(made["model"], "matrices")
    ranks = [row["rank@0.1"] for row in made["model"]["matrices"]]
    assert None in ranks
    polars, pandas = frames.to_polars(found), frames.to_pandas(found)
    assert polars.schema["rank@0.1"] == pl.Int64
    assert polars["rank@0.1"].to_list() == ranks
    assert pandas["rank@0.1"].dtype == pd.Int64Dtype()
    assert pandas["rank@0.1"].dropna().tolist() == [rank for rank in ranks if rank is not None]
    assert pandas["averaged"].dtype == pd.BooleanDtype()
    complete = frames.to_pandas(frames.frame(made["run"], "matrices"))
    assert complete["rank"].dtype == np.int64
    assert complete["step"].dtype == np.int64
    assert complete["averaged"].dtype == np.bool_


def test_types_are_those_of_the_keys_whatever_is_missing(made: Mapping[str, Document]) -> None:
    """Frames of several analyses go below each other: the same columns have the same types."""
    names = ("model", "nothing", "run", "no bound", "sweep", "a run as a file has it")
    for part in ("matrices", "summary"):
        found = [frames.to_polars(frames.frame(made[name], part)) for name in names]
        joined = pl.concat(found, how="diagonal")  # refuses two types for one name
        assert len(joined) == sum(len(made[name][part]) for name in names)
        assert pl.Null not in joined.dtypes
        assert pl.Object not in joined.dtypes


def test_types(made: Mapping[str, Document]) -> None:
    schema = dict(frames.to_polars(frames.frame(made["run"], "matrices")).schema)
    text = ("name", "dtype", "kind", "role", "status", "route", "notes", "content", "source")
    integers = ("step", "depth", "rank", "bound_exact", "bound_measured")
    assert schema == {
        **dict.fromkeys(text, pl.String),
        **dict.fromkeys(integers, pl.Int64),
        **dict.fromkeys(("norm_ratio", "bound_closed"), pl.Float64),
        **dict.fromkeys(("averaged", "vacuous"), pl.Boolean),
        "shape": pl.List(pl.Int64),
    }
    means = frames.to_polars(frames.frame(made["run"], "summary")).schema
    assert [means[key] for key in ("matrices", "averaged", "missing")] == [pl.Int64] * 3
    floats = ("rank", "vacuous", "bound_exact", "epoch", "train_loss", "test_accuracy")
    assert [means[key] for key in floats] == [pl.Float64] * len(floats)
    trends = frames.to_polars(frames.frame(made["sweep"], "trends")).schema
    assert trends["levels"] == trends["means"] == pl.List(pl.Float64)
    assert trends["fixed"] == pl.String
    moved = frames.to_polars(frames.frame(made["diff"], "matrices")).schema
    ranks = ("rank_before", "rank", "rank_change", "delta_rank", "delta_numerical_rank")
    assert [moved[key] for key in ranks] == [pl.Int64] * len(ranks)
    assert moved["effective_rank_change"] == moved["delta_noise"] == pl.Float64
    assert moved["shape_before"] == pl.List(pl.Int64)
    pairs = frames.to_polars(frames.frame(made["certificate"], "pairs")).schema
    assert pairs["allowed_rank"] == pairs["n"] == pl.Int64
    assert pairs["holds"] == pl.Boolean


def test_every_key_has_a_kind(made: Mapping[str, Document]) -> None:
    """What a document of today holds is not guessed; and nothing is declared that is not there."""
    rows = [row for one in made.values() for part in parts(one) for row in one[part]]
    seen = {key for row in rows for key in row}
    for name in made.keys() - {"made up", "hostile runs", "version 0.1"}:
        document = made[name]
        for part in parts(document):
            for column in frames.frame(document, part).columns:
                said = frames.kind_of(part, column.name)
                known = [value for value in column.values if value is not None]
                fits = said == column.kind or (part, column.name) in UNSAID or not known
                assert fits, (name, part, column)
    assert set(frames.KINDS) - seen == set()


# Values of several kinds under one key, by the kind of the row.
UNSAID = {
    ("crossings", "head_mass"),
    ("skipped", "missing"),
    ("lacking", "missing"),
    ("findings", "before"),
    ("findings", "after"),
}


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([40, None], pl.Float64, [40.0, None]),
        ([40, 1.5], pl.Float64, [40.0, 1.5]),
        (["ok", "nonfinite"], pl.String, ["ok", "nonfinite"]),
        ([40, "ok", None], pl.String, ["40", '"ok"', None]),
        ([None], pl.Float64, [None]),
    ],
)
def test_what_a_finding_was_and_is(
    values: Sequence[Any], kind: Any, expected: Sequence[Any]
) -> None:
    document = {"schema": "x", "findings": [{"before": one, "after": one} for one in values]}
    found = frames.to_polars(frames.frame(document, "findings"))
    for key in ("before", "after"):
        assert found.schema[key] == kind
        assert found[key].to_list() == expected


def test_an_infinite_reading_is_missing_and_its_note_says_so(made: Mapping[str, Document]) -> None:
    found = frames.to_polars(frames.frame(made["model"], "matrices"))
    thin = found.row(by_predicate=pl.col("name") == "thin", named=True)
    assert thin["condition_number"] is None
    assert json.loads(thin["notes"])["condition_number"].startswith("infinite")
    zero = found.row(by_predicate=pl.col("name") == "zero", named=True)
    assert zero["effective_rank"] is None
    assert json.loads(zero["notes"])["effective_rank"].startswith("undefined")
    assert found["condition_number"].is_nan().sum() == 0


def test_a_value_that_is_no_number_is_not_missing() -> None:
    """JSON of other programs may have NaN, which is not null."""
    document = table("a", "b").to_document()
    document["matrices"][0]["effective_rank"] = float("nan")
    document["matrices"][1]["effective_rank"] = None
    column = frames.to_polars(frames.frame(document, "matrices"))["effective_rank"]
    assert column.is_nan().to_list() == [True, None]


def test_names_are_kept_as_they_are(made: Mapping[str, Document]) -> None:
    """A frame is data: only what UTF-8 cannot hold is escaped."""
    names = frames.to_polars(frames.frame(made["hostile"], "matrices"))["name"].to_list()
    kept = {name for case, name in HOSTILE.items() if case != "surrogate"}
    assert kept <= set(names)
    assert "w\\udc80" in names
    notes = frames.to_polars(frames.frame(made["hostile runs"], "matrices"))["notes"]
    assert all(json.loads(text) for text in notes)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2**63 - 1], pl.Int64, [1, 2**63 - 1]),
        ([1, 2**63], pl.Float64, [1.0, 2.0**63]),
        ([1, None, 2.5], pl.Float64, [1.0, None, 2.5]),
        ([True, None], pl.Boolean, [True, None]),
        ([True, 1], pl.String, ["true", "1"]),
        ([1, "x"], pl.String, ["1", '"x"']),
        ([10**400, 1], pl.String, [f"1{'0' * 400}", "1"]),
        ([{"a": 1}, None], pl.String, ['{"a": 1}', None]),
        ([[1], [2.5, 3]], pl.List(pl.Float64), [[1.0], [2.5, 3.0]]),
        ([[], None], pl.List(pl.Int64), [[], None]),
        ([["a\udc80"]], pl.List(pl.String), [["a\\udc80"]]),
        ([[{"b\udc80": "\udc80"}, 1]], pl.String, [r'[{"b\\udc80": "\\udc80"}, 1]']),
        ([None, None], pl.Float64, [None, None]),
    ],
)
def test_keys_that_nobody_knows_are_what_their_values_are(
    values: Sequence[Any], kind: Any, expected: Sequence[Any]
) -> None:
    """A log may say anything of a step."""
    document = {"schema": "x", "summary": [{"mine": value} for value in values]}
    column = frames.to_polars(frames.frame(document, "summary"))["mine"]
    assert column.dtype == kind
    assert column.to_list() == expected
    assert len(frames.to_pandas(frames.frame(document, "summary"))) == len(values)


def test_a_key_that_says_otherwise_than_its_values_gives_way() -> None:
    document = table("a", "b").to_document()
    document["matrices"][0] |= {"rank": 2.5, "depth": "deep", "step": 2**70}
    found = frames.to_polars(frames.frame(document, "matrices"))
    assert found["rank"].to_list() == [2.5, 3.0]
    assert found["depth"].to_list() == ["deep", None]
    assert found["step"].to_list() == [2.0**70, None]


def test_without_rows_the_columns_are_there(made: Mapping[str, Document]) -> None:
    document = made["nothing"]
    assert document["matrices"] == []
    full = rankscope.analyze({"w": np.eye(2)})
    for frame in (full.to_polars(), full.to_pandas()):
        empty = frames.frame(document, "matrices")
        same_kind = frames.to_polars if isinstance(frame, pl.DataFrame) else frames.to_pandas
        assert list(same_kind(empty).columns) == list(frame.columns)
        assert len(same_kind(empty)) == 0
    assert frames.to_polars(frames.frame(document, "matrices")).schema == full.to_polars().schema


class TestResults:
    def test_the_default_rows_and_others(self, tmp_path: Path) -> None:
        found = sweep(tmp_path / "sweep")
        assert found.to_polars().height == len(found.matrices)
        for part in ("matrices", "summary", "runs", "trends", "crossings", "skipped"):
            rows = getattr(found, part)
            assert found.to_polars(part).height == len(found.to_pandas(part)) == len(rows)
        difference = changed(tmp_path / "diff")
        assert difference.to_pandas()["name"].tolist() == [
            row["name"] for row in difference.matrices
        ]
        assert difference.to_polars("removed")["name"].to_list() == ["gone"]
        run(tmp_path / "run")
        proof = rankscope.certify(tmp_path / "run")
        assert proof.to_pandas()["holds"].tolist() == [row["holds"] for row in proof.pairs]
        assert proof.to_polars("summary")["name"].to_list() == ["a.weight", "b"]
        check = rankscope.check({"w": np.zeros((2, 2))}, rules=["rank >= 1"])
        assert check.to_polars()["metric"].to_list() == ["rank"]
        assert check.to_polars().schema["after"] == pl.Float64
        assert check.to_polars()["after"].to_list() == [0]
        assert check.to_pandas()["after"].tolist() == [0]

    @pytest.mark.parametrize("rows", ["nothing", "provenance", "Matrices"])
    def test_rows_that_are_not_there(self, rows: str) -> None:
        found = rankscope.analyze({"w": np.eye(2)})
        for make in (found.to_pandas, found.to_polars):
            with pytest.raises(UsageError, match="expected one of matrices, skipped, summary"):
                make(rows)

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_a_library_that_is_missing_is_named(
        self, library: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = rankscope.analyze({"w": np.eye(2)})
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(UsageError, match=rf"{library}.*pip install 'rankscope\[{library}\]'"):
            getattr(found, f"to_{library}")()

    def test_a_frame_of_the_document_simply_works(self, tmp_path: Path) -> None:
        document = run(tmp_path / "run").to_document()
        frame = pd.DataFrame(document["matrices"])
        assert frame.groupby("step")["rank"].mean().tolist() == [3.0, 3.0, 3.0]
        typed = frames.to_pandas(frames.frame(document, "matrices"))
        assert list(typed.columns) == list(frame.columns)
        assert typed.groupby("step")["rank"].mean().tolist() == [3.0, 3.0, 3.0]


class TestLoad:
    def test_what_was_saved_is_read_back(self, tmp_path: Path) -> None:
        found = run(tmp_path / "run")
        found.save(tmp_path / "out.json")
        for path in (tmp_path / "out.json", str(tmp_path / "out.json")):
            again = rankscope.Analysis.load(path)
            assert again == found
            assert type(again) is rankscope.Analysis
            assert str(again) == str(found)
            pd.testing.assert_frame_equal(again.to_pandas(), found.to_pandas())

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "cannot be opened"),
            (b"", "is not JSON"),
            (b"\xff", "is not JSON"),
            (b"[" * 100_000, "nested too deeply"),
            (b"{}", "schema is None, expected 'rankscope/analysis/1'"),
            (b'{"schema": "rankscope/analysis/1"}', "is not a whole analysis"),
        ],
    )
    def test_what_is_no_analysis(self, tmp_path: Path, content: bytes | None, said: str) -> None:
        path = tmp_path / "out.json"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(rankscope.InputRejected, match=said):
            rankscope.Analysis.load(path)
