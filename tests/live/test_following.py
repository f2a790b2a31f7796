"""A run that grows, ends, is cut and begins again: what is measured, and how often."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import rankscope
from rankscope.errors import UsageError
from rankscope.how import How
from rankscope.live import following, logtail
from rankscope.live.picture import Picture
from rankscope.live.taking import Tick
from rankscope.matrices import Selection
from rankscope.products import AnyMatrix
from rankscope.records import Measurement, Route
from rankscope.snapshots import LogRecord, SnapshotWriter
from rankscope.solvers import solve
from tests.live.watching import OLD, Watched, asked, put, values, weights


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a log is read in several, too."""
    monkeypatch.setattr(logtail, "PORTION", 256)


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of every matrix that is decomposed from now on."""
    found: list[str] = []

    def counted(matrix: AnyMatrix, route: Route) -> Measurement:
        if route == "gram":  # what needs the direct route comes once more
            found.append(matrix.spec.name)
        return solve(matrix, route)

    monkeypatch.setattr("rankscope.worker.solve", counted)
    return found


def said(picture: Picture) -> str:
    return "\n".join(one.text for one in picture.remarks)


class TestGrowing:
    def test_only_what_is_new_is_decomposed(self, run: Path, solved: list[str]) -> None:
        watched = Watched(run)
        put(run, 0, 10)
        watched.until()
        assert len(solved) == 4
        put(run, 20)
        picture = watched.until()
        assert len(solved) == 6
        for _ in range(5):
            watched.look()
        assert len(solved) == 6
        assert picture.found.steps == (0, 10, 20)
        assert values(picture, "a.weight") == [(0, 20), (10, 19), (20, 18)]

    def test_a_second_watch_decomposes_nothing(self, run: Path, solved: list[str]) -> None:
        with SnapshotWriter(run):
            put(run, 0, 10)
        first = Watched(run, asked(store=True)).until()
        assert len(solved) == 4
        second = Watched(run, asked(store=True)).until()
        assert len(solved) == 4
        assert second.found == first.found
        # And so does analyze.
        table = rankscope.analyze(run, how=How(workers=1), metrics=["rank", "effective_rank"])
        assert len(solved) == 4
        now = [line.row["effective_rank"] for line in first.found.matrices]
        assert now == [row["effective_rank"] for row in table.matrices[-2:]]

    def test_newest_first_then_the_first_of_all(self, run: Path) -> None:
        put(run, 0, 10, 20, 30)
        watched = Watched(run)
        order = [set(watched.look().found.steps) for _ in range(4)]
        assert order == [{30}, {0, 30}, {0, 20, 30}, {0, 10, 20, 30}]

    def test_in_order_for_a_log(self, run: Path) -> None:
        put(run, 0, 10, 20)
        watched = Watched(run, newest_first=False)
        assert [watched.look().found.steps for _ in range(3)] == [(0,), (0, 10), (0, 10, 20)]

    def test_one_that_comes_meanwhile_goes_before_what_is_left(self, run: Path) -> None:
        put(run, 0, 10, 20, 30)
        watched = Watched(run)
        watched.look()
        put(run, 40)
        assert watched.look().found.steps == (30, 40)

    def test_nothing_is_opened_while_nothing_changes(
        self, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with SnapshotWriter(run) as writer:
            for step in (0, 10, 20):
                writer.save(step, weights(step), LogRecord(train_loss=1.0))
        watched = Watched(run)
        watched.until()
        opened: list[object] = []
        real = os.open

        def counted(path: Any, *rest: Any, **more: Any) -> int:
            opened.append(path)
            return real(path, *rest, **more)

        monkeypatch.setattr(os, "open", counted)
        for _ in range(5):
            watched.look()
        assert opened == []
        put(run, 30)  # the probe works
        watched.look()
        assert len(opened) > 0

    def test_what_is_asked_of_it(self, run: Path) -> None:
        put(run, 0, 10)
        question = asked(["stable_rank", "rank"], (0.5, 0.001), selection=Selection(("a*",)))
        picture = Watched(run, question).until()
        assert picture.found.keys[0] == "stable_rank"
        assert set(picture.found.keys) == {"stable_rank", "rank@0.5", "rank@0.001", "norm_ratio"}
        assert [line.label for line in picture.found.matrices] == ["a.weight"]

    def test_a_glob_that_matches_nothing_is_told_at_once(self, run: Path) -> None:
        put(run, 0)
        with pytest.raises(UsageError, match="matches no matrix; nearest: a"):
            Watched(run, asked(selection=Selection(("a.weigth",)))).look()

    def test_a_glob_that_a_later_snapshot_does_not_match_is_no_end(self, run: Path) -> None:
        put(run, 0, at=OLD)
        watched = Watched(run, asked(selection=Selection(("a*",))))
        watched.until()
        path = run / "snapshots" / "step-00000010.safetensors"
        safetensors.numpy.save_file({"other": np.eye(3)}, path)
        os.utime(path, (OLD, OLD))
        picture = watched.look()
        assert picture.found.steps == (0,)
        assert "step 10: step-00000010.safetensors: --include 'a*' matches no matrix" in said(
            picture
        )


class TestWaiting:
    def test_a_directory_that_is_not_there_yet(self, tmp_path: Path) -> None:
        (tmp_path / "runs" / "digits").mkdir(parents=True)
        run = tmp_path / "runs" / "digist"
        watched = Watched(run)
        assert watched.look().waiting == (
            f"waiting for the first snapshot: there is no {run} yet; beside it: digits"
        )
        nowhere = tmp_path / "rums" / "digits"
        assert Watched(nowhere).look().waiting == (
            f"waiting for the first snapshot: there is no {nowhere}, "
            f"nor a directory {nowhere.parent}"
        )
        with SnapshotWriter(run) as writer:
            assert "without a snapshot in snapshots/ yet" in watched.look().waiting
            writer.save(5, weights(5))
            writer.flush()
            picture = watched.look()
        assert picture.waiting == ""
        assert picture.found.steps == (5,)

    def test_an_empty_directory(self, run: Path) -> None:
        run.mkdir()
        assert "holds no weights" in Watched(run).look().waiting

    def test_weights_without_a_number(self, run: Path) -> None:
        run.mkdir()
        safetensors.numpy.save_file(weights(0), run / "model.safetensors")
        assert "model.safetensors has no step in its name" in Watched(run).look().waiting

    def test_runs_that_appear_below(self, tmp_path: Path) -> None:
        watched = Watched(tmp_path / "runs")
        watched.look()
        with SnapshotWriter(tmp_path / "runs" / "digits"):
            waiting = watched.look().waiting
        assert f"give its path, as {tmp_path / 'runs' / 'digits'}" in waiting

    def test_the_record_may_come_later(self, run: Path) -> None:
        put(run, 0, 10)
        watched = Watched(run)
        assert watched.until().about == "eps 0.001 of the Frobenius norm"
        (run / "run.json").write_text('{"schema": "rankscope/run/1", "mod')
        picture = watched.look()
        assert "run.json: is not JSON" in said(picture)
        assert picture.found.steps == (0, 10)
        text = '{"schema": "rankscope/run/1", "model": "net", "hyperparameters": '
        text += '{"batch_size": 2, "lr": 0.5, "weight_decay": 1.0, "schedule": []}, '
        text += '"matrices": [{"name": "a.weight", "kind": "linear", "shape": [30, 24], '
        text += '"inputs_per_sample": 1, "averaged": true}]}'
        (run / "run.json").write_text(text)
        picture = watched.look()
        assert said(picture) == ""
        assert picture.about.startswith("net; B 2, mu 0.5, weight decay 1; eps 0.001")
        assert picture.found.mean is not None
        assert picture.found.mean.label == "mean of 1 of 2"
        several = '"batch_size": 2, "world_size": 4, "accumulation": 3,'
        (run / "run.json").write_text(text.replace('"batch_size": 2,', several))
        assert watched.look().about.startswith("net; B 24, mu 0.5")  # samples of an update


class TestUnfinished:
    def test_temporary_files_are_not_looked_at(self, run: Path) -> None:
        put(run, 0)
        (run / "snapshots" / ".step-00000010.safetensors.9-01234567.tmp").write_bytes(b"half")
        picture = Watched(run).until()
        assert picture.found.steps == (0,)
        assert said(picture) == ""

    def test_one_that_is_written_in_place(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As other trainers do: nothing is wrong with it, and then it is whole."""
        put(run, 0)
        data = (run / "snapshots" / "step-00000000.safetensors").read_bytes()
        watched = Watched(run)
        watched.until()
        path = run / "snapshots" / "step-00000010.safetensors"
        for end in (0, 4, 100, len(data) - 1):
            path.write_bytes(data[:end])
            picture = watched.look()
            assert said(picture) == "step 10 is being written"
            assert picture.found.steps == (0,)
        path.write_bytes(data)
        picture = watched.look()
        assert said(picture) == ""
        assert picture.found.steps == (0, 10)

    def test_one_that_stays_half_is_told(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(following, "WRITING_SECONDS", 0.3)
        put(run, 0)
        (run / "snapshots" / "step-00000010.safetensors").write_bytes(b"half")
        watched = Watched(run)
        assert "is being written" in said(watched.until())
        time.sleep(0.35)
        (remark,) = watched.look().remarks
        assert remark.lacking
        assert remark.text.startswith("step 10: step-00000010.safetensors: ")

    def test_a_damaged_one_is_listed_and_the_rest_goes_on(self, run: Path) -> None:
        put(run, 0, 10, 20, at=OLD)
        path = run / "snapshots" / "step-00000010.safetensors"
        os.truncate(path, 50)
        os.utime(path, (OLD, OLD))
        watched = Watched(run)
        picture = watched.until()
        assert picture.found.steps == (0, 20)
        assert said(picture).startswith("step 10: step-00000010.safetensors: ")
        put(run, 10, at=OLD)
        picture = watched.look()
        assert picture.found.steps == (0, 10, 20)
        assert said(picture) == ""

    def test_it_is_not_read_again_and_again(
        self, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(run, 0)
        (run / "snapshots" / "step-00000010.safetensors").write_bytes(b"half")
        watched = Watched(run)
        watched.until()
        tried: list[int] = []
        follower = watched.watch._follower
        real = follower.measure

        def counted(step: int, tick: Tick) -> None:
            tried.append(step)
            real(step, tick)

        monkeypatch.setattr(follower, "measure", counted)
        monkeypatch.setattr(following, "RETRY_SECONDS", 0.0)
        for _ in range(20):
            watched.look()
        assert tried == []
        follower.failures[10] = replace(follower.failures[10], due=0.0)
        watched.look()
        assert tried == [10]
        assert follower.failures[10].wait == 4.0

    def test_a_shard_that_comes_late(self, run: Path) -> None:
        """The index does not change when it does."""
        folder = run / "checkpoint-10"
        folder.mkdir(parents=True)
        places = {f"{name}.weight": f"{name}.safetensors" for name in "ab"}
        index = json.dumps({"metadata": {}, "weight_map": places})
        (folder / "model.safetensors.index.json").write_text(index)
        safetensors.numpy.save_file({"a.weight": weights(0)["a.weight"]}, folder / "a.safetensors")
        watched = Watched(run)
        picture = watched.until()
        assert [line.label for line in picture.found.matrices] == ["a.weight"]
        assert watched.watch._follower.failures
        safetensors.numpy.save_file({"b.weight": weights(0)["b.weight"]}, folder / "b.safetensors")
        for one in watched.watch._follower.failures.values():
            assert one.due - time.monotonic() <= following.RETRY_SECONDS
        failures = watched.watch._follower.failures
        failures[10] = replace(failures[10], due=0.0)
        picture = watched.until()
        assert [line.label for line in picture.found.matrices] == ["a.weight", "b.weight"]
        assert said(picture) == ""

    def test_weights_that_are_not_finite_are_no_failure(self, run: Path) -> None:
        put(run, 0)
        path = run / "snapshots" / "step-00000010.safetensors"
        bad = {**weights(10), "a.weight": np.full((30, 24), np.nan, np.float32)}
        safetensors.numpy.save_file(bad, path)
        picture = Watched(run).until()
        assert said(picture) == ""
        assert [line.status for line in picture.found.matrices] == ["nonfinite", ""]
        assert values(picture, "a.weight") == [(0, 20)]


class TestBegunAgain:
    def test_from_an_earlier_step(self, run: Path, solved: list[str]) -> None:
        """The later snapshots are removed, as the writer asks for, and written anew."""
        put(run, 0, 10, 20, 30)
        watched = Watched(run)
        watched.until()
        for step in (20, 30):
            (run / "snapshots" / f"step-{step:08d}.safetensors").unlink()
        assert watched.look().found.steps == (0, 10)
        put(run, 20, scale=2.0)
        picture = watched.until()
        assert picture.found.steps == (0, 10, 20)
        assert len(solved) == 10

    def test_in_a_directory_that_was_removed(self, run: Path) -> None:
        put(run, 0, 10, 20)
        watched = Watched(run)
        watched.until()
        shutil.rmtree(run)
        picture = watched.look()
        assert picture.found.steps == ()
        assert "there is no" in picture.waiting
        put(run, 5)
        picture = watched.look()
        assert (picture.found.steps, picture.waiting) == ((5,), "")

    def test_between_two_looks(self, run: Path) -> None:
        """Whatever inode numbers come again: nothing of the old run is kept."""
        put(run, 0, 10, 20)
        watched = Watched(run)
        watched.until()
        shutil.rmtree(run)
        put(run, 5, 10, scale=3.0)
        watched.look()
        picture = watched.until()
        assert picture.found.steps == (5, 10)
        assert picture.found.files[1].mtime_ns == (
            (run / "snapshots" / "step-00000010.safetensors").stat().st_mtime_ns
        )

    def test_over_the_old_files(self, run: Path) -> None:
        """A shorter run in the same directory, the old one's later snapshots left there."""
        put(run, 0, 10, 20, 30, at=OLD)
        watched = Watched(run)
        watched.until()
        put(run, 0, at=OLD + 1000, scale=2.0)
        put(run, 10, at=OLD + 1000, scale=2.0)
        picture = watched.until()
        assert picture.found.steps == (0, 10, 20, 30)
        assert "step 10 was written after step 30: is that of an earlier run?" in said(picture)

    def test_checkpoints_that_make_room_stay_in_the_curves(self, run: Path) -> None:
        watched = Watched(run)
        for step in range(0, 60, 10):
            put(run, step)
            old = run / "snapshots" / f"step-{step - 20:08d}.safetensors"
            old.unlink(missing_ok=True)
            picture = watched.until()
        assert picture.found.steps == tuple(range(0, 60, 10))
        assert values(picture, "a.weight")[0] == (0, 20)
        assert said(picture) == (
            "4 snapshots have been removed since; the curves keep what was measured"
        )
        # A run that takes their place has nothing of them.
        shutil.rmtree(run)
        put(run, 50)
        assert watched.until().found.steps == (50,)

    def test_the_last_one_removed_is_forgotten(self, run: Path) -> None:
        put(run, 0, 10, 20)
        watched = Watched(run)
        watched.until()
        (run / "snapshots" / "step-00000020.safetensors").unlink()
        picture = watched.look()
        assert picture.found.steps == (0, 10)
        assert said(picture) == ""

    def test_the_log_goes_with_it(self, run: Path) -> None:
        with SnapshotWriter(run) as writer:
            for step in (0, 10):
                writer.save(step, weights(step), LogRecord(train_loss=1.0))
        watched = Watched(run)
        assert [one.points for one in watched.until().logged] == [((0, 1.0), (10, 1.0))]
        shutil.rmtree(run)
        with SnapshotWriter(run) as writer:
            writer.save(3, weights(3), LogRecord(train_loss=2.0))
        assert [one.points for one in watched.until().logged] == [((3, 2.0),)]


class TestSurroundings:
    def test_a_directory_that_may_not_be_written(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with SnapshotWriter(run) as writer:
            writer.save(0, weights(0))
        before = sorted(run.rglob("*"))
        real = os.access

        def refused(path: Any, mode: int) -> bool:  # as it is for anybody but root
            return real(path, mode) and not (mode & os.W_OK and str(path).startswith(str(run)))

        monkeypatch.setattr(os, "access", refused)
        picture = Watched(run, asked(store=True)).until()
        assert picture.found.steps == (0,)
        assert said(picture) == ""
        assert sorted(run.rglob("*")) == before
        assert list((tmp_path / "cache").rglob("*.sqlite3"))

    def test_a_store_that_does_not_work_is_told_and_nothing_is_lost(
        self, run: Path, tmp_path: Path, solved: list[str]
    ) -> None:
        put(run, 0)
        bad = tmp_path / "store"
        bad.write_text("no database at all, and longer than a header of one is" * 20)
        watched = Watched(run, asked(store=bad))
        picture = watched.until()
        assert picture.found.steps == (0,)
        (remark,) = picture.remarks
        assert remark.lacking
        assert "going on without a store" in remark.text
        put(run, 10)
        picture = watched.until()
        assert picture.found.steps == (0, 10)
        assert len(solved) == 4
        assert len(picture.remarks) == 1

    def test_two_at_once(self, run: Path) -> None:
        with SnapshotWriter(run):
            put(run, 0, 10)
        one, other = (Watched(run, asked(store=True)) for _ in range(2))
        for step in (20, 30):
            one.look()
            put(run, step)
            other.look()
        assert one.until().found == other.until().found
        assert said(one.look()) == said(other.look()) == ""

    @pytest.mark.parametrize("jump", [-1e6, 1e6])
    def test_a_clock_that_jumps(
        self, run: Path, jump: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(run, 0)
        watched = Watched(run)
        watched.until()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        put(run, 10)
        assert watched.until().found.steps == (0, 10)

    def test_others_directories(self, run: Path) -> None:
        for step in (100, 200):
            folder = run / f"checkpoint-{step}"
            folder.mkdir(parents=True)
            safetensors.numpy.save_file(weights(step // 10), folder / "model.safetensors")
        (run / "checkpoint-300").mkdir()
        picture = Watched(run, asked(store=True)).until()
        assert picture.found.steps == (100, 200)
        assert picture.writing is None
        assert said(picture).startswith("left out: checkpoint-300: ")
        assert sorted(path.name for path in run.iterdir()) == [
            "checkpoint-100",
            "checkpoint-200",
            "checkpoint-300",
        ]


def test_after_a_snapshot_of_nan_the_mean_says_so_and_recovers(tmp_path: Path) -> None:
    put(tmp_path, 0, 10, at=OLD)
    put(tmp_path, 20, at=OLD, scale=float("nan"))
    watched = Watched(tmp_path)
    found = watched.until().found
    assert found.mean is not None
    assert (found.mean.status, found.mean.row["rank"], found.mean.change) == (
        "nonfinite",
        None,
        None,
    )
    assert [step for step, _ in found.mean.points] == [0, 10]
    put(tmp_path, 30, at=OLD)
    found = watched.until().found
    assert found.mean is not None
    ranks = dict(found.mean.points)
    assert (found.mean.status, sorted(ranks)) == ("", [0, 10, 30])
    assert found.mean.row["rank"] == ranks[30]
    assert found.mean.change == ranks[30] - ranks[0]
