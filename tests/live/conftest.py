"""What the tests of the live view share."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankscope.live import watch


@pytest.fixture(autouse=True)
def at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look whenever it is asked for, however long looking takes; a cache of the test's own."""
    monkeypatch.setattr(watch, "SHARE", 1e9)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
