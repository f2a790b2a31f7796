"""The gate's settings in a project: `rankscope.toml`, or a table of its pyproject.toml.

The nearest one upwards of the working directory holds; paths in it are relative to its own.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from rankscope.errors import InputRejected, UsageError
from rankscope.jsonobject import is_finite, read_limited
from rankscope.matrices import Selection
from rankscope.metrics.thresholded import DEFAULT_EPS, Norm

OWN = "rankscope.toml"
SHARED = "pyproject.toml"

MAX_BYTES = 10_000_000  # no project file that people write is a hundredth of it

KEYS = ("baseline", "rules", "include", "exclude", "eps", "norm")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a project has settled for its checks.

    Attributes:
        path: the file; None where there is none.
        baseline: where the baseline lies.
        rules: as text.
        selection: which matrices; None where nothing is said.
        eps: thresholds of rules that need no baseline.
        norm: what eps is relative to.
    """

    path: Path | None = None
    baseline: Path | None = None
    rules: tuple[str, ...] = ()
    selection: Selection | None = None
    eps: tuple[float, ...] = (DEFAULT_EPS,)
    norm: Norm = "frobenius"


def find_configuration(start: Path) -> Configuration:
    """The settings of the nearest project upwards that has any.

    Raises:
        InputRejected: a file is no TOML.
        UsageError: a setting that is not known, or of the wrong kind.
    """
    for directory in (start.absolute(), *start.absolute().parents):
        for name in (OWN, SHARED):
            path = directory / name
            if os.path.lexists(path):  # a broken link is no reason to check without rules
                found = _section(path)
                if found is not None:
                    return _configuration(path, found)
    return Configuration()


def read_configuration(path: Path) -> Configuration:
    """The settings in a file that the user names; likewise."""
    found = _section(path)
    if found is None:
        raise InputRejected(path, "has no [tool.rankscope.check]")
    return _configuration(path, found)


def _section(path: Path) -> Mapping[str, Any] | None:
    """The gate's table; a file of our own may hold it under `check`, or be it."""
    try:
        document: Any = tomllib.loads(read_limited(path, MAX_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputRejected(path, f"is not TOML: {error}") from error
    found = document
    for key in ("tool", "rankscope", "check"):
        found = found.get(key) if isinstance(found, dict) else None
    if found is None and path.name != SHARED:
        found = document.get("check", document)
    if found is not None and not isinstance(found, dict):
        raise UsageError(f"{path}: check is no table")
    return found


def _configuration(path: Path, found: Mapping[str, Any]) -> Configuration:
    for key in found:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KEYS)}"
            raise UsageError(f"{path}: {key} is not known; {hint}")
    baseline = found.get("baseline")
    if baseline is not None and not isinstance(baseline, str):
        raise UsageError(f"{path}: baseline is {baseline!r}, expected a path")
    norm = found.get("norm", "frobenius")
    if norm not in get_args(Norm):
        raise UsageError(f"{path}: norm is {norm!r}, expected one of {', '.join(get_args(Norm))}")
    selection = None
    if "include" in found or "exclude" in found:
        selection = Selection(
            _texts(path, found, "include"), _texts(path, found, "exclude"), settled=True
        )
    return Configuration(
        path,
        None if baseline is None else path.parent / baseline,
        _texts(path, found, "rules"),
        selection,
        _levels(path, found.get("eps", DEFAULT_EPS)),
        cast("Norm", norm),
    )


def _texts(path: Path, found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = found.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UsageError(f"{path}: {key} is {value!r}, expected a list of strings")
    return tuple(value)


def _levels(path: Path, value: object) -> tuple[float, ...]:
    levels = value if isinstance(value, list) else [value]
    if not levels or not all(map(is_finite, levels)):
        raise UsageError(f"{path}: eps is {value!r}, expected a number or several")
    return tuple(map(float, levels))
