"""Parquet: what pyarrow, Polars' own reader and pandas read is what the JSON document holds."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

import rankscope
from rankscope import frames, parquet
from rankscope.errors import OutputFailed
from rankscope.how import How
from rankscope.views import parquet as view
from rankscope.views import save
from rankscope.views.report import Report
from tests.documents import Document, documents, model, parts, same, sweep

Rows = list[dict[str, Any]]

MAIN = ("matrices", "rows", "pairs", "findings")  # what a document's own table is of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Document]:
    return documents(tmp_path_factory.mktemp("documents"))


def report(document: Document) -> Report:
    """A report of any document."""
    part = next(key for key in MAIN if key in parts(document) or document.get(key) == [])
    return Report("", lambda _: [], lambda _: [], lambda: document, lambda: ([], []), part)


def by_pyarrow(data: bytes) -> Rows:
    rows: Rows = pq.read_table(io.BytesIO(data)).to_pylist()
    return rows


def by_polars(data: bytes) -> Rows:
    return pl.read_parquet(io.BytesIO(data), use_pyarrow=False).to_dicts()


def by_pandas(data: bytes) -> Rows:
    """Lists come as arrays, what is missing as NaN."""
    frame = pd.read_parquet(io.BytesIO(data), dtype_backend="numpy_nullable")
    plain = [
        {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]
    return [
        {k: v if isinstance(v, list) or not pd.isna(v) else None for k, v in row.items()}
        for row in plain
    ]


@pytest.mark.parametrize("read", [by_pyarrow, by_polars, by_pandas])
def test_every_row_is_the_documents(
    made: Mapping[str, Document], read: Callable[[bytes], Rows]
) -> None:
    for name, document in made.items():
        shown = report(document)
        rows = read(view.render(shown))
        expected = document[shown.part]
        mixed = {c.name for c in frames.frame(document, shown.part).columns if c.kind == "json"}
        assert len(rows) == len(expected)
        for row, one in zip(rows, expected, strict=True):
            plain = {k: json.loads(v) if k in mixed and v else v for k, v in row.items()}
            same(plain, one, name)


def test_the_rest_of_the_document_is_in_the_metadata(made: Mapping[str, Document]) -> None:
    for document in made.values():
        shown = report(document)
        metadata = pq.read_schema(io.BytesIO(view.render(shown))).metadata
        assert set(metadata) == {b"rankscope"}
        told = json.loads(metadata[b"rankscope"])
        assert told["schema"] == document["schema"]
        rest = {key: value for key, value in document.items() if key != shown.part}
        assert told == json.loads(json.dumps(rest))
        assert json.loads(json.dumps(told | {shown.part: document[shown.part]})) == json.loads(
            json.dumps(document)
        )


def test_types_are_those_of_the_frame(made: Mapping[str, Document]) -> None:
    """A column of which every value is null has its type too, so that files go together."""
    for name, document in made.items():
        shown = report(document)
        found = pl.read_parquet(io.BytesIO(view.render(shown)))
        assert found.schema == frames.to_polars(frames.frame(document, shown.part)).schema, name
        assert pl.Null not in found.dtypes
    names = ("model", "nothing", "run", "sweep")
    tables = [pq.read_table(io.BytesIO(view.render(report(made[name])))) for name in names]
    steps = {table.schema.field("step").type for table in tables}
    assert len(steps) == 1
    assert tables[1].num_rows == 0


class TestFiles:
    def test_an_analysis_is_saved(self, tmp_path: Path) -> None:
        found = sweep(tmp_path / "sweep")
        target = tmp_path / "out.PARQUET"
        target.write_bytes(b"old")
        found.save(target)
        assert pl.read_parquet(target).equals(found.to_polars())
        assert target.stat().st_mode & 0o777 == 0o666 & ~umask()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.PARQUET", "sweep"]

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(OutputFailed):
            model().save(tmp_path / "none" / "out.parquet")

    def test_a_document_that_is_no_json_is_not_written(self, tmp_path: Path) -> None:
        target = tmp_path / "out.parquet"
        target.write_bytes(b"old")
        document = model().to_document() | {"provenance": {"eps": float("nan"), "columns": []}}
        with pytest.raises(ValueError, match="not JSON compliant"):
            save(report(document), target)
        assert target.read_bytes() == b"old"


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


FIELDS: parquet.Fields = (("name", "text"), ("sigma", "numbers"), ("step", "integer"))


class TestRowGroups:
    def test_rows_are_written_as_they_come(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parquet, "GROUP_VALUES", 50)
        monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
        rows = [(f"w{i}", np.full(i, i / 3), None if i % 2 else i) for i in range(20)]
        sizes = []
        with (tmp_path / "x").open("wb") as file:
            with parquet.RowGroups(file, FIELDS, {"schema": "x"}) as groups:
                for row in rows:
                    groups.append(row)
                    sizes.append(file.tell())
            assert not file.closed
        assert len(set(sizes)) > 4  # most is in the file before the last row comes
        found = pq.ParquetFile(tmp_path / "x")
        counts = [found.metadata.row_group(i).num_rows for i in range(found.num_row_groups)]
        assert sum(counts) == 20
        assert counts == [4, 4, 4, 4, 3, 1]
        expected = [{"name": n, "sigma": s.tolist(), "step": step} for n, s, step in rows]
        assert found.read().to_pylist() == expected
        assert pl.read_parquet(tmp_path / "x").to_dicts() == expected

    def test_no_rows_are_a_file_too(self, tmp_path: Path) -> None:
        with (tmp_path / "x").open("wb") as file, parquet.RowGroups(file, FIELDS, {}):
            pass
        found = pl.read_parquet(tmp_path / "x")
        assert found.shape == (0, 3)
        assert found.schema["sigma"] == pl.List(pl.Float64)

    @pytest.mark.parametrize("after", [0, 1, 30])
    def test_a_full_disk_is_an_error_of_the_file(self, after: int) -> None:
        class Full(io.BytesIO):
            def write(self, data: Any) -> int:
                if self.tell() > 10 * after:
                    raise OSError(28, "No space left on device")
                return super().write(data)

        def fill() -> None:
            with parquet.RowGroups(Full(), FIELDS, {"schema": "x"}) as groups:
                for i in range(100):
                    groups.append((f"w{i}", np.arange(500.0), i))

        with pytest.raises(OSError, match="No space left"):
            fill()

    def test_an_error_of_the_caller_is_the_one_that_is_raised(self) -> None:
        def fail() -> None:
            with parquet.RowGroups(io.BytesIO(), FIELDS, {}) as groups:
                groups.append(("w", np.ones(2), 1))
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            fail()


class TestSpectra:
    def test_hold_the_singular_values(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(1)
        arrays = {"a": rng.normal(size=(7, 4)), "b": rng.normal(size=(3, 3)), "z": np.zeros((2, 2))}
        path, target = tmp_path / "m.safetensors", tmp_path / "out.parquet"
        safetensors.numpy.save_file(arrays, path)
        how = How(store=False, workers=1, route="direct")
        assert rankscope.export_spectra(target, path, eps=[0.5, 0.1], how=how) == []
        found = pl.read_parquet(target)
        for row in found.iter_rows(named=True):
            matrix = arrays[row["name"]]
            sigma = np.linalg.svd(matrix, compute_uv=False)
            np.testing.assert_allclose(row["sigma"], sigma, rtol=1e-13, atol=1e-15)
            assert row["frobenius_norm"] == pytest.approx(np.linalg.norm(matrix))
            assert row["shape"] == list(matrix.shape)
            assert (row["source"], row["dtype"], row["route"]) == (str(path), "float64", "direct")
            if row["name"] == "z":
                assert row["spectral_entropy"] is row["head_mass@0.5"] is None
            else:
                head = sigma[sigma > 0.1 * np.linalg.norm(sigma)].sum() / sigma.sum()
                assert row["head_mass@0.1"] == pytest.approx(head)
        told = json.loads(pq.read_schema(target).metadata[b"rankscope"])
        assert (told["schema"], told["norm"]) == ("rankscope/spectra/1", "frobenius")
        assert told["provenance"]["rankscope"] == rankscope.__version__

    def test_text_is_kept_but_for_what_is_none(self, tmp_path: Path) -> None:
        names = ("a\0b", "<b>\x1b[31m", "=1+1")
        path, target = tmp_path / os.fsdecode(b"w\x80.safetensors"), tmp_path / "out.parquet"
        safetensors.numpy.save_file(dict.fromkeys(names, np.eye(2)), tmp_path / "w")
        (tmp_path / "w").rename(path)
        rankscope.export_spectra(target, path, how=How(store=False, workers=1))
        found = pl.read_parquet(target)
        assert set(found["name"].to_list()) == set(names)
        assert set(found["source"].to_list()) == {f"{tmp_path}/w\\udc80.safetensors"}
        rankscope.analyze(path, how=How(store=False)).save(target)
        assert set(pl.read_parquet(target)["source"].to_list()) == set(found["source"].to_list())
        told = json.loads(pq.read_schema(target).metadata[b"rankscope"])
        assert told["provenance"]["sources"][0]["path"] == str(path)
