"""JSON headers and indices of checkpoints: every name once, every name text.

JSON readers differ on a name that stands twice; the last one wins in most, so that two programs
see different tensors in one file. Here it is refused, as is what no screen or database can hold.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from rankscope.errors import InputRejected


def parse_strict(path: PurePath, data: bytes | bytearray, what: str) -> Any:
    """Parse UTF-8 JSON.

    Args:
        path: the file, for messages.
        data: the JSON.
        what: how messages call it: "header", "index".

    Raises:
        InputRejected: not UTF-8, not JSON, nested too deeply, larger than memory, a name twice in
            one object, or a name with half of a surrogate pair.
    """

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            raise InputRejected(
                path, f"name stands twice in the {what}, expected once: {_twice(pairs)!r}"
            )
        for name in built:
            if not name.isascii() and not _is_text(name):
                raise InputRejected(path, f"name in the {what} is not Unicode text: {name!r}")
        return built

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=build)
    except UnicodeDecodeError as error:
        reason = f"{what} is not UTF-8: {error.reason} at byte {error.start}"
    except RecursionError:
        reason = f"{what} is nested too deeply"
    except MemoryError:
        reason = f"{what} of {len(data)} bytes needs more memory than there is"
    except ValueError as error:
        reason = f"{what} is not JSON: {error}"
    raise InputRejected(path, reason)


def _twice(pairs: list[tuple[str, Any]]) -> str:
    """The first name that stands before."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("no name stands twice")


def _is_text(name: str) -> bool:
    # JSON's \ud800 alone is half a character: no encoding can hold it.
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
