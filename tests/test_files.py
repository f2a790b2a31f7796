"""Positioned reads, and files that appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rankscope import files
from rankscope.errors import InputRejected, OutputFailed
from rankscope.files import (
    LocalFile,
    atomic_path,
    atomic_write,
    identity,
    remove_temporaries,
)


class TestLocalFile:
    def test_reads_exactly(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        path.write_bytes(bytes(range(100)))
        file = LocalFile(path)
        assert (file.size, file.path) == (100, path)
        assert file.read(10, 5) == bytes(range(10, 15))
        assert file.read(0, 100) == bytes(range(100))
        assert file.read(100, 0) == b""
        with pytest.raises(InputRejected, match="ends at byte 100, expected 101: truncated or"):
            file.read(1, 100)
        file.close()

    def test_goes_on_after_a_short_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # One call returns at most about 2 GiB on Linux; here at most 7 bytes.
        path = tmp_path / "f"
        path.write_bytes(bytes(range(100)))
        real = files._pread
        monkeypatch.setattr(files, "_pread", lambda fd, count, at: real(fd, min(count, 7), at))
        file = LocalFile(path)
        assert file.read(3, 90) == bytes(range(3, 93))
        with pytest.raises(InputRejected, match="ends at byte 100"):
            file.read(50, 51)
        file.close()

    def test_an_error_of_the_system_is_a_rejection(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(fd: int, count: int, offset: int) -> bytes:
            raise OSError(5, "Input/output error")

        (tmp_path / "f").write_bytes(bytes(10))
        file = LocalFile(tmp_path / "f")
        monkeypatch.setattr(files, "_pread", fail)
        with pytest.raises(InputRejected, match="cannot be read: Input/output error"):
            file.read(0, 4)
        file.close()

    @pytest.mark.parametrize("name", ["gone", "a\0b", "\ud800", "x" * 5000])
    def test_a_name_that_no_file_has(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputRejected, match="cannot be opened: "):
            LocalFile(f"{tmp_path}/{name}")

    def test_refuses_directories_and_pipes_and_leaks_nothing(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        before = len(os.listdir("/dev/fd"))
        for path in (tmp_path, tmp_path / "pipe"):
            with pytest.raises(InputRejected, match="not a regular file"):
                LocalFile(path)
        assert len(os.listdir("/dev/fd")) == before

    def test_closing_twice_is_fine(self, tmp_path: Path) -> None:
        (tmp_path / "f").touch()
        file = LocalFile(tmp_path / "f")
        file.close()
        file.close()
        with pytest.raises(InputRejected, match="cannot be read"):
            file.read(0, 1)


class TestIdentity:
    def test_changes_with_content_and_replacement(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        path.write_bytes(b"one")
        os.utime(path, ns=(1, 1))
        first = identity(path)
        assert first == identity(str(path))
        os.utime(path, ns=(1, 2))
        touched = identity(path)
        (tmp_path / "g").write_bytes(b"two")
        os.utime(tmp_path / "g", ns=(1, 1))
        (tmp_path / "g").replace(path)
        assert len({first, touched, identity(path)}) == 3

    def test_of_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            identity(tmp_path / "gone")


class TestAtomicWrite:
    def test_appears_whole_with_ordinary_permissions(self, tmp_path: Path) -> None:
        target, plain = tmp_path / "f", tmp_path / "plain"
        plain.touch()
        with atomic_write(target) as file:
            file.write(b"new")
            assert not target.exists()
        with atomic_path(tmp_path / "g") as inner:
            inner.write_bytes(b"new")
            inner.chmod(0o600)  # as safetensors leaves its files
            assert not (tmp_path / "g").exists()
        assert target.read_bytes() == (tmp_path / "g").read_bytes() == b"new"
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert modes == {stat.S_IMODE(plain.stat().st_mode)}
        assert len(list(tmp_path.iterdir())) == 3

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("x")])
    def test_a_failure_leaves_the_old_file_and_nothing_else(
        self, tmp_path: Path, error: Exception
    ) -> None:
        target = tmp_path / "f"
        target.write_bytes(b"old")
        expected = OutputFailed if isinstance(error, OSError) else ValueError

        def write() -> None:
            with atomic_write(target) as file:
                file.write(b"new")
                raise error

        def write_by_path() -> None:
            with atomic_path(target) as inner:
                inner.write_bytes(b"new")
                raise error

        for attempt in (write, write_by_path):
            with pytest.raises(expected):
                attempt()
        assert target.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [target]

    def test_without_a_directory(self, tmp_path: Path) -> None:
        for writer in (atomic_write, atomic_path):
            with (
                pytest.raises(OutputFailed, match=r"gone/f: not written: No such file"),
                writer(tmp_path / "gone" / "f"),
            ):
                pass

    def test_over_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "d").mkdir()
        with pytest.raises(OutputFailed), atomic_write(tmp_path / "d") as file:
            file.write(b"new")
        assert [path.name for path in tmp_path.iterdir()] == ["d"]


class TestRemoveTemporaries:
    def test_removes_what_killed_writers_left_and_nothing_else(self, tmp_path: Path) -> None:
        ours = files._temporary(tmp_path / "step-1.safetensors")
        ours.write_bytes(b"half")
        folder = files._temporary(tmp_path / "step-2.safetensors")
        folder.mkdir()
        (folder / "step-2.safetensors").touch()
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "kept").touch()
        files._temporary(tmp_path / "link").symlink_to(outside)
        for name in ("step-0.safetensors", ".hidden", ".x.tmp", "a.1-01234567.tmp"):
            (tmp_path / name).touch()
        remove_temporaries(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            ".hidden",
            ".x.tmp",
            "a.1-01234567.tmp",
            "outside",
            "step-0.safetensors",
        ]
        assert (outside / "kept").exists()
