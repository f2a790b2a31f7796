"""How one value of an analysis reads, and the headings of the columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rankscope.metrics import METRICS
from rankscope.records import INFINITE
from rankscope.rows import Row
from rankscope.trajectory import CLOSED, EXACT, MEASURED, RATIO, VACUOUS
from rankscope.views.numbers import number

SHORT_TYPES = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8e4",
    "float8_e5m2": "fp8e5",
}

LACKING = "lacking"  # the column of matrices that an average is without

# Columns of a run's log, as headings.
LOG_HEADINGS = {
    "epoch": "epoch",
    "train_loss": "train loss",
    "test_loss": "test loss",
    "train_accuracy": "train acc.",
    "test_accuracy": "test acc.",
}

# Columns that need several snapshots, as headings.
THEORY_HEADINGS = {
    RATIO: "norm ratio",
    EXACT: "bound exact",
    MEASURED: "bound measured",
    CLOSED: "bound closed",
    VACUOUS: "vacuous",
}

# A number in a column's key that a heading may round: one with a fraction or an exponent.
FRACTION = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)|\d+\.\d+")


def cell(row: Row, key: str) -> str:
    """A value as a person reads it; `~` marks one that is not exact."""
    note = row["notes"].get(key, "")
    if note.startswith(INFINITE):
        return "inf"
    return ("~" if "not exact" in note else "") + number(row[key])


def headings(keys: Sequence[str]) -> tuple[str, ...]:
    """The headings of columns: each metric's own, with its parameters in four digits.

    Where that would make two columns read the same, these have all their digits.
    """
    short = [heading(FRACTION.sub(lambda found: f"{float(found[0]):.4g}", key)) for key in keys]
    return tuple(
        text if short.count(text) == 1 else heading(key)
        for text, key in zip(short, keys, strict=True)
    )


def heading(key: str) -> str:
    """The heading of one column, its parameters as they are in the key."""
    if key == LACKING:
        return "left out"
    if key in LOG_HEADINGS:
        return LOG_HEADINGS[key]
    name, rest = split_key(key)
    heads = {metric.name: metric.heading for metric in METRICS} | THEORY_HEADINGS
    return " ".join(part for part in (heads.get(name, name), rest) if part)


def split_key(key: str) -> tuple[str, str]:
    """`rank@0.01` -> the metric's name, and the rest."""
    match = re.match(r"(\w+)(.*)", key)
    return (match[1], match[2]) if match else (key, "")


def step(row: Row) -> str:
    """The training step of a row, or a dash."""
    return "-" if row["step"] is None else str(row["step"])
