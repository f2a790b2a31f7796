"""Programs that tests drive: a browser, a terminal. Without one its tests skip, but not in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def required(program: str) -> str:
    """The path of a program; the test is skipped without it, or fails where all must be there."""
    found = shutil.which(program)
    if found is None:
        reason = f"{program} is not installed"
        if os.environ.get("RANKSCOPE_TOOLS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return found
