"""The spectrum store: what it keeps, what it finds again, and what it does when it cannot."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import rankscope
from rankscope.how import How
from rankscope.identities import identity
from rankscope.records import Listing, Measurement, Route, Skipped, Spectrum, TensorInfo, Unmeasured
from rankscope.series import Series, Snapshot
from rankscope.solvers import ROUTE_VERSION, solve
from rankscope.store import SpectrumStore, StoreWarning, store_path
from rankscope.storedmatrix import StoredMatrix
from rankscope.storefile import APPLICATION
from tests.matrix import Array, ArrayMatrix, low_rank

OLD = (1e9, 1e9)  # a time that no file system takes for now
RNG = np.random.default_rng(7)
KEY = bytes(range(32))

Solved = list[tuple[tuple[int, int], Route]]


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> Solved:
    """What is decomposed from here on: (shape, route)."""
    calls: Solved = []

    def counted(matrix: StoredMatrix, route: Route) -> Measurement:
        calls.append((matrix.shape, route))
        return solve(matrix, route)

    monkeypatch.setattr("rankscope.worker.solve", counted)
    return calls


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints that are opened from here on."""
    from rankscope.checkpoints import open_checkpoint

    calls: list[Path] = []

    def counted(path: Path, *rest: Any, **named: Any) -> Any:
        calls.append(path)
        return open_checkpoint(path, *rest, **named)

    monkeypatch.setattr("rankscope.worker.open_checkpoint", counted)
    return calls


def save(path: Path, tensors: dict[str, Array], when: tuple[float, float] = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, path)
    os.utime(path, when)
    return path


def analyze(
    path: Path, store: Path | bool, *, verify: bool = False, **asked: Any
) -> rankscope.Analysis:
    return rankscope.analyze(path, how=How(workers=1, store=store, verify=verify), **asked)


def values(result: rankscope.Analysis) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if k not in ("source", "step")} for row in result.matrices
    ]


class TestFile:
    """The store by itself."""

    def spectrum(self) -> Spectrum:
        array = RNG.standard_normal((9, 30))
        array[[2, 5]] = 0
        found = solve(ArrayMatrix(array), "gram")
        assert isinstance(found, Spectrum)
        assert found.zeros == 2
        return replace(found, resolution=1 / 3, max_row_norm=np.nextafter(1, 2), dtype="bfloat16")

    def test_spectra_come_back_bit_for_bit(self, tmp_path: Path) -> None:
        kept: dict[Route, Measurement] = {
            "gram": self.spectrum(),
            "direct": Unmeasured("nonfinite", "holds NaN or infinity"),
        }
        store = SpectrumStore(tmp_path / "s", 1)
        store.put(tmp_path, "w", KEY, kept.items())
        store.commit()
        store.close()
        for read_only in (False, True):
            again = SpectrumStore(tmp_path / "s", 1, read_only=read_only)
            found = again.find(KEY, "gram")
            expected = kept["gram"]
            assert isinstance(found, Spectrum)
            assert isinstance(expected, Spectrum)
            assert found.sigma.tobytes() == expected.sigma.tobytes()
            assert found.sigma.dtype == np.float64
            assert replace(found, sigma=expected.sigma) != found  # eq is by identity, so:
            for name in Spectrum.__slots__:
                if name != "sigma":
                    assert getattr(found, name) == getattr(expected, name), name
            assert again.find(KEY, "direct") == kept["direct"]
            assert again.find(bytes(32), "gram") is None
            again.close()
        other = SpectrumStore(tmp_path / "s", 2)
        assert other.find(KEY, "gram") is None
        other.close()

    @pytest.mark.parametrize("status", ["ok", "nonfinite", "empty"])
    def test_what_follows_from_content_is_kept(self, tmp_path: Path, status: Any) -> None:
        one = self.spectrum() if status == "ok" else Unmeasured(status, "because")
        store = SpectrumStore(tmp_path / "s", 1)
        store.put(tmp_path, "w", KEY, [("gram", one)])
        assert store.find(KEY, "gram") is not None
        store.close()

    @pytest.mark.parametrize("status", ["worker_lost", "unreadable", "failed"])
    def test_what_may_go_better_next_time_is_not(self, tmp_path: Path, status: Any) -> None:
        store = SpectrumStore(tmp_path / "s", 1)
        store.put(tmp_path, "w", KEY, [("gram", Unmeasured(status, "bad luck"))])
        assert store.find(KEY, "gram") is None
        store.close()

    def test_nothing_lasts_without_commit(self, tmp_path: Path) -> None:
        store = SpectrumStore(tmp_path / "s", 1)
        store.put(tmp_path, "w", KEY, [("gram", self.spectrum())])
        store.close()
        again = SpectrumStore(tmp_path / "s", 1)
        assert again.find(KEY, "gram") is None
        again.close()

    def test_a_reader_does_not_see_nor_wait_for_what_is_not_committed(self, tmp_path: Path) -> None:
        writer = SpectrumStore(tmp_path / "s", 1)
        writer.put(tmp_path, "w", KEY, [("gram", self.spectrum())])
        reader = SpectrumStore(tmp_path / "s", 1, read_only=True)
        start = time.monotonic()
        assert reader.find(KEY, "gram") is None
        assert time.monotonic() - start < 5
        writer.commit()
        assert reader.find(KEY, "gram") is not None
        reader.close()
        writer.close()

    def remembered(self, tmp_path: Path, file: Path) -> tuple[SpectrumStore, Listing]:
        store = SpectrumStore(tmp_path / "s", 1)
        tensors = (TensorInfo("w\udcff", (3, 4), "float32", channels_last=True),)
        skipped = (Skipped("b", "vector"),)
        listing = Listing(str(file), "safetensors", tensors, skipped, files=(str(file),))
        store.remember(file, listing, (identity(file),))
        return store, listing

    def test_a_listing_comes_back_while_the_file_is_the_same(self, tmp_path: Path) -> None:
        file = save(tmp_path / "w\udcff.safetensors", {"w": np.eye(3)})
        store, listing = self.remembered(tmp_path, file)
        assert store.listing(file) == listing
        copy = tmp_path / "copy"
        shutil.copy2(file, copy)
        store.close()

        def grow() -> None:
            file.write_bytes(b"x" * (file.stat().st_size + 1))
            os.utime(file, OLD)

        changes: list[Callable[[], object]] = [
            lambda: os.utime(file, (1e9, 1e9 + 1)),
            grow,
            lambda: os.replace(copy, file),  # same size and time, another inode
            file.unlink,
        ]
        for change in changes:
            store = SpectrumStore(tmp_path / "s", 1)
            if file.stat().st_size:
                store.remember(file, listing, (identity(file),))
            assert store.listing(file) == listing
            change()
            assert store.listing(file) is None
            store.close()

    @pytest.mark.parametrize(("age", "kept"), [(1.0, False), (3.0, True), (-60.0, False)])
    def test_a_file_that_may_change_within_a_clock_tick_is_not_remembered(
        self, tmp_path: Path, age: float, kept: bool
    ) -> None:
        then = time.time() - age
        file = save(tmp_path / "w", {"w": np.eye(3)}, (then, then))
        store, _ = self.remembered(tmp_path, file)
        assert (store.listing(file) is not None) == kept
        assert bool(store.seen(file)) == kept
        store.close()

    def test_a_listing_with_pieces_missing_is_not_remembered(self, tmp_path: Path) -> None:
        file = save(tmp_path / "w", {"w": np.eye(3)})
        store, listing = self.remembered(tmp_path, file)
        store.remember(file, replace(listing, missing=(Skipped("x", "y"),)), (identity(file),))
        assert store.listing(file) is None
        store.close()

    def test_the_memo_holds_for_the_file_that_was_read_only(self, tmp_path: Path) -> None:
        """Another analysis may have remembered a replaced file under the same path meanwhile."""
        file = save(tmp_path / "w", {"w": np.eye(3)})
        first, listing = self.remembered(tmp_path, file)
        read = first.seen(file)
        assert read
        first.commit()
        save(file, {"w": 2 * np.eye(3)}, (1e9, 1e9 + 5))
        second = SpectrumStore(tmp_path / "s", 1)
        second.remember(file, listing, (identity(file),))
        second.commit()
        first.put(file, "w", KEY, [("gram", self.spectrum())], read)
        first.commit()
        assert second.find(KEY, "gram") is not None
        assert second.find_all(file) == {}
        second.put(file, "w", KEY, [], second.seen(file))
        assert set(second.find_all(file)) == {("w", "gram")}
        assert first.find_all(file) == {}
        first.close()
        second.close()

    def test_names_of_any_kind(self, tmp_path: Path) -> None:
        file = save(tmp_path / "w\udcff'?#.safetensors", {"w": np.eye(3)})
        store, _ = self.remembered(tmp_path, file)
        names = ["a", "a'; DROP TABLE keys", "\ud800", "\0", "ü", "", "a[0]"]
        for i, name in enumerate(names):
            store.put(file, name, bytes([i]), [("gram", self.spectrum())], store.seen(file))
        assert set(store.find_all(file)) == {(name, "gram") for name in names}
        store.close()
        odd = tmp_path / "a?mode=memory&x=%41#"
        store = SpectrumStore(odd, 1)
        store.put(file, "w", KEY, [("gram", self.spectrum())])
        store.commit()
        reader = SpectrumStore(odd, 1, read_only=True)
        assert reader.find(KEY, "gram") is not None
        reader.close()
        store.close()

    def test_no_two_matrices_of_a_file_have_one_name(self, tmp_path: Path) -> None:
        file = save(tmp_path / "w", {"w": np.eye(3)})
        store, _ = self.remembered(tmp_path, file)
        one, two = self.spectrum(), self.spectrum()
        store.put(file, "w", bytes([1]), [("gram", one)], store.seen(file))
        store.put(file, "w", bytes([2]), [("gram", two)], store.seen(file))
        key, found = store.find_all(file)["w", "gram"]
        assert key == bytes([2])
        assert isinstance(found, Spectrum)
        assert found.sigma.tobytes() == two.sigma.tobytes()
        store.close()

    def test_two_processes_may_make_the_file_at_once(self, tmp_path: Path) -> None:
        stores = [SpectrumStore(tmp_path / "s", 1) for _ in range(3)]
        for store in stores:
            store.put(tmp_path, "w", KEY, [("gram", self.spectrum())])
            store.commit()
        for store in stores:
            store.close()
        assert integrity(tmp_path / "s") == "ok"

    def test_another_layout_of_ours_is_made_anew(self, tmp_path: Path) -> None:
        db = sqlite3.connect(tmp_path / "s")
        db.execute("CREATE TABLE spectra (key BLOB)")
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute("PRAGMA user_version = 99")
        db.commit()
        db.close()
        store = SpectrumStore(tmp_path / "s", 1)
        store.put(tmp_path, "w", KEY, [("gram", self.spectrum())])
        assert store.find(KEY, "gram") is not None
        store.close()


def integrity(path: Path) -> str:
    db = sqlite3.connect(path)
    (found,) = db.execute("PRAGMA integrity_check").fetchone()
    db.close()
    return str(found)


def count(path: Path, table: str = "spectra") -> int:
    db = sqlite3.connect(path)
    (found,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    db.close()
    return int(found)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tensors: dict[str, Array] = {
        "full.weight": RNG.standard_normal((20, 12)).astype(np.float32),
        "low.weight": low_rank(15, 11, 3),
        "nan.weight": np.full((4, 4), np.nan, np.float32),
        "none.weight": np.zeros((0, 5), np.float32),
    }
    return save(tmp_path / "model.safetensors", tensors)


class TestAnalysis:
    """The store as an analysis uses it."""

    def test_an_unchanged_file_is_not_read_again(
        self, model: Path, tmp_path: Path, solved: Solved, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = tmp_path / "store"
        first = analyze(model, store)
        assert {shape for shape, _ in solved} == {(20, 12), (15, 11), (4, 4), (0, 5)}
        solved.clear()

        def forbidden(*_: Any) -> None:
            raise AssertionError("opened")

        monkeypatch.setattr("rankscope.files.LocalFile.__init__", forbidden)
        second = analyze(model, store)
        assert second.matrices == first.matrices
        assert second.skipped == first.skipped
        asked: list[dict[str, Any]] = [
            {"eps": 0.2},
            {"eps": (0.5, 1e-6)},
            {"norm": "spectral"},
            {"metrics": ("schatten_norm(0.5)", "distance_to_rank(2)", "spectral_norm")},
        ]
        for more in asked:
            analyze(model, store, **more)
        assert solved == []

    def test_content_is_found_under_any_name_and_a_changed_tensor_is_not(
        self, tmp_path: Path, solved: Solved
    ) -> None:
        one, two = RNG.standard_normal((8, 6)), RNG.standard_normal((8, 6))
        store = tmp_path / "store"
        analyze(save(tmp_path / "a.safetensors", {"w": one, "v": two}), store)
        solved.clear()
        moved = {"other.name": two, "v": one}
        analyze(save(tmp_path / "b.safetensors", moved), store)
        assert solved == []
        changed = two.copy()
        changed[3, 3] = np.nextafter(changed[3, 3], 9)
        b = analyze(save(tmp_path / "b.safetensors", {**moved, "v": changed}), store)
        assert solved == [((8, 6), "gram")]
        expected = np.linalg.svd(changed, compute_uv=False)[0]
        found = {row["name"]: row["spectral_norm"] for row in b.matrices}
        assert found["v"] == pytest.approx(expected, rel=1e-13)

    @pytest.mark.parametrize(
        "change", ["shape", "dtype"], ids=["same bytes, other shape", "same bytes, other type"]
    )
    def test_shape_and_type_are_content(self, tmp_path: Path, solved: Solved, change: str) -> None:
        array = RNG.standard_normal((8, 6)).astype(np.float16)
        other = array.reshape(6, 8) if change == "shape" else array.view(ml_dtypes.bfloat16)
        store = tmp_path / "store"
        analyze(save(tmp_path / "a.safetensors", {"w": array}), store)
        analyze(save(tmp_path / "b.safetensors", {"w": other}), store)
        assert len({shape for shape, _ in solved}) + (change == "dtype") == 2
        assert len(solved) >= 2

    def test_a_run_that_grew_by_a_snapshot_decomposes_one(
        self, tmp_path: Path, solved: Solved, opened: list[Path]
    ) -> None:
        run = tmp_path / "run"
        store = tmp_path / "store"
        for step in range(3):
            save(run / f"step-{step}.safetensors", {"w": RNG.standard_normal((9, 7))})
        analyze(run, store)
        solved.clear()
        opened.clear()
        new = save(run / "step-3.safetensors", {"w": RNG.standard_normal((9, 7))})
        result = analyze(run, store)
        assert [row["step"] for row in result.matrices] == [0, 1, 2, 3]
        assert solved == [((9, 7), "gram")]
        assert set(opened) == {new}

    def test_a_metric_that_needs_the_direct_route_decomposes_that_matrix_only(
        self, model: Path, tmp_path: Path, solved: Solved
    ) -> None:
        store = tmp_path / "store"
        analyze(model, store, metrics=("spectral_norm",))
        assert {route for _, route in solved} == {"gram"}
        solved.clear()
        analyze(model, store, metrics=("numerical_rank",))
        assert solved == [((15, 11), "direct")]
        solved.clear()
        analyze(model, store, metrics=("numerical_rank", "spectral_norm"))
        assert solved == []

    def test_another_route_version_computes_again(
        self, model: Path, tmp_path: Path, solved: Solved, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = tmp_path / "store"
        first = analyze(model, store)
        calls = len(solved)
        monkeypatch.setattr("rankscope.measure.ROUTE_VERSION", ROUTE_VERSION + 1)
        monkeypatch.setattr("rankscope.worker.ROUTE_VERSION", ROUTE_VERSION + 1)
        assert analyze(model, store).matrices == first.matrices
        assert len(solved) == 2 * calls

    @pytest.mark.parametrize("change", ["size", "mtime", "inode"])
    def test_a_changed_file_is_read_again(
        self, tmp_path: Path, opened: list[Path], change: str
    ) -> None:
        file = save(tmp_path / "w.safetensors", {"w": np.eye(5)})
        store = tmp_path / "store"
        analyze(file, store)
        opened.clear()
        if change == "mtime":
            file.write_bytes(file.read_bytes().replace(np.eye(5).tobytes(), np.ones(25).tobytes()))
            os.utime(file, (1e9, 1e9 + 1))
        elif change == "size":
            inode = file.stat().st_ino
            made = save(tmp_path / "made", {"w": np.ones((5, 6))})
            file.write_bytes(made.read_bytes())
            os.utime(file, OLD)
            assert file.stat().st_ino == inode
        else:
            os.replace(save(tmp_path / "made", {"w": np.ones((5, 5))}), file)
        assert analyze(file, store).matrices[0]["rank"] == 1
        assert set(opened) == {file}

    def test_verify_finds_a_change_that_size_and_time_hide(
        self, tmp_path: Path, opened: list[Path]
    ) -> None:
        file = save(tmp_path / "w.safetensors", {"w": np.eye(5)})
        store = tmp_path / "store"
        analyze(file, store)
        file.write_bytes(file.read_bytes().replace(np.eye(5).tobytes(), np.ones(25).tobytes()))
        os.utime(file, OLD)
        opened.clear()
        assert analyze(file, store).matrices[0]["rank"] == 5  # what the memo is trusted for
        assert opened == []
        assert analyze(file, store, verify=True).matrices[0]["rank"] == 1
        assert set(opened) == {file}
        assert analyze(file, store).matrices[0]["rank"] == 1

    def test_verify_of_what_has_not_changed_decomposes_nothing(
        self, model: Path, tmp_path: Path, solved: Solved, opened: list[Path]
    ) -> None:
        store = tmp_path / "store"
        analyze(model, store)
        solved.clear()
        opened.clear()
        analyze(model, store, verify=True)
        assert opened
        assert solved == []

    def test_a_young_file_is_read_again_and_found_by_content(
        self, tmp_path: Path, solved: Solved, opened: list[Path]
    ) -> None:
        now = time.time()
        file = save(tmp_path / "w.safetensors", {"w": np.eye(5)}, (now, now))
        analyze(file, tmp_path / "store")
        opened.clear()
        solved.clear()
        analyze(file, tmp_path / "store")
        assert opened
        assert solved == []

    def test_a_copy_is_opened_once_to_be_read_however_much_work_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, solved: Solved, opened: list[Path]
    ) -> None:
        monkeypatch.setattr("rankscope.tasks.TASK_FLOPS", 1.0)  # a task for each matrix
        tensors = {f"w{i}": RNG.standard_normal((9, 8)) for i in range(20)}
        analyze(save(tmp_path / "one", tensors), tmp_path / "store")
        assert len(opened) == 21
        solved.clear()
        opened.clear()
        copy = save(tmp_path / "copy", {**tensors, "new": RNG.standard_normal((5, 4))})
        assert len(analyze(copy, tmp_path / "store").matrices) == 21
        assert solved == [((5, 4), "gram")]
        assert len(opened) == 3  # to list it, to find what is known, to measure what is not
        opened.clear()
        analyze(copy, tmp_path / "store")
        assert opened == []  # what was found is remembered as what was measured is

    @pytest.mark.parametrize("back", ["while it is measured", "afterwards"])
    def test_a_file_replaced_and_put_back_is_not_remembered_wrongly(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: str
    ) -> None:
        """What was read between belongs to another file."""
        file = save(tmp_path / "w.safetensors", {"w": np.eye(5)})
        other = save(tmp_path / "other", {"w": np.ones((5, 5))})
        away = tmp_path / "away"
        from rankscope.worker import measure_task

        def put_back() -> None:
            if away.exists():
                os.rename(file, other)
                os.rename(away, file)

        def swapped(task: Any) -> Any:
            os.rename(file, away)
            os.rename(other, file)
            found = measure_task(task)
            put_back()
            return found

        def late(matrix: StoredMatrix, route: Route) -> Measurement:
            if back == "while it is measured":
                put_back()
            return solve(matrix, route)

        store = tmp_path / "store"
        with monkeypatch.context() as patch:
            patch.setattr("rankscope.engines.measure_task", swapped)
            patch.setattr("rankscope.worker.solve", late)
            assert analyze(file, store).matrices[0]["rank"] == 1
        assert analyze(file, store).matrices[0]["rank"] == 5

    def test_several_paths_share_one_store_without_waiting(self, tmp_path: Path) -> None:
        paths = [save(tmp_path / name, {name: RNG.standard_normal((6, 5))}) for name in "abc"]
        start = time.monotonic()
        result = rankscope.analyze(*paths, how=How(store=tmp_path / "store"))
        assert time.monotonic() - start < 10  # a second connection waits 20 s for the first's lock
        assert len(result.matrices) == 3
        assert count(tmp_path / "store", "keys") == 3

    def test_a_matrix_that_stands_in_many_snapshots_is_kept_once(self, tmp_path: Path) -> None:
        for step in range(4):
            frozen = {"a": np.eye(6), "b": np.eye(6)}
            save(tmp_path / "run" / f"step-{step}.safetensors", frozen)
        analyze(tmp_path / "run", tmp_path / "store", metrics=("spectral_norm",))
        assert count(tmp_path / "store") == 1
        assert count(tmp_path / "store", "keys") == 8


def tamper(store: Path, query: str, *values: object) -> None:
    db = sqlite3.connect(store)
    assert db.execute(query, values).rowcount > 0
    db.commit()
    db.close()


class TestDamage:
    """A store that lies or is broken costs time, never a number."""

    @pytest.mark.parametrize(
        "sigma",
        [
            lambda old: old * (1 + 1e-9),
            lambda old: old[::-1].copy(),  # the same sum of squares
            lambda old: np.append(old[:-1], old[-1] * 1.5),  # too small to show in it
            lambda old: old[:-1],
            lambda old: old[:0],
        ],
    )
    def test_a_changed_sigma_is_never_shown(
        self, model: Path, tmp_path: Path, solved: Solved, sigma: Callable[[Array], Array]
    ) -> None:
        store = tmp_path / "store"
        first = analyze(model, store)
        db = sqlite3.connect(store)
        for key, route, blob in db.execute(
            "SELECT key, route, sigma FROM spectra WHERE status = 'ok'"
        ).fetchall():
            changed = sigma(np.frombuffer(blob)).tobytes()
            db.execute(
                "UPDATE spectra SET sigma = ? WHERE key = ? AND route = ?", (changed, key, route)
            )
        db.commit()
        db.close()
        for verify in (False, True):
            solved.clear()
            assert analyze(model, store, verify=verify).matrices == first.matrices
        assert solved == []  # the first of the two has mended it

    @pytest.mark.parametrize(
        "assignment",
        [
            "zeros = 3",
            "dtype = 'float64'",
            "rows = rows + 1",
            "resolution = resolution / 1000",
            "max_row = 0",
            "status = 'nonfinite'",
            "sigma = NULL",
            "sigma = 'text'",
            "sigma = x'0102'",
            "route = 'direct'",
            "digest = x''",
            "digest = NULL",
        ],
    )
    def test_any_other_change_neither(self, tmp_path: Path, assignment: str) -> None:
        file = save(tmp_path / "w.safetensors", {"w": low_rank(15, 11, 3).astype(np.float32)})
        store = tmp_path / "store"
        asked = ("spectral_norm", "frobenius_norm")
        first = analyze(file, store, metrics=asked)
        tamper(store, f"UPDATE spectra SET {assignment}")
        assert analyze(file, store, metrics=asked).matrices == first.matrices

    def test_a_name_that_leads_to_other_content(self, tmp_path: Path) -> None:
        one, two = np.eye(6), np.ones((6, 6))
        file = save(tmp_path / "w.safetensors", {"a": one, "b": two})
        store = tmp_path / "store"
        first = analyze(file, store)
        db = sqlite3.connect(store)
        (key,) = db.execute("SELECT key FROM keys WHERE matrix = ?", (b"a",)).fetchone()
        db.execute("UPDATE keys SET key = ?", (key,))
        db.commit()
        db.close()
        assert analyze(file, store).matrices == first.matrices

    def test_a_changed_listing_is_not_believed(self, model: Path, tmp_path: Path) -> None:
        store = tmp_path / "store"
        first = analyze(model, store)
        tamper(store, "UPDATE files SET listing = replace(listing, '[20, 12]', '[12, 20]')")
        assert analyze(model, store).matrices == first.matrices
        tamper(store, "UPDATE files SET identity = 'nonsense'")
        assert analyze(model, store).matrices == first.matrices

    @pytest.mark.parametrize("seed", range(12))
    def test_bits_that_flip_anywhere(self, model: Path, tmp_path: Path, seed: int) -> None:
        store = tmp_path / "store"
        first = analyze(model, store)
        data = bytearray(store.read_bytes())
        rng = random.Random(seed)
        for _ in range(60):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        store.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StoreWarning)
            assert analyze(model, store).matrices == first.matrices

    @pytest.mark.parametrize("kind", ["random", "truncated", "half", "text", "directory"])
    def test_a_broken_file_is_one_warning(self, model: Path, tmp_path: Path, kind: str) -> None:
        store = tmp_path / "spectra.sqlite3"
        first = analyze(model, store)
        whole = store.read_bytes()
        if kind == "directory":
            store.unlink()
            store.mkdir()
        else:
            store.write_bytes(
                {
                    "random": RNG.bytes(20_000),
                    "truncated": whole[:4096],
                    "half": whole[: len(whole) // 2],
                    "text": b"hello\n" * 1000,
                }[kind]
            )
        with pytest.warns(StoreWarning) as caught:
            result = analyze(model, store)
        assert len(caught) == 1
        assert str(store) in str(caught[0].message)
        assert values(result) == values(first)

    def test_an_emptied_file_is_used_again(self, model: Path, tmp_path: Path) -> None:
        store = tmp_path / "store"
        analyze(model, store)
        store.write_bytes(b"")
        analyze(model, store)
        assert count(store) > 0

    def test_another_program_s_database_is_left_alone(self, model: Path, tmp_path: Path) -> None:
        precious = tmp_path / "precious.db"
        db = sqlite3.connect(precious)
        db.execute("CREATE TABLE spectra (mine TEXT)")
        db.execute("INSERT INTO spectra VALUES ('gold')")
        db.commit()
        db.close()
        before = precious.read_bytes()
        with pytest.warns(StoreWarning, match="another program") as caught:
            result = analyze(model, precious)
        assert len(caught) == 1
        assert "delete" not in str(caught[0].message)
        assert len(result.matrices) == 4
        assert precious.read_bytes() == before

    def test_a_file_given_by_mistake_is_left_alone(self, model: Path) -> None:
        before = model.read_bytes()
        with pytest.warns(StoreWarning, match="not a database") as caught:
            analyze(model, model)
        assert "delete" not in str(caught[0].message)
        assert model.read_bytes() == before

    def test_a_full_disk_is_one_warning(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = tmp_path / "store"
        kept = save(tmp_path / "a.safetensors", {"w": np.eye(30)})
        analyze(kept, store)
        from rankscope.storefile import prepare

        def small(db: sqlite3.Connection) -> None:
            prepare(db)
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            db.execute(f"PRAGMA max_page_count = {pages + 1}")

        many = {f"w{i}": RNG.standard_normal((60, 60)) for i in range(30)}
        more = save(tmp_path / "b.safetensors", many)
        with monkeypatch.context() as patch:
            patch.setattr("rankscope.store.prepare", small)
            with pytest.warns(StoreWarning, match="full") as caught:
                result = analyze(more, store)
        assert len(caught) == 1
        assert len(result.matrices) == 30
        for row in result.matrices:
            expected = np.linalg.norm(many[row["name"]], 2)
            assert row["spectral_norm"] == pytest.approx(expected, rel=1e-12)
        assert integrity(store) == "ok"
        assert count(store) == 1

    def test_a_lock_that_is_never_let_go(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = tmp_path / "store"
        analyze(model, store)
        holder = sqlite3.connect(store)
        holder.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr("rankscope.store.LOCK_SECONDS", 0.05)
        with pytest.warns(StoreWarning, match="locked") as caught:
            result = analyze(model, store)
        assert len(caught) == 1
        assert len(result.matrices) == 4
        holder.close()


class TestPlace:
    """Where the store of a series lies."""

    def series(self, tmp_path: Path, *, run: bool) -> Series:
        folder = tmp_path / "run"
        for step in range(2):
            name = f"snapshots/step-{step:08d}.safetensors"
            save(folder / name, {"w": RNG.standard_normal((5, 4))})
        if run:
            (folder / "run.json").write_text('{"schema": "rankscope/run/1"}')
        snapshot = Snapshot(folder / "snapshots" / "step-00000000.safetensors", 0)
        return Series(folder, (snapshot,), run=folder if run else None)

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return tmp_path / "cache" / "rankscope" / "spectra.sqlite3"

    def test_in_the_run_else_in_the_cache(
        self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = self.series(tmp_path, run=True)
        assert run.run is not None
        inside = run.run / "spectra" / "spectra.sqlite3"
        assert store_path(run, True) == inside
        assert store_path(self.series(tmp_path, run=False), True) == cache
        assert store_path(run, False) is None
        assert store_path(run, tmp_path / "x") == tmp_path / "x"
        monkeypatch.setattr("os.access", lambda *_: False)
        assert store_path(run, True) == cache

    def test_a_run_is_written_into_and_others_directories_are_not(
        self, tmp_path: Path, cache: Path
    ) -> None:
        run = Path(self.series(tmp_path, run=False).path)
        before = sorted(run.rglob("*"))
        analyze(run, True)
        assert sorted(run.rglob("*")) == before
        assert count(cache) > 0
        cache.unlink()
        self.series(tmp_path, run=True)
        analyze(run, True)
        assert count(run / "spectra" / "spectra.sqlite3") > 0
        assert not cache.exists()

    def test_a_read_only_run_uses_the_cache(
        self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = Path(self.series(tmp_path, run=True).path)
        access = os.access
        monkeypatch.setattr(
            "os.access", lambda path, mode: Path(path) != run and access(path, mode)
        )
        analyze(run, True)
        assert not (run / "spectra").exists()
        assert count(cache) > 0

    def test_nowhere_to_write_is_one_warning(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Root may write anywhere but below a file."""
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        paths = [save(tmp_path / name, {name: RNG.standard_normal((6, 5))}) for name in "ab"]
        with pytest.warns(StoreWarning) as caught:
            result = rankscope.analyze(*paths, how=How(workers=1))
        assert len(caught) == 1
        assert len(result.matrices) == 2
        assert not result.incomplete
        rankscope.analyze(*paths, how=How(workers=1, store=False))
