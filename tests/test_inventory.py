"""What every snapshot holds, from headers alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from rankscope.errors import InputRejected, UsageError
from rankscope.grouping import group_files
from rankscope.inventory import Inventory, take_inventory
from rankscope.matrices import Selection
from rankscope.store import SpectrumStore

EVERYTHING = Selection()


def inventory(paths: Sequence[Path], selection: Selection = EVERYTHING) -> Inventory:
    series = group_files(paths)
    return take_inventory(series, selection, [SpectrumStore(None, 0) for _ in series])


def save(path: Path, **arrays: object) -> Path:
    save_file({name: np.asarray(array) for name, array in arrays.items()}, path)
    return path


def test_entries_stand_in_the_order_of_series_and_step(tmp_path: Path) -> None:
    paths = []
    for run in ("b", "a"):
        (tmp_path / run).mkdir()
        paths += [save(tmp_path / run / f"step{step}.safetensors", w=np.eye(2)) for step in (10, 9)]
    found = inventory(paths)
    places = [(entry.series, entry.snapshot.step) for entry in found.entries]
    assert places == [(0, 9), (0, 10), (1, 9), (1, 10)]
    assert [series.path.name for series in found.series] == ["b", "a"]
    assert not any(entry.remembered for entry in found.entries)


def test_one_bad_snapshot_among_good_ones_is_kept_apart(tmp_path: Path) -> None:
    good = save(tmp_path / "step1.safetensors", w=np.eye(2))
    bad = tmp_path / "step2.safetensors"
    bad.write_bytes(good.read_bytes()[:-1])
    found = inventory([tmp_path])
    assert [entry.snapshot.path for entry in found.entries] == [good]
    assert [(index, error.path) for index, error in found.rejected] == [(0, str(bad))]


def test_nothing_but_bad_ones_is_the_first_ones_error(tmp_path: Path) -> None:
    for step in (1, 2):
        (tmp_path / f"step{step}.safetensors").write_bytes(b"x")
    with pytest.raises(InputRejected, match=r"step1\.safetensors: 1 bytes, expected"):
        inventory([tmp_path])


def test_a_glob_must_match_in_some_snapshot(tmp_path: Path) -> None:
    save(tmp_path / "step1.safetensors", early=np.eye(2))
    save(tmp_path / "step2.safetensors", late=np.eye(2))
    found = inventory([tmp_path], Selection(("late",)))
    assert [[spec.name for spec in entry.specs] for entry in found.entries] == [[], ["late"]]
    with pytest.raises(UsageError, match="nearest: late"):
        inventory([tmp_path], Selection(("latte",)))


def test_an_unchanged_file_is_not_opened_again(tmp_path: Path) -> None:
    path = save(tmp_path / "step1.safetensors", w=np.eye(2), b=np.ones(2))
    os.utime(path, (1, 1))  # old enough to be remembered
    series = group_files([path])
    store = SpectrumStore(tmp_path / "store.sqlite3", 1)
    first = take_inventory(series, EVERYTHING, [store]).entries[0]
    path.chmod(0)
    second = take_inventory(series, Selection(("w",)), [store]).entries[0]
    assert (first.remembered, second.remembered) == (False, True)
    assert first.listing == second.listing
    save(path, w=np.eye(3))
    os.utime(path, (2, 2))
    third = take_inventory(series, EVERYTHING, [store]).entries[0]
    assert not third.remembered
    assert third.specs[0].shape == (3, 3)
    store.close()


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff-step1.safetensors"))
    save(tmp_path / "x.safetensors", w=np.eye(2)).rename(path)
    os.utime(path, (1, 1))
    series = group_files([path])
    store = SpectrumStore(tmp_path / "store.sqlite3", 1)
    assert [
        take_inventory(series, EVERYTHING, [store]).entries[0].remembered for _ in range(2)
    ] == [False, True]
    store.close()


@pytest.mark.parametrize("crashes", [True, False])
def test_a_file_whose_library_crashes_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, crashes: bool
) -> None:
    with h5py.File(tmp_path / "step1.h5", "w") as file:
        file["w"] = np.eye(2)
    save(tmp_path / "step2.safetensors", w=np.eye(2))
    if crashes:
        monkeypatch.setattr("rankscope.inventory._listed", crash_on_hdf5)
    found = inventory([tmp_path])
    assert [entry.snapshot.step for entry in found.entries] == ([2] if crashes else [1, 2])
    assert [error.reason for _, error in found.rejected] == (
        ["the library that reads this format crashed or hung on it: damaged?"] if crashes else []
    )


def crash_on_hdf5(place: tuple[Path, Path | None]) -> object:
    from rankscope.worker import list_checkpoint

    if place[0].suffix == ".h5":
        os.abort()
    return list_checkpoint(*place)
