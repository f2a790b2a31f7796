"""Parquet: a frame as a file, and rows that pass by as a file that grows by row groups.

The file's metadata has one key of ours, `rankscope`: JSON that says what made it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from rankscope.extras import needs
from rankscope.frames import Frame, Kind

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".parquet"

KEY = b"rankscope"

# Of a row group that is kept until it is written: 8 MB of singular values. Readers skip and share
# work by row groups; below some 10 000 rows of scalars the columns' own headers begin to weigh.
GROUP_VALUES = 1_000_000
GROUP_ROWS = 10_000

Fields = Sequence[tuple[str, Kind]]


def check_installed() -> None:
    """`UsageError` where Parquet cannot be written."""
    needs(f"a {SUFFIX} file", "pyarrow", "parquet")


def content(frame: Frame, metadata: Mapping[str, Any]) -> bytes:
    """A whole file; `metadata` is what its document holds beside the frame's rows."""
    import pyarrow as pa

    schema = _schema([(one.name, one.kind) for one in frame.columns], metadata)
    out = io.BytesIO()
    with _writer(out, schema) as writer:
        columns = zip(frame.columns, schema.types, strict=True)
        arrays = [pa.array(one.encoded(), kind) for one, kind in columns]
        writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return out.getvalue()


class RowGroups:
    """Rows written to a file as they come; at most one row group is held.

    Args:
        file: open for writing in binary; not closed here.
        fields: names and kinds of the columns.
        metadata: what made them.
    """

    def __init__(self, file: IO[bytes], fields: Fields, metadata: Mapping[str, Any]) -> None:
        self._schema = _schema(fields, metadata)
        self._writer = _writer(file, self._schema)
        self._rows: list[tuple[Any, ...]] = []
        self._values = 0

    def append(self, row: tuple[Any, ...]) -> None:
        """Add a row, a value for each field; lists may be arrays."""
        self._rows.append(row)
        self._values += sum(len(value) for value in row if hasattr(value, "__len__"))
        if len(self._rows) >= GROUP_ROWS or self._values >= GROUP_VALUES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            columns = zip(*self._rows, strict=True)
            fields = zip(columns, self._schema.types, strict=True)
            arrays = [pa.array(values, kind) for values, kind in fields]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows, self._values = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._flush()
        finally:
            self._writer.close()


def _schema(fields: Fields, metadata: Mapping[str, Any]) -> pa.Schema:
    import pyarrow as pa

    types: Mapping[Kind, Any] = {
        "boolean": pa.bool_(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "text": pa.string(),
        "integers": pa.list_(pa.int64()),
        "numbers": pa.list_(pa.float64()),
        "texts": pa.list_(pa.string()),
        "json": pa.string(),
    }
    # Not ASCII as it is, but half a surrogate pair, which UTF-8 does not hold.
    told = json.dumps(metadata, allow_nan=False)
    return pa.schema([(name, types[kind]) for name, kind in fields], {KEY: told.encode()})


def _writer(file: IO[bytes], schema: pa.Schema) -> Any:
    """Text repeats itself from row to row, which a dictionary saves; numbers do not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = [field.name for field in schema if field.type == pa.string()]
    return pq.ParquetWriter(file, schema, use_dictionary=words or False, compression="zstd")
