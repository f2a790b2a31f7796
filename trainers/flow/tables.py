"""Tables of numbers beside a run's snapshots: written as CSV, read again, shown."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from rankscope.errors import InputRejected, OutputFailed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Row = TypeVar("Row", bound=DataclassInstance)


def write_table(path: Path, rows: Sequence[DataclassInstance]) -> None:
    """One line a row under the names of its fields; None is empty.

    Raises:
        OutputFailed: the file cannot be written.
    """
    names = [part.name for part in fields(rows[0])]
    try:
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(astuple(row) for row in rows)
    except OSError as error:
        raise OutputFailed(path, error.strerror or str(error)) from error


def read_table(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of such a file.

    Raises:
        InputRejected: no such file, or not a table of this kind.
    """
    hints = get_type_hints(kind)
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            lines = list(csv.DictReader(handle, restval=""))
        return [kind(**{name: _value(line[name], hints[name]) for name in hints}) for line in lines]
    except OSError as error:
        raise InputRejected(path, error.strerror or str(error)) from error
    except KeyError as error:
        names = ", ".join(hints)
        raise InputRejected(
            path, f"has no column {error.args[0]}; expected a table of {names}"
        ) from error
    except (ValueError, csv.Error) as error:
        names = ", ".join(hints)
        raise InputRejected(path, f"{error}; expected a table of {names}") from error


def _value(text: str, hint: Any) -> Any:
    if hint == float | None:
        return float(text) if text else None
    return hint(text)


def show_table(names: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    """The rows under their names, aligned to the right."""
    lines = [list(names), *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _shown(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
