"""Parsed JSON from somebody else's file, read key by key with its types checked.

A value of the wrong type is refused with the file and the key; keys that nobody asks for are
ignored, so that a later version may add some.
"""

from __future__ import annotations

import json
import math
from pathlib import PurePath
from typing import Any, TypeVar

from rankscope.errors import InputRejected
from rankscope.files import open_file

_T = TypeVar("_T")


def read_json(path: PurePath, limit: int) -> object:
    """The parsed content of a file of at most `limit` bytes."""
    return parse_json(path, read_limited(path, limit), "")


def read_limited(path: PurePath, limit: int, advice: str = "") -> bytes:
    """The content of a file of at most `limit` bytes; `advice` is for whoever has a larger one."""
    file = open_file(path)
    try:
        if file.size > limit:
            reason = f"{file.size} bytes, expected at most {limit}"
            raise InputRejected(path, f"{reason}: {advice}" if advice else reason)
        return bytes(file.read(0, file.size))
    finally:
        file.close()


def parse_json(path: PurePath, data: bytes, where: str) -> object:
    """Parse JSON; `where` says which part of the file it is ("line 3 ")."""
    try:
        value: object = json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise InputRejected(path, f"{where}is nested too deeply") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise InputRejected(path, f"{where}is not JSON: {error}") from error
    return value


class JsonObject:
    """A JSON object whose members are read with checks.

    A member that is absent or null is None, or the default where the method takes one.

    Attributes:
        value: the parsed object.
    """

    def __init__(self, path: PurePath | str, where: str, value: object) -> None:
        self._path = path
        self._where = where
        if not isinstance(value, dict):
            raise InputRejected(
                path, f"{where or 'content'} is {_shown(value)}, expected an object"
            )
        self.value: dict[str, Any] = value

    def wrong(self, key: str, expected: str) -> InputRejected:
        """The error for a member, to be raised."""
        found = _shown(self.value[key]) if key in self.value else "missing"
        return InputRejected(self._path, f"{self._name(key)} is {found}, expected {expected}")

    def needed(self, key: str, value: _T | None) -> _T:
        """What a method below returned for `key`, which must be there."""
        if value is None:
            raise self.wrong(key, "a value")
        return value

    def text(self, key: str) -> str | None:
        """A string."""
        value = self.value.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A boolean."""
        value = self.value.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def integer(self, key: str, minimum: int) -> int | None:
        """An integer of at least `minimum` that 64 bits hold."""
        value = self.value.get(key)
        if value is None:
            return None
        if type(value) is not int or not minimum <= value < 2**63:
            raise self.wrong(key, f"an integer of at least {minimum}")
        return value

    def number(self, key: str, minimum: float = -math.inf) -> float | None:
        """A finite number of at least `minimum`."""
        value = self.value.get(key)
        if value is None:
            return None
        if not is_finite(value) or value < minimum:
            least = "" if minimum == -math.inf else f" of at least {minimum:g}"
            raise self.wrong(key, f"a number{least}")
        return float(value)

    def array(self, key: str) -> list[Any]:
        """A list; empty when absent."""
        value = self.value.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def objects(self, key: str) -> list[JsonObject]:
        """A list of objects; empty when absent."""
        return [
            JsonObject(self._path, f"{self._name(key)}[{index}]", item)
            for index, item in enumerate(self.array(key))
        ]

    def object(self, key: str) -> JsonObject | None:
        """An object."""
        value = self.value.get(key)
        return None if value is None else JsonObject(self._path, self._name(key), value)

    def texts(self) -> dict[str, str]:
        """All members, which must be strings."""
        return {key: text for key in self.value if (text := self.text(key)) is not None}

    def _name(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key


def is_finite(value: object) -> bool:
    """Whether a parsed value is a number that a float holds."""
    # An integer of thousands of digits is JSON, and no float.
    if type(value) is int:
        return abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _shown(value: object) -> str:
    """A JSON value in an error message, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
