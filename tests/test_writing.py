"""Files that appear whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from rankscope import writing
from rankscope.errors import OutputFailed
from rankscope.writing import atomic_path, atomic_write, remove_temporaries


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
        ours = writing._temporary(tmp_path / "step-1.safetensors")
        ours.write_bytes(b"half")
        folder = writing._temporary(tmp_path / "step-2.safetensors")
        folder.mkdir()
        (folder / "step-2.safetensors").touch()
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "kept").touch()
        writing._temporary(tmp_path / "link").symlink_to(outside)
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
