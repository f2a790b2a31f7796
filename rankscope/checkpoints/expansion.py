"""A bound on what compressed or sparse files may claim to hold."""

from __future__ import annotations

from pathlib import PurePath

from rankscope.errors import InputRejected

# Ours: what declares more than this, and this many times what it stores, is no checkpoint.
# Deflate itself reaches 1032 at most.
MAX_EXPANSION = 1000
FREE_BYTES = 4 * 2**30


def check_expansion(path: PurePath, name: str, declared: int, stored: int) -> None:
    """Refuse a tensor of which a file declares far more bytes than it stores."""
    if declared > FREE_BYTES and declared > MAX_EXPANSION * stored:
        raise InputRejected(
            path,
            f"declares {declared} bytes and stores {stored}, expected at most "
            f"{MAX_EXPANSION} times as many",
            tensor=name,
        )
