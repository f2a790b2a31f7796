"""Positioned reads of files of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rankscope import files
from rankscope.errors import InputRejected
from rankscope.files import LocalFile


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
