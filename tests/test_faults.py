"""Processes killed, interrupted, out of disk, side by side: what is shown stays right and whole.

Each fault is made in child processes, with the command as its users run it where that is enough.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import rankscope
from rankscope import measure as module
from rankscope.how import How
from tests.matrix import Array

ROOT = Path(__file__).parents[1]
OLD = (1e9, 1e9)
RNG = np.random.default_rng(17)
LIMIT = 60.0  # seconds that no child should need

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")


def save(path: Path, tensors: dict[str, Array]) -> Path:
    safetensors.numpy.save_file(tensors, path)
    os.utime(path, OLD)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Many small matrices: work for one process, in many tasks."""
    rng = np.random.default_rng(1)
    tensors = {f"w{i:03}": rng.standard_normal((60, 50)) for i in range(120)}
    return save(tmp_path / "small.safetensors", tensors)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Enough work for processes, for about two seconds of them."""
    rng = np.random.default_rng(2)
    sizes = [300] * 4 + [1400] * 7
    tensors = {f"w{i}": rng.standard_normal((n, n)) for i, n in enumerate(sizes)}
    return save(tmp_path / "large.safetensors", tensors)


Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """Start Python in a session of its own; whatever is left of it is killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), **environment},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None or session(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def session(leader: int) -> list[int]:
    """The processes of a session that are alive."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def workers(leader: int) -> list[int]:
    """loky's workers among them, not what keeps track of resources."""
    found: list[int] = []
    for pid in session(leader):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"popen_loky" in words:
            found.append(pid)
    return found


def until(condition: Callable[[], Any], seconds: float = LIMIT) -> Any:
    """Wait until something is true; returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError("did not happen in time")


def kept(store: Path, table: str = "spectra") -> int:
    """How many rows a store holds; 0 while there is none."""
    try:
        db = sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)
        (found,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
        db.close()
    except sqlite3.Error:
        return 0
    return int(found)


def whole(store: Path) -> bool:
    db = sqlite3.connect(store)
    (found,) = db.execute("PRAGMA integrity_check").fetchone()
    db.close()
    return bool(found == "ok")


def is_right(document: dict[str, Any], path: Path) -> bool:
    """Whether every matrix of a file is there with its largest singular value."""
    tensors = safetensors.numpy.load_file(path)
    rows = {row["name"]: row for row in document["matrices"]}
    assert rows.keys() == tensors.keys()
    for name, array in tensors.items():
        # The Frobenius norm is exact and cheap; the spectral norm is what was decomposed for.
        assert rows[name]["frobenius_norm"] == pytest.approx(np.linalg.norm(array), rel=1e-12)
        if len(array) < 500:
            expected = np.linalg.norm(array, 2)
            assert rows[name]["spectral_norm"] == pytest.approx(expected, rel=1e-12)
    return True


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err


# The command, saving each matrix at once.
EAGER = """
from rankscope import measure, tasks
from rankscope.cli.app import main
measure.SAVE_SECONDS = 0
tasks.TASK_FLOPS = 0
main()
"""


class TestInterrupted:
    @pytest.mark.parametrize("moment", ["workers start", "work is saved"])
    def test_ctrl_c(self, child: Child, large: Path, tmp_path: Path, moment: str) -> None:
        store = tmp_path / "store"
        process = child("-c", EAGER, "analyze", large, "--workers", 2, "--store", store, "--json")
        if moment == "workers start":
            until(lambda: workers(process.pid))
        else:
            until(lambda: kept(store))
        os.killpg(process.pid, signal.SIGINT)
        code, out, err = ended(process)
        assert (code, out, err) == (130, "", "interrupted; what was finished is kept\n")
        until(lambda: not session(process.pid), 5)
        assert whole(store)
        if moment == "work is saved":
            assert 0 < kept(store) < 11
            # The next call continues.
            before = kept(store)
            again = child("-m", "rankscope", "analyze", large, "--store", store, "--json")
            code, out, err = ended(again)
            assert (code, err) == (0, "")
            assert is_right(json.loads(out), large)
            assert kept(store) == 11 > before


class TestKilled:
    def test_a_worker_from_outside(self, child: Child, large: Path) -> None:
        process = child("-m", "rankscope", "analyze", large, "--workers", 2, "--no-store", "--json")
        victims = until(lambda: workers(process.pid))
        time.sleep(0.6)  # into its work
        victims = workers(process.pid) or victims
        os.kill(victims[0], signal.SIGKILL)
        code, out, err = ended(process)
        assert (code, err) == (0, "")
        assert is_right(json.loads(out), large)
        until(lambda: not session(process.pid), 5)

    def test_the_whole_command_leaves_no_process_and_a_sound_store(
        self, child: Child, large: Path, tmp_path: Path
    ) -> None:
        store = tmp_path / "store"
        process = child("-c", EAGER, "analyze", large, "--workers", 2, "--store", store)
        until(lambda: kept(store))
        os.kill(process.pid, signal.SIGKILL)
        # The workers learn of it when they want more work.
        until(lambda: not session(process.pid), 20)
        assert whole(store)
        assert kept(store) > 0

    def test_at_any_moment_of_writing(self, child: Child, small: Path, tmp_path: Path) -> None:
        """Each matrix is written by itself, so that most moments are moments of writing."""
        store = tmp_path / "store"
        script = (
            "import rankscope, sys; from pathlib import Path\n"
            "from rankscope import measure, tasks\n"
            "measure.SAVE_SECONDS = 0; tasks.TASK_FLOPS = 0\n"
            "how = rankscope.How(workers=1, store=Path(sys.argv[2]))\n"
            "print('begun', flush=True)\n"
            "rankscope.analyze(sys.argv[1], how=how)\n"
        )
        rng = random.Random(3)
        grown = [0]
        for _ in range(6):
            process = child("-c", script, small, store)
            assert process.stdout is not None
            process.stdout.readline()
            until(lambda: kept(store) > grown[-1])
            time.sleep(rng.uniform(0.0, 0.02))
            process.kill()
            process.wait(LIMIT)
            # The next reader rolls back what was half written.
            assert whole(store)
            grown.append(kept(store))
        assert grown == sorted(set(grown))
        assert grown[-1] < 120  # none of them was killed too late to count
        result = rankscope.analyze(small, how=How(workers=1, store=store))
        assert is_right(result.to_document(), small)
        assert kept(store) == kept(store, "keys") == 120


POISON = """
import os, signal, sys

def hook(event, arguments):
    # Only where it is measured, only in a worker: its listing is nobody's death.
    if event != "open" or not str(arguments[0]).endswith("poison.safetensors"):
        return
    if not any("popen_loky" in word for word in sys.orig_argv):
        return
    marker = os.environ["POISON_MARKER"]
    if marker:
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""


class TestPoison:
    """A file that kills any worker that opens it, as a library's crash would."""

    @pytest.fixture
    def paths(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(POISON)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
        monkeypatch.setattr("rankscope.engines.INLINE_FLOPS", 0.0)
        names = ("good", "poison", "fine")
        return [
            save(tmp_path / f"{name}.safetensors", {"w": np.eye(5), "v": np.ones((4, 4))})
            for name in names
        ]

    def test_always(self, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POISON_MARKER", "")
        result = rankscope.analyze(*paths, how=How(workers=2, store=False))
        found = {(Path(row["source"]).stem, row["name"]): row for row in result.matrices}
        assert len(found) == 6
        for (stem, name), row in found.items():
            if stem == "poison":
                assert row["status"] == "worker_lost"
                assert "died, twice" in row["notes"]["status"]
            else:
                assert (row["status"], row["rank"]) == ("ok", 5 if name == "w" else 1)
        assert result.incomplete

    def test_once(self, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POISON_MARKER", str(tmp_path / "marker"))
        result = rankscope.analyze(*paths, how=How(workers=2, store=False))
        assert (tmp_path / "marker").exists()
        assert {row["status"] for row in result.matrices} == {"ok"}
        assert not result.incomplete

    def test_exit_code(self, paths: list[Path], child: Child, tmp_path: Path) -> None:
        """HDF5 is always measured in a process."""
        import h5py

        for name in ("good", "poison"):
            with h5py.File(tmp_path / f"step-{len(name)}.{name}.h5", "w") as file:
                file["w"] = np.eye(5)
        folder = tmp_path / "run"
        folder.mkdir()
        os.rename(tmp_path / "step-4.good.h5", folder / "step-4.h5")
        os.rename(tmp_path / "step-6.poison.h5", folder / "step-6.h5")
        site = tmp_path / "site" / "sitecustomize.py"
        text = POISON.replace("poison.safetensors", "step-6.h5").replace(
            "    marker =",
            "    frame = sys._getframe()\n"
            "    while frame and frame.f_code.co_name != 'measure_task':\n"
            "        frame = frame.f_back\n"
            "    if frame is None:\n"
            "        return\n"
            "    marker =",
        )
        site.write_text(text)
        process = child(
            "-m", "rankscope", "analyze", folder, "--no-store", "--json",
            POISON_MARKER="", PYTHONPATH=os.pathsep.join([str(site.parent), str(ROOT)]),
        )  # fmt: skip
        code, out, err = ended(process)
        assert code == 4
        assert len(err.splitlines()) == 2, err
        first, last = err.splitlines()
        assert first.startswith("worker lost: w at step 6: ")
        assert last == "incomplete: not everything could be measured (exit code 4)"
        statuses = {row["step"]: row["status"] for row in json.loads(out)["matrices"]}
        assert statuses == {4: "ok", 6: "worker_lost"}


class TestSideBySide:
    def test_two_analyses_at_the_same_time(self, child: Child, small: Path, tmp_path: Path) -> None:
        """Each writes every matrix by itself into one store."""
        store = tmp_path / "store"
        arguments = ("-c", EAGER, "analyze", small, "--store", store, "--json", "--workers", 1)
        processes = [child(*arguments) for _ in range(2)]
        for process in processes:
            code, out, err = ended(process)
            assert (code, err) == (0, "")
            assert is_right(json.loads(out), small)
        assert whole(store)
        assert kept(store) == kept(store, "keys") == 120

    def test_workers_read_while_the_parent_writes(
        self, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rankscope.engines.INLINE_FLOPS", 0.0)
        monkeypatch.setattr("rankscope.tasks.TASK_FLOPS", 0.0)
        monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
        store = tmp_path / "store"
        result = rankscope.analyze(small, how=How(workers=3, store=store))
        assert is_right(result.to_document(), small)
        assert kept(store) == 120


class TestFullDisk:
    def test_one_warning_and_the_old_store_stays(
        self, child: Child, small: Path, tmp_path: Path
    ) -> None:
        store = tmp_path / "store"
        old = save(tmp_path / "old.safetensors", {"w": np.eye(40)})
        rankscope.analyze(old, how=How(workers=1, store=store))
        # Files may not grow beyond this; Python ignores SIGXFSZ, so that writing fails.
        limit = store.stat().st_size + 8192
        script = (
            "import resource; from rankscope.cli.app import main\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            "main()\n"
        )
        code, out, err = ended(child("-c", script, "analyze", small, "--store", store, "--json"))
        assert code == 0
        assert is_right(json.loads(out), small)
        assert err.startswith(f"warning: {store}: ")
        assert err.count("\n") == 1
        assert "going on without a store" in err
        assert whole(store)
        assert kept(store) == 1
        # With room again, everything works again.
        code, out, err = ended(child("-m", "rankscope", "analyze", small, "--store", store))
        assert (code, err) == (0, "")
        assert kept(store) == 121

    def test_an_output_that_does_not_fit_leaves_the_old_one(
        self, child: Child, small: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "out.json"
        target.write_text("precious")
        script = (
            "import resource; from rankscope.cli.app import main\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
            "main()\n"
        )
        process = child("-c", script, "analyze", small, "--no-store", "-o", target)
        code, out, err = ended(process)
        assert (code, out) == (4, "")
        assert err == f"error: {target}: not written: File too large\n"
        assert target.read_text() == "precious"
        assert sorted(tmp_path.iterdir()) == [target, small]
