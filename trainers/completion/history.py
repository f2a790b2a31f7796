"""What a run's records say, read again without torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankscope.errors import InputRejected

RECORDS = "completion.jsonl"  # `recording` says what is in it


@dataclass(frozen=True, slots=True)
class Moment:
    """One record; what is null there, undefined or not finite, is NaN.

    Attributes:
        step: updates done.
        error_all: mean of (W - W*)^2 over all entries.
        effective_rank: of W.
        sigma: the recorded singular values, by their number from 1.
    """

    step: int
    error_all: float
    effective_rank: float
    sigma: dict[int, float]


def read_history(run: Path) -> list[Moment]:
    """The records of a run directory; a last line that a killed run has not finished is left out.

    Raises:
        InputRejected: it has no such file, or a damaged one.
    """
    path = run / RECORDS
    try:
        text = path.read_text("utf-8")
        return [_moment(json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]
    except OSError as error:
        raise InputRejected(path, f"cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputRejected(path, f"holds no records of a completion ({error!r})") from error


def _moment(line: dict[str, Any]) -> Moment:
    return Moment(
        int(line["step"]),
        _number(line["error_all"]),
        _number(line["effective_rank"]),
        {int(number): _number(value) for number, value in line["sigma"].items()},
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
