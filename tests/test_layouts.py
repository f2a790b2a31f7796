"""docs/python.md as the only guide: what it says of each layout is what is in the files.

The readers below know h5py, pyarrow, Polars and pandas, and of RankScope the page alone.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

import rankscope
from rankscope.how import How
from tests.rundirs import Array, diagonal, write_run

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text("utf-8")

NAMES = ("a/b", "step", ".", "100%", "%2F", "plain.weight")

EPS = (0.5, 0.1)


def rows(heading: str, first: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head, that has such a column."""
    text = re.split(rf"^#+ {heading}$", PAGE, maxsplit=1, flags=re.MULTILINE)[1]
    lines = text[text.index(f"| {first} |") :].splitlines()
    table = [line for i, line in enumerate(lines) if all(one[:1] == "|" for one in lines[: i + 1])]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def named(cell: str, levels: tuple[float, ...]) -> list[str]:
    """The names in a cell; `key@eps` is one for each of several."""
    words = re.findall(r"`([^`]+)`", cell)
    if len(words) == 1:
        return words
    assert words[1] == f"{words[0]}@eps"
    return [f"{words[0]}@{eps:g}" for eps in levels] if len(levels) > 1 else words[:1]


@dataclass(frozen=True)
class Read:
    """A spectrum as a file tells it."""

    sigma: Array
    readings: Mapping[str, float]


Key = tuple[str, str, int | None]  # source, name, step


def from_hdf5(path: Path, levels: tuple[float, ...]) -> dict[Key, Read]:
    """What the page says of HDF5, read by h5py."""
    datasets = {name for cell, _ in rows("HDF5", "dataset") for name in named(cell, levels)}
    found: dict[Key, Read] = {}
    with h5py.File(path) as file:
        assert set(file.attrs) == {"schema", "norm"}
        assert list(file) == [str(i) for i in range(len(file))]
        for source in file.values():
            assert set(source.attrs) == {"source"}
            steps = [None if step == -1 else int(step) for step in source["step"]]
            for group_name in set(source) - {"step"}:
                group = source[group_name]
                assert set(group.attrs) == {"name", "shape"}
                assert set(group) == datasets
                assert {one.dtype for one in group.values()} == {np.dtype("f8")}
                assert unescaped(group_name) == group.attrs["name"]
                for i, step in enumerate(steps):
                    sigma = group["sigma"][i]
                    sigma = sigma[~np.isnan(sigma)]
                    if not len(sigma):
                        continue
                    others = {name: float(group[name][i]) for name in datasets - {"sigma"}}
                    key = (source.attrs["source"], group.attrs["name"], step)
                    assert len(sigma) <= min(group.attrs["shape"])
                    found[key] = Read(sigma, others)
    return found


def unescaped(name: str) -> str:
    """The name of a group as that of a matrix."""
    if name[:1] == "%" and name[1:] in ("step", ".", ""):
        return name[1:]
    return re.sub("%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), name)


def from_parquet(path: Path, levels: tuple[float, ...]) -> dict[Key, Read]:
    """What the page says of Parquet, read by Polars; names and types as pyarrow sees them."""
    said = {
        name: kind.strip("`")
        for cell, kind, _ in rows("Parquet", "column")
        for name in named(cell, levels)
    }
    schema = pq.read_schema(path)
    types = [str(field.type).replace("element: ", "") for field in schema]
    assert dict(zip(schema.names, types, strict=True)) == said
    told = json.loads(schema.metadata[b"rankscope"])
    assert set(told) == {"schema", "norm", "provenance"}
    readings = [name for name, kind in said.items() if name == "crossing" or kind == "double"]
    return {
        (row["source"], row["name"], row["step"]): Read(
            np.array(row["sigma"]),
            {name: np.nan if row[name] is None else row[name] for name in readings},
        )
        for row in pl.read_parquet(path).iter_rows(named=True)
    }


def from_csv(path: Path) -> dict[Key, Array]:
    """What the page says of CSV."""
    head = re.findall(r"`(\w+)`", PAGE[PAGE.index("CSV has a line a singular value") :])[:6]
    found: dict[Key, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == head
        for line in reader:
            step = int(line["step"]) if line["step"] else None
            values = found.setdefault((line["source"], line["name"], step), [])
            assert int(line["index"]) == len(values)
            values.append(float(line["sigma"]))
    return {key: np.array(values) for key, values in found.items()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run whose spectra cross and of which one cannot be measured, and a single file."""
    folder = tmp_path_factory.mktemp("sources")
    saved = {
        step: {
            name: diagonal([4.0 + i, 3.0, 2.0 / (1 + step), 0.5]) for i, name in enumerate(NAMES)
        }
        for step in (0, 3, 10)
    }
    saved[3]["plain.weight"] = np.full((4, 4), np.nan)
    saved[10]["100%"] = np.zeros((4, 4))
    one = folder / "single.safetensors"
    safetensors.numpy.save_file({"w": np.random.default_rng(0).normal(size=(5, 3))}, one)
    return write_run(folder / "run", saved), one


@pytest.mark.parametrize("levels", [EPS, EPS[:1]])
def test_every_layout_of_spectra_is_as_the_page_says(
    sources: tuple[Path, Path], tmp_path: Path, levels: tuple[float, ...]
) -> None:
    how = How(store=False, workers=1)
    files = {suffix: tmp_path / f"out{suffix}" for suffix in (".csv", ".h5", ".parquet")}
    for file in files.values():
        rankscope.export_spectra(file, *sources, eps=levels, how=how)
    hdf5 = from_hdf5(files[".h5"], levels)
    parquet = from_parquet(files[".parquet"], levels)
    plain = from_csv(files[".csv"])
    assert hdf5.keys() == parquet.keys() == plain.keys()
    assert len(hdf5) == 3 * len(NAMES) - 1 + 1
    for key, one in parquet.items():
        np.testing.assert_array_equal(one.sigma, hdf5[key].sigma)
        np.testing.assert_array_equal(one.sigma, plain[key])
        np.testing.assert_equal(dict(one.readings), dict(hdf5[key].readings))
    assert any(one.readings["crossing"] == 2 for one in parquet.values())


def test_what_the_page_says_the_readings_are(sources: tuple[Path, Path], tmp_path: Path) -> None:
    """By its own words, from the singular values."""
    rankscope.export_spectra(
        tmp_path / "out.h5", *sources, eps=EPS, how=How(store=False, workers=1)
    )
    for one in from_hdf5(tmp_path / "out.h5", EPS).values():
        norm, total = np.sqrt((one.sigma**2).sum()), one.sigma.sum()
        assert one.readings["frobenius_norm"] == pytest.approx(norm)
        if not total:
            continue
        p = one.sigma[one.sigma > 0] / total
        assert one.readings["spectral_entropy"] == pytest.approx(-(p * np.log(p)).sum())
        for eps in EPS:
            head = one.sigma[one.sigma > eps * norm].sum() / total
            assert one.readings[f"head_mass@{eps:g}"] == pytest.approx(head)


def test_the_types_of_frames_are_as_the_page_says(sources: tuple[Path, Path]) -> None:
    """A column of each kind, in pandas, Polars and Parquet."""
    columns = {
        "text": "name",
        "integer": "rank",
        "number": "effective_rank",
        "true, false": "vacuous",
        "list of these: `shape`": "shape",
        "object: `notes`": "notes",
    }
    analysis = rankscope.analyze(sources[0], how=How(store=False, workers=1))
    assert any(row["rank"] is None for row in analysis.matrices)
    polars, pandas = analysis.to_polars(), analysis.to_pandas()
    whole = analysis.to_pandas("summary")
    table = rows("Data frames", "in JSON")
    assert [line[0] for line in table] == list(columns)
    for (_, in_pandas, in_polars, in_parquet), key in zip(table, columns.values(), strict=True):
        words = re.findall(r"`([^`]+)`", in_pandas)
        if words:
            assert str(pandas[key].dtype) == (words[1] if key in ("rank", "vacuous") else words[0])
        else:
            assert pandas[key].dtype == object
        assert re.findall(r"`([^`]+)`", in_polars)[-1] == str(polars.schema[key]).partition("(")[0]
        arrow = str(polars.to_arrow().schema.field(key).type).partition("<")[0]
        assert re.findall(r"`([^`]+)`", in_parquet)[-1] == arrow.removeprefix("large_")
    assert str(whole["matrices"].dtype) == "int64"
    assert isinstance(pandas["notes"][0], dict)
    assert isinstance(pandas["shape"][0], list)


def test_the_lines_of_the_page_run(
    sources: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those about frames and files, with a table and files of the names that they use."""
    monkeypatch.chdir(tmp_path)
    table = rankscope.analyze(sources[0], how=How(store=False, workers=1))
    for name in ("out.json", "out.parquet"):
        table.save(name)
    rankscope.export_spectra("spectra.parquet", sources[0], how=How(store=False, workers=1))
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    words = ('to_polars("', "read_schema", "read_parquet")
    chosen = [one for one in blocks if any(word in one for word in words)]
    assert len(chosen) == 3
    for block in chosen:
        exec(compile(block, "docs/python.md", "exec"), {"table": table, "rankscope": rankscope})
    assert rankscope.Analysis.load("out.json") == table
    assert isinstance(table.to_pandas(), pd.DataFrame)
