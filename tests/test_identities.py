"""What tells that a file is still the one that was read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rankscope.identities import identity


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
