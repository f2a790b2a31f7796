"""The part of the page for two checkpoints: what moved, and in how many directions."""

from __future__ import annotations

from collections.abc import Sequence

from rankscope.differences.changes import DELTA, OF_ONE_TYPE
from rankscope.layerkinds import by_layer_kind
from rankscope.pages.run import columns
from rankscope.pages.runcolumns import Value, brief
from rankscope.pages.section import Subject
from rankscope.rows import Row
from rankscope.scene import Curve, DiffScene
from rankscope.views.cells import SHORT_TYPES
from rankscope.views.difference import EXPLAINED, sentence, structure

FACTS = ("status", "status_before", "equal", "loss", "loss_of")


def payload(subject: Subject) -> Row | None:
    """The matrices, the worst first, and what changed in the structure; None of other subjects."""
    if not isinstance(subject, DiffScene):
        return None
    found = subject.difference
    after = {row["name"]: index for index, row in enumerate(found.matrices)}
    before = {row["name_before"]: index for index, row in enumerate(found.matrices)}
    kinds = {
        row["name"]: label for label, rows in by_layer_kind(found.matrices).items() for row in rows
    }
    return {
        "before": found.before,
        "after": found.after,
        "sentence": sentence(found),
        "columns": columns(found.columns),
        "delta": columns(found.delta_columns),
        "directions": DELTA + OF_ONE_TYPE,
        "explained": EXPLAINED,
        "matrices": [
            _matrix(row, kinds[row["name"]], found.columns, found.delta_columns)
            for row in found.matrices
        ],
        "structure": structure(found, everything=True),
        "summary": found.summary,
        "curves": {
            "before": _places(subject.before, before),
            "after": _places(subject.after, after),
            "moved": _places(subject.moved, after),
        },
    }


def _matrix(row: Row, kind: str, keys: Sequence[str], delta_keys: Sequence[str]) -> Row:
    shapes = [row["shape_before"], row["shape"]]
    types = [SHORT_TYPES.get(row[key], row[key]) for key in ("dtype_before", "dtype")]
    return {
        **{key: row[key] for key in FACTS},
        "name": row["name"],
        "name_before": row["name_before"],
        "kind": kind,
        "shapes": shapes,
        "types": types,
        "values": [_value(row, key) for key in keys],
        "values_before": [_value(row, f"{key}_before") for key in keys],
        "changes": [_value(row, f"{key}_change") for key in keys],
        "relative": _value(row, "relative_change"),
        "noise": row.get(f"{DELTA}noise"),
        "delta_status": row.get(f"{DELTA}status"),
        "delta": [_value(row, DELTA + key) for key in delta_keys],
        "notes": row["notes"],
    }


def _value(row: Row, key: str) -> Value:
    return brief(row, key)


def _places(curves: Sequence[Curve], rows: dict[str, int]) -> list[int | None]:
    """Which row each curve is of; None where the matrix stands in one checkpoint only."""
    return [rows.get(curve.name) for curve in curves]
