"""Who writes a run is told without disturbing him."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rankscope.live.writerlock import is_locked
from rankscope.snapshots import SnapshotWriter

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="Linux lists its locks")

WRITER = """
import sys
from rankscope.snapshots import SnapshotWriter
writer = SnapshotWriter(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
writer.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def start(run: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_a_writer_in_another_process(tmp_path: Path) -> None:
    log = tmp_path / "run" / "log.jsonl"
    assert is_locked(log) is None
    with start(tmp_path / "run") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert is_locked(log) is True
        process.stdin.write("close\n")
        process.stdin.flush()
        assert process.stdout.readline() == "closed\n"
        assert is_locked(log) is False
    with start(tmp_path / "run") as process:
        assert is_locked(log) is True
        process.kill()
        process.wait()
        assert is_locked(log) is False


def test_another_log_is_another_matter(tmp_path: Path) -> None:
    with SnapshotWriter(tmp_path / "one"), SnapshotWriter(tmp_path / "two"):
        pass
    with SnapshotWriter(tmp_path / "one"):
        assert is_locked(tmp_path / "one" / "log.jsonl") is True
        assert is_locked(tmp_path / "two" / "log.jsonl") is False


def test_looking_never_keeps_a_writer_from_starting(tmp_path: Path) -> None:
    """Taking the lock to see whether it is free would."""
    with SnapshotWriter(tmp_path):
        pass
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            is_locked(tmp_path / "log.jsonl")

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            with SnapshotWriter(tmp_path):
                pass
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_devices_that_are_numbered_differently(tmp_path: Path) -> None:
    """On btrfs and overlays; the process that holds the lock tells then."""
    log = tmp_path / "log.jsonl"
    with SnapshotWriter(tmp_path):
        lines = Path("/proc/locks").read_text().splitlines()
        inode = str(log.stat().st_ino)
        (line,) = (line for line in lines if line.split()[5].endswith(f":{inode}"))
        device = line.split()[5].rpartition(":")[0]
        fake = tmp_path / "locks"
        fake.write_text(line.replace(device, "ff:fe"))
        assert is_locked(log, fake) is True
        fake.write_text(line.replace(device, "ff:fe").replace(line.split()[4], "1"))
        assert is_locked(log, fake) is False
        fake.write_text("nonsense\n\n")
        assert is_locked(log, fake) is False
    assert is_locked(log, tmp_path / "none") is None
