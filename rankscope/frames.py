"""Rows -> columns with types: what pandas, Polars and Parquet are given of a document.

JSON has neither columns nor types: a column of which every value is null could be anything, and a
library that guesses makes an integer with a missing value a float. Here a key says what it is.
Values that do not fit what their key says (documents of another version, numbers beyond 64 bits,
keys of a log that only its writer knows) decide by themselves.

docs/python.md describes the types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rankscope.errors import UsageError
from rankscope.extras import needs
from rankscope.metrics import METRICS
from rankscope.rows import Row
from rankscope.table import SCHEMA
from rankscope.text import encodable
from rankscope.trajectory import CLOSED, EXACT, MEASURED, RATIO, VACUOUS

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

# `json` is what has no type of its own: an object, or values of several kinds.
Kind = Literal["boolean", "integer", "number", "text", "integers", "numbers", "texts", "json"]

_KEYS: Mapping[Kind, str] = {
    "boolean": "averaged equal failure holds missing nesterov unnamed",
    "integer": (
        "B accumulation allowed_rank batch_size decisive depth effective_batch exact failed "
        "first_useful_width inputs_per_sample largest m matrices n n_max n_min pairs "
        "peak_bytes runs samples seed seeds smallest snapshots step steps undecided unmeasured "
        "width world_size"
    ),
    "number": (
        "after agreement before closed_form contrast crossing delta_noise epoch eps excess flops "
        "lambda lhs loss lr margin momentum mu page page_p possible relative_change rhs sigma_next "
        "slack tau tau_p test_accuracy test_loss threshold train_accuracy train_loss weight_decay"
    ),
    "text": (
        "content data delta_status dtype dtype_before kind kind_before loss_of metric model name "
        "name_before no_bound note optimiser reason role route rule same_as sentence source "
        "status status_before value varied verdict what"
    ),
    "integers": "shape shape_before",
    "numbers": "levels means",
    "texts": "remarks",
    "json": "assumption bound_kept fixed notes",
}

# What depends on the question: the columns of an analysis, by the names that their keys begin with.
_METRICS: Mapping[str, Kind] = {
    **{metric.name: "integer" if metric.integer else "number" for metric in METRICS},
    RATIO: "number",
    CLOSED: "number",
    EXACT: "integer",
    MEASURED: "integer",
    VACUOUS: "boolean",
}

# `rank@0.01`, `schatten_norm(p=0.5)`; in a comparison `rank_before`, `rank_change`, `delta_rank`.
METRIC = re.compile(r"(?:delta_)?(\w+?)(?:_before|_change)?\b")

KINDS: Mapping[str, Kind] = {key: kind for kind, keys in _KEYS.items() for key in keys.split()}

# Where a row is a snapshot or a run: counts, and means of what is counted.
MEANS = ("summary", "runs")
COUNTS = ("averaged", "missing")

# What was and what is, where that is no metric's value.
SIDES = ("before", "after")
CHANGED: Mapping[str, Kind] = {"renamed": "text", "retyped": "text", "reshaped": "integers"}

# The keys of an analysis' matrices, before and behind the columns of the question: a checkpoint may
# have none, and what is read off it still has its columns.
BEFORE = ("name", "step", "shape", "dtype", "kind", "role", "depth", "averaged", "status")
BEHIND = ("route", "notes", "content", "source")


@dataclass(frozen=True, slots=True)
class Column:
    """A key of all rows.

    Attributes:
        name: the key.
        kind: of the values.
        values: one a row; None where there is none.
    """

    name: str
    kind: Kind
    values: Sequence[Any]

    def encoded(self) -> Sequence[Any]:
        """The values as a library of typed columns takes them: what is JSON as its text."""
        return [_json(value) for value in self.values] if self.kind == "json" else self.values


@dataclass(frozen=True, slots=True)
class Frame:
    """The rows of a part of a document, column by column.

    Attributes:
        part: the key of the rows in the document.
        columns: in the order of the document, all of one length.
    """

    part: str
    columns: tuple[Column, ...]


def frame(document: Mapping[str, Any], part: str) -> Frame:
    """A part of a document as columns; an analysis has those of its matrices without any, too.

    Raises:
        UsageError: the document has no such rows.
    """
    parts = [key for key, value in document.items() if _are_rows(value)]
    if part not in parts:
        raise UsageError(f"rows {part!r} are not there, expected one of {', '.join(parts)}")
    rows: Sequence[Row] = document[part]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if not rows and part == "matrices" and document["schema"] == SCHEMA:
        keys = [*BEFORE, *document["provenance"]["columns"], *BEHIND]
    return Frame(part, tuple(_column(part, key, [row.get(key) for row in rows]) for key in keys))


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def kind_of(part: str, key: str) -> Kind | None:
    """What the values of a key are; None for one that is not known."""
    found = METRIC.match(key)
    metric = _METRICS.get(found[1]) if found else None
    if part in MEANS and (metric or key in COUNTS):
        return "number" if metric else "integer"
    if key in SIDES and part in CHANGED:
        return CHANGED[part]
    return metric or KINDS.get(key)


def _column(part: str, key: str, values: Sequence[Any]) -> Column:
    known = [value for value in values if value is not None]
    said = kind_of(part, key)
    kinds = (*((said,) if said else ()), *(_FITS if known else ("number",)))
    kind: Kind = next(kind for kind in kinds if all(map(_FITS[kind], known)))
    convert = _CONVERT.get(kind)
    made = [None if v is None else convert(v) for v in values] if convert else values
    return Column(encodable(key), kind, made)


def _is_integer(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_number(value: object) -> bool:
    # An integer of thousands of digits is JSON, and no float.
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**1023)


def _all(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list | tuple) and all(map(fits, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


# In the order in which they are tried where a key does not say: `json` takes everything.
_FITS: Mapping[Kind, Callable[[object], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "number": _is_number,
    "text": _is_text,
    "integers": _all(_is_integer),
    "numbers": _all(_is_number),
    "texts": _all(_is_text),
    "json": lambda _: True,
}

_CONVERT: Mapping[Kind, Callable[[Any], Any]] = {
    "number": float,
    "text": encodable,
    "numbers": lambda values: [float(value) for value in values],
    "texts": lambda values: [encodable(value) for value in values],
}


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(_encodable(value), ensure_ascii=False)


def _encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {encodable(key): _encodable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(one) for one in value]
    return encodable(value) if isinstance(value, str) else value


def to_pandas(found: Frame) -> pd.DataFrame:
    """What `pandas.DataFrame` makes of the rows, but that no column loses its type.

    Raises:
        UsageError: pandas is not installed.
    """
    needs("to_pandas", "pandas", "pandas")
    import pandas as pd

    text = pd.Series([""]).dtype  # which one it is depends on pandas' version

    def series(column: Column) -> pd.Series:
        lacking = any(value is None for value in column.values)
        types = {
            "boolean": "boolean" if lacking else "bool",
            "integer": "Int64" if lacking else "int64",
            "number": "float64",
            "text": text,
        }
        return pd.Series(column.values, dtype=types.get(column.kind, "object"))

    return pd.DataFrame({column.name: series(column) for column in found.columns})


def to_polars(found: Frame) -> pl.DataFrame:
    """The columns with Polars' types: lists as lists, what is JSON as its text.

    Raises:
        UsageError: Polars is not installed.
    """
    needs("to_polars", "polars", "polars")
    import polars as pl

    types: Mapping[Kind, Any] = {
        "boolean": pl.Boolean,
        "integer": pl.Int64,
        "number": pl.Float64,
        "text": pl.String,
        "integers": pl.List(pl.Int64),
        "numbers": pl.List(pl.Float64),
        "texts": pl.List(pl.String),
        "json": pl.String,
    }
    return pl.DataFrame(
        [pl.Series(one.name, one.encoded(), dtype=types[one.kind]) for one in found.columns]
    )
