"""`--spectra`: what stands in the files is what NumPy computes from the saved matrices."""

from __future__ import annotations

import csv
import gc
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from rankscope import analyze
from rankscope.api import export_spectra
from rankscope.errors import OutputFailed, UsageError
from rankscope.how import How
from rankscope.measure import Measured, measure
from rankscope.metrics.thresholded import Norm
from rankscope.records import Spectrum
from rankscope.spectra import SCHEMA
from rankscope.spectra.csv import HEAD
from rankscope.spectra.hdf5 import escaped
from rankscope.writing import atomic_path
from tests.rundirs import Array, Recipe, diagonal, write_run

NAMES = ("encoder/layer.0", "step", ".", "..", "%2F", "a%b", "weight.é", "x" * 300, "a\0b")


def still(*paths: Path, target: Path, **options: Any) -> list[str]:
    """An export that keeps no store."""
    return export_spectra(target, *paths, how=How(store=False, workers=1), **options)


def sigma(matrix: Array) -> Array:
    found: Array = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    return found


@pytest.fixture
def saved() -> dict[int, dict[str, Array]]:
    rng = np.random.default_rng(0)
    return {
        step: {
            "wide": rng.normal(size=(4, 9)),
            "tall": rng.normal(size=(12, 3)) * 1e-3,
            "low": rng.normal(size=(8, 2)) @ rng.normal(size=(2, 8)),
        }
        for step in (0, 5, 100)
    }


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("norm", ["frobenius", "spectral", "none"])
def test_csv_holds_the_singular_values(
    tmp_path: Path, saved: dict[int, dict[str, Array]], norm: Norm
) -> None:
    run = write_run(tmp_path / "run", saved)
    target = tmp_path / "out.csv"
    assert still(run, target=target, norm=norm) == []
    found = lines(target)
    assert tuple(found[0]) == HEAD
    # One line a value, in the order of step, matrix and size.
    places = [(line["step"], line["name"], line["index"]) for line in found]
    names = [row["name"] for row in analyze(run, how=How(store=False)).matrices[:3]]
    assert places == [
        (str(step), name, str(index))
        for step, arrays in saved.items()
        for name in names
        for index in range(min(arrays[name].shape))
    ]
    for step, arrays in saved.items():
        for name, matrix in arrays.items():
            own = [line for line in found if (line["step"], line["name"]) == (str(step), name)]
            values = sigma(matrix)
            scale = {"frobenius": np.linalg.norm(matrix), "spectral": values[0], "none": 1.0}[norm]
            # A Gram spectrum resolves sqrt(k u) of the largest value, about 1e-7 here.
            wide = values[0] * math.sqrt(9 * 2.0**-53)
            assert [float(line["sigma"]) for line in own] == pytest.approx(values, abs=wide)
            shares = [float(line["share"]) for line in own]
            assert shares == pytest.approx(values / scale, abs=wide / scale)
    assert {line["source"] for line in found} == {str(run)}


def test_hdf5_holds_the_same_and_readings(
    tmp_path: Path, saved: dict[int, dict[str, Array]]
) -> None:
    saved[5]["tall"] = np.zeros((12, 3))
    run = write_run(tmp_path / "run", saved)
    target = tmp_path / "out.h5"
    assert still(run, target=target, eps=[0.5, 0.01]) == []
    with h5py.File(target) as file:
        assert file.attrs["schema"] == SCHEMA
        assert file.attrs["norm"] == "frobenius"
        assert file["0"].attrs["source"] == str(run)
        assert list(file["0/step"]) == [0, 5, 100]
        for name in saved[0]:
            group = file["0"][name]
            assert group.attrs["name"] == name
            assert tuple(group.attrs["shape"]) == saved[0][name].shape
            for row, arrays in enumerate(saved.values()):
                values = sigma(arrays[name])
                wide = values[0] * math.sqrt(9 * 2.0**-53)
                np.testing.assert_allclose(group["sigma"][row], values, rtol=0, atol=wide)
                assert group["frobenius_norm"][row] == pytest.approx(np.linalg.norm(arrays[name]))
                check_readings(group, row, values)


def check_readings(group: Any, row: int, values: Array) -> None:
    """Entropy and mass of the head, from NumPy's values; NaN for a zero matrix."""
    if values[0] == 0:
        assert math.isnan(group["spectral_entropy"][row])
        assert math.isnan(group["head_mass@0.5"][row])
        return
    p = values / values.sum()
    p = p[p > 1e-12]
    entropy = float(-(p * np.log(p)).sum())
    found = float(group["spectral_entropy"][row])
    k = len(values)
    assert found == pytest.approx(entropy, abs=1e-6) or found == pytest.approx(
        entropy / math.log(k), abs=1e-6
    )
    for eps in (0.5, 0.01):
        head = values[values > eps * np.sqrt((values**2).sum())].sum() / values.sum()
        assert group[f"head_mass@{eps}"][row] == pytest.approx(head, abs=1e-6)


def test_the_crossing_is_with_the_first_snapshot(tmp_path: Path) -> None:
    saved = {
        0: {"a": diagonal([4.0, 3.0, 2.0, 1.0])},
        1: {"a": diagonal([8.0, 6.0, 0.2, 0.1])},  # larger before 2, smaller from it on
        2: {"a": diagonal([8.0, 6.0, 4.0, 2.0])},  # the same shares: nothing crosses
    }
    for arrays in saved.values():
        arrays["b"] = diagonal([9.0, 3.0, 1.0, 0.5])  # crosses that of a, but not itself
    target = tmp_path / "out.h5"
    still(write_run(tmp_path / "run", saved), target=target)
    with h5py.File(target) as file:
        np.testing.assert_array_equal(file["0/a/crossing"], [np.nan, 2.0, np.nan])
        np.testing.assert_array_equal(file["0/b/crossing"], [np.nan] * 3)


def test_several_runs_are_groups_in_order(tmp_path: Path) -> None:
    for i in range(3):
        write_run(tmp_path / "sweep" / f"run-{i}", {i: {"a": np.eye(2) * (i + 1)}})
    still(tmp_path / "sweep", target=tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert [file[str(i)].attrs["source"] for i in range(3)] == [
            str(tmp_path / "sweep" / f"run-{i}") for i in range(3)
        ]
        assert [file[f"{i}/a/sigma"][0, 0] for i in range(3)] == [1.0, 2.0, 3.0]
    still(tmp_path / "sweep", target=tmp_path / "out.csv")
    assert [line["sigma"] for line in lines(tmp_path / "out.csv")] == [
        *("1.0", "1.0", "2.0", "2.0", "3.0", "3.0")
    ]


def test_what_has_no_spectrum_is_nan_and_said(tmp_path: Path) -> None:
    saved = {step: {"a": np.eye(3), "b": np.eye(2)} for step in (0, 1, 2)}
    saved[1]["a"] = np.full((3, 3), np.inf)
    run = write_run(tmp_path / "run", saved)
    (run / "snapshots" / "step-00000002.safetensors").write_bytes(b"damaged")
    for suffix in (".csv", ".h5", ".parquet"):
        target = tmp_path / f"out{suffix}"
        lacking = still(run, target=target)
        assert len(lacking) == 2
        assert any("step-00000002" in line for line in lacking)
        assert any(": a at step 1: " in line for line in lacking)
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file["0/step"]) == [0, 1]
        assert list(file["0/a/sigma"][0]) == [1.0, 1.0, 1.0]
        for key in ("sigma", "frobenius_norm", "crossing", "spectral_entropy", "head_mass"):
            assert np.isnan(file["0/a"][key][1]).all()
        assert not np.isnan(file["0/b/sigma"]).any()
    found = lines(tmp_path / "out.csv")
    assert {(line["name"], line["step"]) for line in found} == {("a", "0"), ("b", "0"), ("b", "1")}


def test_shards_that_are_missing_are_said(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    save_file({"a": np.eye(2)}, model / "model-00001-of-00002.safetensors")
    (model / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors",'
        ' "b": "model-00002-of-00002.safetensors"}}'
    )
    assert analyze(model, how=How(store=False)).incomplete
    lacking = still(model, target=tmp_path / "out.csv")
    assert len(lacking) == 1
    assert "model-00002-of-00002" in lacking[0]


def test_a_matrix_without_entries_lacks_nothing(tmp_path: Path) -> None:
    save_file({"a": np.zeros((0, 3)), "b": np.eye(2)}, tmp_path / "w.safetensors")
    for suffix in (".csv", ".h5", ".parquet"):
        assert still(tmp_path / "w.safetensors", target=tmp_path / f"out{suffix}") == []


def test_a_matrix_may_grow(tmp_path: Path) -> None:
    saved = {0: {"a": np.eye(2)}, 1: {"a": np.eye(4)}, 2: {"a": np.eye(3)}}
    still(write_run(tmp_path / "run", saved), target=tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        known = (~np.isnan(file["0/a/sigma"])).sum(axis=1)
        assert list(known) == [2, 4, 3]


def test_any_name_is_a_group_of_its_own(tmp_path: Path) -> None:
    arrays = {name: np.eye(2) * (i + 1) for i, name in enumerate(NAMES)}
    save_file(arrays, tmp_path / "w.safetensors")
    still(tmp_path / "w.safetensors", target=tmp_path / "out.h5")
    assert len({escaped(name) for name in NAMES}) == len(NAMES)
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file["0"]) == len(NAMES) + 1
        assert list(file["0/step"]) == [-1]
        assert {"encoder%2Flayer.0", "%step", "%."} <= set(file["0"])
        for i, name in enumerate(NAMES):
            group = file["0"][escaped(name)]
            assert group["sigma"][0, 0] == i + 1
            assert group.attrs["name"] == name.replace("\0", "\\x00")


def test_nothing_in_a_name_acts_in_csv(tmp_path: Path) -> None:
    hostile = {"=cmd()": np.eye(1), "a\x1b[31m\nb": np.eye(1), 'q",x': np.eye(1)}
    save_file(hostile, tmp_path / "w.safetensors")
    still(tmp_path / "w.safetensors", target=tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text()
    assert "\x1b" not in text
    names = {line["name"] for line in lines(tmp_path / "out.csv")}
    assert names == {"'=cmd()", "a\\x1b[31m\\nb", 'q",x'}


@pytest.mark.parametrize("suffix", [".csv", ".h5", ".parquet"])
@pytest.mark.parametrize("after", [0, 2])
def test_a_failure_leaves_the_old_file(
    tmp_path: Path, suffix: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", {step: {"a": np.eye(3)} for step in range(4)})
    target = tmp_path / f"out{suffix}"
    target.write_bytes(b"old")

    def failing(*arguments: Any) -> Any:
        inventory, measured = measure(*arguments)

        def some() -> Iterator[Measured]:
            for count, one in enumerate(measured):
                if count == after:
                    raise MemoryError("enough")
                yield one

        return inventory, some()

    monkeypatch.setattr("rankscope.api.measure", failing)
    with pytest.raises(MemoryError):
        still(run, target=target)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [target.name, "run"]


@pytest.mark.parametrize("suffix", [".csv", ".h5", ".parquet"])
def test_a_target_that_cannot_be_written(tmp_path: Path, suffix: str) -> None:
    run = write_run(tmp_path / "run", {0: {"a": np.eye(3)}})
    with pytest.raises(OutputFailed):
        still(run, target=tmp_path / "none" / f"out{suffix}")


FULL = """
import resource
from rankscope.cli.app import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
@pytest.mark.parametrize("suffix", [".csv", ".h5", ".parquet"])
def test_a_full_disk_is_said_in_one_line(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    saved = {step: {f"w{i}": rng.normal(size=(30, 20)) for i in range(20)} for step in range(3)}
    run = write_run(tmp_path / "run", saved)
    target = tmp_path / f"out{suffix}"
    target.write_text("precious")
    ended = subprocess.run(
        [sys.executable, "-c", FULL, "analyze", run, "--spectra", "--no-store", "-o", target],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (4, "")
    assert ended.stderr == f"error: {target}: not written: File too large\n"
    assert target.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == [target.name, "run"]


@pytest.mark.parametrize("name", ["out.json", "out", "out.hdf5x", ".csv.gz"])
def test_a_suffix_that_names_no_layout(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"expected one of \.csv, \.h5"):
        still(tmp_path / "nothing", target=tmp_path / name)


def test_the_weights_are_not_replaced_by_their_spectra(tmp_path: Path) -> None:
    target = tmp_path / "weights.h5"
    with atomic_path(target) as inner, h5py.File(inner, "w") as file:
        file["layer/kernel"] = np.eye(3)
    before = target.read_bytes()
    link = tmp_path / "link.h5"
    link.symlink_to(target)
    for path in (target, link):
        with pytest.raises(UsageError, match="choose another file"):
            still(target, target=path)
    assert target.read_bytes() == before


def test_the_order_of_measuring_changes_no_byte(
    tmp_path: Path, saved: dict[int, dict[str, Array]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", saved, Recipe())
    still(run, target=tmp_path / "a.csv")

    def backwards(*arguments: Any) -> Any:
        inventory, measured = measure(*arguments)
        found: Sequence[Measured] = list(measured)
        return inventory, (one for one in found[::-1])

    monkeypatch.setattr("rankscope.api.measure", backwards)
    still(run, target=tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".h5", ".parquet", ""])
def test_spectra_pass_by_and_are_let_go(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = {step: {"a": np.eye(3), "b": np.eye(4)} for step in range(30)}
    run = write_run(tmp_path / "run", saved)
    alive: list[int] = []

    def watched(*arguments: Any) -> Any:
        inventory, measured = measure(*arguments)

        def some() -> Iterator[Measured]:
            for count, one in enumerate(measured):
                if count % 8 == 0:
                    alive.append(sum(type(each) is Spectrum for each in gc.get_objects()))
                yield one

        return inventory, some()

    for module in ("api", "asking"):
        monkeypatch.setattr(f"rankscope.{module}.measure", watched)
    monkeypatch.setattr("rankscope.measure.SAVE_SECONDS", 0.0)  # what is unsaved is kept
    if suffix:
        still(run, target=tmp_path / f"out{suffix}")
    else:
        analyze(run, how=How(store=False, workers=1))
    assert len(alive) == 8
    # One file's matrices are measured together; others are not kept, nor measured ahead.
    assert max(alive) - min(alive) <= 4
