"""`rankscope watch` as a program: what it prints, how it ends, and what it takes of the machine."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import rankscope
from rankscope.blas import THREAD_VARIABLES
from rankscope.cli.watch import NICENESS
from rankscope.views.numbers import number
from tests.cli.conftest import Run
from tests.cli.processes import LIMIT, ROOT, Process, session, started, until, workers

TRAINER = Path(__file__).with_name("trainer.py")

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variable in THREAD_VARIABLES:  # which the command sets, in this process too
        monkeypatch.setenv(variable, "1")


def training(run_dir: Path, steps: int = 30, size: int = 24, seconds: float = 0.0) -> Process:
    """A training job, to the end."""
    arguments = (str(run_dir), str(steps), str(size), str(seconds))
    return subprocess.Popen([sys.executable, str(TRAINER), *arguments], text=True)


def watching(*arguments: object) -> AbstractContextManager[Process]:
    return started("-m", "rankscope", "watch", "--interval", 0.1, *arguments)


def steps_of(process: Process, count: int) -> list[int]:
    """The steps of the next lines."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(count)]
    return [int(line.removeprefix("step ").partition(":")[0]) for line in lines]


def end(process: Process, number: int = signal.SIGINT) -> tuple[int, str, str]:
    """How it ends by a signal to all of its processes, as a terminal sends it; nothing is left."""
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=LIMIT)
    until(lambda: not session(process.pid), 5)
    return process.returncode, out, err


class TestLines:
    def test_a_job_that_is_killed_and_goes_on(self, run_dir: Path) -> None:
        with watching(run_dir) as process:
            assert process.stderr is not None
            assert "there is no" in process.stderr.readline()
            trainer = training(run_dir, 1000, seconds=0.1)
            assert steps_of(process, 3) == [0, 10, 20]
            trainer.kill()
            trainer.wait()
            saved = len(list((run_dir / "snapshots").glob("step-*")))
            # A killed writer's leftover, and half a line in its log.
            (run_dir / "snapshots" / ".step-00000990.safetensors.1-01234567.tmp").touch()
            with (run_dir / "log.jsonl").open("a") as log:
                log.write('{"step": 990, "train')
            assert steps_of(process, saved - 3) == list(range(30, 10 * saved, 10))
            with training(run_dir, 10 * saved + 20) as trainer:
                assert steps_of(process, 2) == [10 * saved, 10 * saved + 10]
            code, out, err = end(process)
            assert (code, out) == (0, "")
            # It may have looked between the directory's making and the first snapshot's.
            assert err in ("", "waiting for the first snapshot\n")

    def test_a_line(self, run_dir: Path) -> None:
        training(run_dir, 20).wait()
        with watching(run_dir, "--eps", "0.01", "-m", "rank", "--include", "a*") as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2)]
        only = rankscope.Selection(("a*",))
        table = rankscope.analyze(run_dir, metrics=["rank"], eps=0.01, selection=only)
        (_, row) = table.matrices
        assert lines[1] == (
            f"step 10: rank {number(float(row['rank']))}, norm ratio {row['norm_ratio']:.3f}, "
            f"bound exact {number(float(row['bound_exact']))}, epoch 1.000, "
            "train loss 1.809, test acc. 0.5000 (mean of 1 matrix)\n"
        )
        assert row["bound_exact"] > 0

    def test_two_at_once_beside_the_job(self, run_dir: Path) -> None:
        with watching(run_dir) as one, watching(run_dir) as other:
            with training(run_dir, 100, seconds=0.02):
                found = [steps_of(process, 10) for process in (one, other)]
            assert found == [list(range(0, 100, 10))] * 2
            for process in (one, other):
                assert end(process)[0] == 0

    def test_a_reader_that_has_seen_enough(self, run_dir: Path) -> None:
        """Also while there is nothing to be printed any more."""
        training(run_dir, 20).wait()
        with watching(run_dir) as process:
            steps_of(process, 2)
            assert process.stdout is not None
            process.stdout.close()
            assert process.wait(LIMIT) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""


class TestEnding:
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
    )
    def test_by_a_signal(self, run_dir: Path, number: int, code: int) -> None:
        with watching(run_dir) as process:
            assert process.stderr is not None
            process.stderr.readline()
            assert end(process, number) == (code, "", "")

    def test_at_any_moment(self, run_dir: Path) -> None:
        training(run_dir, 300, 90).wait()
        rng = random.Random(5)
        for _ in range(3):
            with watching(run_dir, "--no-store") as process:
                steps_of(process, 1)
                time.sleep(rng.uniform(0.0, 0.3))
                code, _, err = end(process)
                assert (code, err) == (0, "")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_while_a_large_matrix_is_decomposed(self, run_dir: Path, number: int) -> None:
        run_dir.mkdir()
        large = np.random.default_rng(0).standard_normal((3000, 3000))
        safetensors.numpy.save_file({"w": large}, run_dir / "step-1.safetensors")
        with watching(run_dir) as process:
            until(lambda: workers(session(process.pid)))
            time.sleep(0.5)  # into its work
            before = time.monotonic()
            code, out, err = end(process, number)
            assert (out, err) == ("", "")
            assert code == (0 if number == signal.SIGINT else 143)
            assert time.monotonic() - before < 5

    @pytest.mark.parametrize("word", ["trap '' INT", "trap '' HUP"])
    def test_what_is_ignored_stays_so(self, run_dir: Path, word: str) -> None:
        """As a shell does for what runs in its background, and nohup."""
        number = signal.SIGINT if word.endswith("INT") else signal.SIGHUP
        command = f"{word}; exec {sys.executable} -m rankscope watch {run_dir}"
        process = subprocess.Popen(
            ["sh", "-c", command], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            assert process.stderr is not None
            process.stderr.readline()
            process.send_signal(number)
            time.sleep(0.5)
            assert process.poll() is None
            process.terminate()
            assert process.wait(LIMIT) == 143
            assert process.stderr.read() == ""
        finally:
            process.kill()
            process.communicate()


class TestMachine:
    def test_low_priority_one_thread_and_no_torch(self, run_dir: Path) -> None:
        """Also where the job's environment asks for many threads."""
        training(run_dir, 20, 200).wait()
        script = (
            "import sys\n"
            "from rankscope.cli.app import main\n"
            "try:\n"
            "    main()\n"
            "finally:\n"
            "    print('LOADED', *{name.partition('.')[0] for name in sys.modules})\n"
        )
        threads = dict.fromkeys(THREAD_VARIABLES, "8")
        environment = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": "0"}
        with started("-c", script, "watch", run_dir, env=environment) as process:
            steps_of(process, 2)
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(
                19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
            )
            assert threads_of(process.pid) == 1
            code, out, _ = end(process)
        loaded = set(out.rpartition("LOADED")[2].split())
        assert code == 0
        assert "numpy" in loaded
        assert loaded & {"torch", "scipy", "h5py", "pandas", "matplotlib", "plotly"} == set()

    def test_workers_have_the_same_priority(self, run_dir: Path) -> None:
        run_dir.mkdir()
        large = np.random.default_rng(0).standard_normal((3000, 3000))
        for step in (1, 2):
            path = run_dir / f"step-{step}.safetensors"
            safetensors.numpy.save_file({"w": large, "v": large.T}, path)
        with watching(run_dir) as process:
            (worker,) = until(lambda: workers(session(process.pid)))
            own = os.getpriority(os.PRIO_PROCESS, 0)
            assert os.getpriority(os.PRIO_PROCESS, worker) == min(19, own + NICENESS)
            time.sleep(1)
            assert workers(session(process.pid)) == [worker]
            # Beside the one that works, loky's and the one that looks for its parent wait.
            assert sum(seconds > 0.1 for seconds in thread_seconds(worker)) == 1
            end(process)


def threads_of(pid: int) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def thread_seconds(pid: int) -> Iterator[float]:
    """How long each thread of a process has run."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        yield (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class TestUsage:
    def test_a_file(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        safetensors.numpy.save_file({"w": np.eye(3)}, path)
        ended = run("watch", path)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == (
            f"error: {path}: is a file, expected the directory of a run; "
            "rankscope analyze measures a file\n"
        )

    def test_a_directory_of_runs(self, run: Run, tmp_path: Path) -> None:
        training(tmp_path / "runs" / "one", 10).wait()
        ended = run("watch", tmp_path / "runs")
        assert ended.code == 2
        assert ended.err == (
            f"error: {tmp_path / 'runs'}: holds runs, expected one: "
            f"give its path, as {tmp_path / 'runs' / 'one'}\n"
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("-m", "rang"), "metric 'rang' is not known; did you mean rank?"),
            (("--eps", "-1"), "eps is -1"),
            (("--interval", "0"), "0 is not in the range x>=0.1"),
            (("--store", "s", "--no-store"), "--store and --no-store exclude each other"),
            (("--include", "nothing"), "--include 'nothing' matches no matrix"),
        ],
    )
    def test_what_makes_no_sense(
        self, run_dir: Path, arguments: tuple[str, ...], message: str
    ) -> None:
        training(run_dir, 10).wait()
        with watching(run_dir, *arguments) as process:
            _, err = process.communicate(timeout=LIMIT)
            assert process.returncode == 2
            assert message in " ".join(err.replace("│", " ").split())

    def test_no_store_leaves_nothing(self, run_dir: Path, tmp_path: Path) -> None:
        training(run_dir, 20).wait()
        before = sorted(tmp_path.rglob("*"))
        with watching(run_dir, "--no-store") as process:
            steps_of(process, 2)
            end(process)
        assert sorted(tmp_path.rglob("*")) == before
        with watching(run_dir) as process:
            steps_of(process, 2)
            end(process)
        assert (run_dir / "spectra" / "spectra.sqlite3").exists()
