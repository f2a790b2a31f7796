"""`rankscope watch` on a real terminal, beside a job that is killed and starts again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.cli.processes import ROOT, below, until, workers
from tests.cli.terminal import Terminal, needs_tmux, terminal
from tests.cli.test_watch import training

pytestmark = [
    needs_tmux,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc"),
]

WATCH = f"{sys.executable} -m rankscope watch --interval 0.1"


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path / "run"


def watch(screen: Terminal, run_dir: Path, *words: str) -> None:
    """Start watching, in the run's parent directory so that its name is short."""
    screen.enter(f"cd {run_dir.parent}; clear; {WATCH} {run_dir.name}")
    screen.wait_for(*(words or ("mean of",)))


def shown(screen: Terminal, least: int, *words: str) -> int:
    """How many snapshots of the job are on the screen, once there are so many of them."""

    def count() -> int:
        text = screen.text()
        found = re.search(r"^step (\d+) \(epoch (\d+)\), (\d+) snapshots", text, re.MULTILINE)
        if found is None or not all(word in text for word in words):
            return 0
        step, epoch, snapshots = map(int, found.groups())
        # Newest first, there may be some between that are still to be measured.
        if snapshots < least or (step, epoch) != (10 * snapshots - 10, snapshots - 1):
            return 0
        assert re.search(rf"^a.weight .* -{snapshots - 1} ", text, re.MULTILINE), text
        assert text.count("\nmatrix ") == 1
        return snapshots

    try:
        return until(count)
    except AssertionError:
        raise AssertionError(f"no {least} snapshots, {words} in\n{screen.text()}") from None


def removed(run_dir: Path) -> bool:
    """Whether it is gone now; a watch may just be writing its store in there."""
    shutil.rmtree(run_dir, ignore_errors=True)
    return not run_dir.exists()


def restored(screen: Terminal, code: int) -> None:
    """Nothing is left of the watch but its last picture."""
    screen.enter("echo code $? $(stty -a | tr ' ' '\\n' | grep -x -e echo -e -echo)")
    screen.wait_for(f"code {code} echo")
    assert (screen.show("cursor_flag"), screen.show("alternate_on")) == ("1", "0")
    until(lambda: not screen.children(), 5)


def test_a_job_from_before_its_start_to_after_its_end(run_dir: Path) -> None:
    with terminal(80, 24) as screen:
        watch(screen, run_dir, "waiting for the first snapshot: there is no run yet")
        assert (screen.show("cursor_flag"), screen.show("alternate_on")) == ("0", "1")
        trainer = training(run_dir, 10_000, seconds=0.1)
        about = "MLP-2; B 1, mu 0.9, weight decay 1; eps 0.001 of the Frobenius norm"
        assert shown(screen, 3, "writer at work", about) >= 3
        os.kill(trainer.pid, signal.SIGKILL)
        trainer.wait()
        (run_dir / "snapshots" / ".step-00009990.safetensors.1-01234567.tmp").touch()
        with (run_dir / "log.jsonl").open("a") as log:
            log.write('{"step": 9990, "train')
        saved = len(list((run_dir / "snapshots").glob("step-*")))
        assert shown(screen, saved, "no writer seen") == saved
        # It goes on where it was.
        trainer = training(run_dir, 10_000, seconds=0.1)
        shown(screen, saved + 3, "writer at work")
        trainer.kill()
        trainer.wait()
        # And another begins in its place.
        until(lambda: removed(run_dir))
        screen.wait_for("waiting for the first snapshot: there is no run yet")
        training(run_dir, 30).wait()
        assert shown(screen, 3, "no writer seen") == 3
        screen.press("C-c")
        screen.wait_for("\n$")
        assert "step 20 (epoch 2), 3 snapshots" in screen.text()  # the last picture stays
        restored(screen, 0)


def test_a_window_that_is_resized(run_dir: Path) -> None:
    training(run_dir, 60).wait()
    with terminal(80, 24) as screen:
        watch(screen, run_dir, "step 50 (epoch 5), 6 snapshots")
        for width, height in ((120, 40), (60, 16), (100, 30), (40, 8), (80, 24)):
            screen.resize(width, height)

            def fits(width: int = width, height: int = height) -> bool:
                """Every line is where it belongs, and none is left of the old picture."""
                lines = screen.lines()[:height]
                curves = [line for line in lines if line.startswith("test acc.")]
                return (
                    len(lines[0]) == width
                    and lines[0].startswith("run ")
                    and lines[0].endswith("no writer seen")
                    and sum(line.startswith("matrix ") for line in lines) == 1
                    and len(curves) == (height >= 16)
                    and max(map(len, lines)) == width
                )

            until(fits, 10)
        screen.press("C-c")
        restored(screen, 0)


def test_keys_that_are_pressed_do_not_show(run_dir: Path) -> None:
    training(run_dir, 20).wait()
    for path in (run_dir / "snapshots").iterdir():
        os.utime(path, (1e9, 1e9))  # so long ago that nothing is drawn again
    with terminal() as screen:
        watch(screen, run_dir)
        before = screen.lines()
        for key in ("x", "y", "Enter", "Enter", "z"):
            screen.press(key)
        time.sleep(0.5)
        assert screen.lines() == before
        screen.press("C-s")  # would hold the last picture back, and with it the end
        screen.press("C-c")
        restored(screen, 0)
        assert "not found" not in screen.text()


def test_ctrl_c_while_a_large_matrix_is_decomposed(run_dir: Path) -> None:
    run_dir.mkdir()
    large = np.random.default_rng(0).standard_normal((3000, 3000))
    safetensors.numpy.save_file({"w": np.eye(3)}, run_dir / "step-1.safetensors")
    with terminal() as screen:
        watch(screen, run_dir, "step 1, 1 snapshot")
        safetensors.numpy.save_file({"w": large, "v": large.T}, run_dir / "step-2.safetensors")
        until(lambda: workers(screen.children()))
        screen.wait_for("measuring step 2")
        # The picture goes on meanwhile.
        screen.resize(100, 30)
        until(lambda: len(screen.lines()[0]) <= 100 and "last" in screen.text(), 10)
        screen.press("C-c")
        restored(screen, 0)


def test_it_is_stopped_and_goes_on(run_dir: Path) -> None:
    """Ctrl-Z gives the shell its screen back; in the meantime the job goes on."""
    training(run_dir, 20).wait()
    with terminal() as screen:
        watch(screen, run_dir)
        screen.press("C-z")
        until(lambda: screen.show("alternate_on") == "0")
        screen.enter("echo still $((40 + 2))")
        screen.wait_for("still 42")
        assert screen.show("cursor_flag") == "1"
        training(run_dir, 40).wait()
        screen.enter("fg")
        screen.wait_for("step 30 (epoch 3), 4 snapshots")
        assert (screen.show("cursor_flag"), screen.show("alternate_on")) == ("0", "1")
        screen.press("C-z")
        until(lambda: screen.show("alternate_on") == "0")
        screen.enter("fg")
        until(lambda: screen.show("alternate_on") == "1")
        screen.wait_for("step 30 (epoch 3), 4 snapshots")
        screen.press("C-c")
        restored(screen, 0)


def test_a_terminal_without_unicode(run_dir: Path) -> None:
    """Every line where it belongs, with names and marks that its encoding has no letters for."""
    run_dir.mkdir()
    names = ("größe.weight", "model.decoder.layers.7.some_very_long_name_of_a_layer.weight")
    for step in (1, 2):
        weights = {name: np.eye(3 + step) for name in names}
        safetensors.numpy.save_file(weights, run_dir / f"step-{step}.safetensors")
    with terminal(60, 16) as screen:
        screen.enter("export LC_ALL=POSIX PYTHONCOERCECLOCALE=0 PYTHONUTF8=0")
        watch(screen, run_dir)
        lines = screen.lines()
        assert all(line.isascii() for line in lines)
        assert lines[0].strip() == "run"
        assert lines[2].startswith("step 2, 2 snapshots")
        assert sum("gr??e.weight" in line for line in lines) == 1
        screen.press("C-c")
        restored(screen, 0)


def test_sigterm_restores_the_terminal(run_dir: Path) -> None:
    training(run_dir, 20).wait()
    with terminal() as screen:
        watch(screen, run_dir)
        (process,) = screen.children()
        os.kill(process, signal.SIGTERM)
        until(lambda: screen.show("alternate_on") == "0")
        restored(screen, 143)


def test_a_terminal_that_goes_takes_it_along(run_dir: Path) -> None:
    training(run_dir, 20).wait()
    with terminal() as screen:
        watch(screen, run_dir)
        (process,) = screen.children()
        screen.tmux("kill-server")
        until(lambda: not Path(f"/proc/{process}").exists(), 10)


def test_a_watch_that_is_killed_leaves_no_worker(run_dir: Path) -> None:
    run_dir.mkdir()
    large = np.random.default_rng(0).standard_normal((3000, 3000))
    safetensors.numpy.save_file({"w": large}, run_dir / "step-2.safetensors")
    with terminal() as screen:
        screen.enter(f"{WATCH} {run_dir}")
        until(lambda: workers(screen.children()))
        process = next(pid for pid in screen.children() if below(pid))
        (worker,) = workers(screen.children())
        os.kill(process, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{worker}").exists(), 30)


def test_names_that_would_act(run_dir: Path) -> None:
    """Escapes in the name of a tensor and of the directory: the terminal must not see them."""
    hostile = run_dir.with_name("x\x1b]2;owned\x07\x1b[2J\u202ey")
    hostile.mkdir()
    for step in (1, 2):
        names = ("\x1b]2;owned\x07\x1b[31mred", "line\nfeed", "[bold]b[/bold]", "[/]")
        weights = {name: np.eye(3) * step for name in names}
        safetensors.numpy.save_file(weights, hostile / f"step-{step}.safetensors")
    with terminal() as screen:
        screen.enter(f"cd {run_dir.parent}; clear; {WATCH} x*y")
        text = screen.wait_for("mean of 4", "[bold]b[/bold]", "[/]", "x\\x1b]2;owned")
        assert "line\\nfeed" in text
        assert screen.show("pane_title") != "owned"
        screen.press("C-c")
        restored(screen, 0)
