"""Codes that are numbers by themselves, fp8 or int8, times scales: of all, a row, a block.

Layout: `weight` (out, in), or a stack of them, and beside it one of

- `weight_scale_inv`: DeepSeek's fp8, transformers' finegrained fp8 (it multiplies, in spite of its
  name); a scale for every block of `weight_block_size`, the last blocks cut off at the edge;
- `weight_scale`: compressed-tensors (`float-quantized`, `int-quantized`), FBGEMM, ModelOpt; a scale
  for all, for each output (out, 1), or for each run of inputs (out, groups);
- `scale_weight`: ComfyUI, a scale for all.

weight = codes scale, or (codes - zero point) scale where compressed-tensors stores zero points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rankscope.checkpoints.dequantisation.bits import powers_of_two
from rankscope.checkpoints.dequantisation.packed import weight_groups
from rankscope.checkpoints.dequantisation.scheme import (
    MAX_INTEGER,
    SCALE_TYPES,
    Scheme,
    Unfit,
    expect_shape,
    expect_type,
    present,
    shown,
)
from rankscope.checkpoints.dequantisation.stored import StoredTensors
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.records import MatrixSpec, TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rankscope.records import Stored

FP8 = ("float8_e4m3fn", "float8_e5m2")

# A power of two as its exponent plus 127, as a type of its own or as bytes (MXFP8).
EXPONENTS = ("float8_e8m0fnu", "uint8")


MANY_SIZES = 4  # of blocks, in a reason


class Grid(NamedTuple):
    """How scales lie over a tensor.

    Attributes:
        stacked: each matrix along the first axis has scales of its own.
        rows: scales along the outputs.
        columns: scales along the inputs.
        height: outputs to a scale.
        width: inputs to a scale.
    """

    stacked: bool
    rows: int
    columns: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class ScaledWeight:
    """A weight as codes and scales.

    Attributes:
        info: the tensor as it is listed, of the same name and shape as the codes.
        scales: the name of the scales.
        zeros: the name of the zero points, "" where there are none.
        grid: how both lie over the codes.
    """

    info: TensorInfo
    scales: str
    zeros: str
    grid: Grid

    def read(
        self, stored: StoredTensors, spec: MatrixSpec, rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """A window; scales are read for the blocks that it touches."""
        import numpy as np

        window = stored.window(spec.tensor, spec.index, rows, columns).astype(np.float32)
        if self.zeros:
            window -= self._spread(stored, self.zeros, spec, rows, columns)
        window *= self._spread(stored, self.scales, spec, rows, columns)
        return window

    def _spread(
        self, stored: StoredTensors, name: str, spec: MatrixSpec, rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """A table's number for each element of a window; an axis along which it is one is 1."""
        import numpy as np

        grid = self.grid
        if grid.stacked and not spec.index:  # not taken apart: the first axis is that of the rows
            if grid.rows * grid.columns > 1:
                raise stored.rejected(name, "scales a stack of matrices, which this is not")
            return _numbers(stored.flat(name, rows.start, rows.stop)).reshape(-1, 1)
        down = slice(rows.start // grid.height, (rows.stop - 1) // grid.height + 1)
        along = slice(columns.start // grid.width, (columns.stop - 1) // grid.width + 1)
        if grid.columns > 1:
            index = spec.index if grid.stacked else ()
            table = _numbers(stored.window(name, index, down, along))
        else:
            first = spec.index[0] * grid.rows if grid.stacked else 0
            column = stored.flat(name, first + down.start, first + down.stop)
            table = _numbers(column).reshape(-1, 1)
        if len(table) > 1:
            table = table[np.arange(rows.start, rows.stop) // grid.height - down.start]
        if table.shape[1] > 1:
            place = np.arange(columns.start, columns.stop) // grid.width - along.start
            table = table[:, place]
        return table


def _numbers(table: Stored) -> NDArray[np.float32]:
    """Scales as numbers, or zero points."""
    import numpy as np

    return powers_of_two(table) if table.dtype.name in EXPONENTS else table.astype(np.float32)


def _tables(stored: StoredTensors, name: str, _: ModelFiles) -> tuple[str, ...] | None:
    if stored.infos[name].dtype not in (*FP8, "int8"):
        return None
    tables = stored.those_of(*_scales(name))
    return tables + stored.those_of(f"{name}_zero_point", f"{name}_scale_2") if tables else None


def _scales(name: str) -> tuple[str, ...]:
    """What the scales of a weight may be called."""
    own = (f"{name}_scale_inv", f"{name}_scale")
    parent, dot, last = name.rpartition(".")
    return (*own, f"{parent}{dot}scale_weight") if last == "weight" else own


def _weight(stored: StoredTensors, name: str, files: ModelFiles) -> ScaledWeight:
    config = files.quantisation
    tables = stored.those_of(*_scales(name))
    if len(tables) > 1 or f"{name}_scale_2" in stored:
        raise Unfit(f"scaled by {' and '.join(_tables(stored, name, files) or ())}, expected one")
    codes, scales = present(stored, name), present(stored, tables[0])
    if codes.dtype == "int8" and config.get("quant_method") != "compressed-tensors":
        # Others (ChatGLM's int4, FP4 of DeepSeek's kind) pack two codes into such a byte.
        raise Unfit(
            "int8 codes of an unknown tool, expected quant_method compressed-tensors in config.json"
        )
    expect_type(scales, *SCALE_TYPES, *EXPONENTS)
    grid = _grid(codes.shape, scales, config)
    zeros = ""
    if f"{name}_zero_point" in stored:
        zeros = f"{name}_zero_point"
        expect_type(present(stored, zeros), codes.dtype)
        expect_shape(present(stored, zeros), scales.shape)
    in_blocks = grid.rows > 1 and grid.height > 1
    encoding = f"fp8 block {grid.height}x{grid.width}" if in_blocks else f"{codes.dtype} scaled"
    sources = (name, scales.name, *([zeros] if zeros else []))
    info = TensorInfo(name, codes.shape, "float32", encoding=encoding, sources=sources)
    return ScaledWeight(info, scales.name, zeros, grid)


def _grid(shape: tuple[int, ...], scales: TensorInfo, config: dict[str, Any]) -> Grid:
    """How scales lie over a tensor of this shape; raises `Unfit` where that is not certain."""
    table = scales.shape
    if len(shape) < 2 or 0 in (*shape, *table):
        raise Unfit(f"is of shape {list(shape)}, {scales.name} of {list(table)}: nothing to scale")
    whole, given = math.prod(shape), _block_size(config)
    if scales.size == 1:
        if given is not None and len(shape) == 2 and _blocks_of(shape, given) != (1, 1):
            raise Unfit(f"{scales.name} has one element, expected one for each {_by(given)} block")
        return Grid(False, 1, 1, whole, whole)
    if scales.size == shape[0] == table[0] and (len(shape) > 2 or len(table) < 3):
        # One for each first index: an output of a matrix, a channel, a matrix of a stack.
        stacked = len(shape) > 2
        return Grid(stacked, *((1, 1, whole, whole) if stacked else (shape[0], 1, 1, whole)))
    if len(table) != len(shape) or len(shape) > 3 or table[:-2] != shape[:-2]:
        raise Unfit(f"{scales.name} is of shape {list(table)}, which does not fit {list(shape)}")
    height, width = _extent(shape[-2:], scales, config)
    return Grid(len(shape) == 3, table[-2], table[-1], height, width)


def _extent(shape: tuple[int, ...], scales: TensorInfo, config: dict[str, Any]) -> tuple[int, int]:
    """Rows and columns that one scale is for; raises `Unfit` where config.json disagrees."""
    table = scales.shape[-2:]
    (rows, columns), given = shape, _block_size(config)
    sizes = [] if given is None else [given]
    for group in weight_groups(config):
        if isinstance(group, dict):
            sizes += [_pair(group[key]) for key in ("block_structure",) if group.get(key)]
            size = group.get("group_size")
            sizes += [(1, size)] if type(size) is int and 0 < size < MAX_INTEGER else []
    for size in sizes:
        if _blocks_of(shape, size) == table:
            return size
    if table in ((rows, 1), (1, columns)):  # a scale for each output; Llama 4 stores (in, out)
        return rows // table[0], columns // table[1]
    if not sizes and table[0] == rows and columns % table[1] == 0:
        return 1, columns // table[1]
    said = " or ".join(map(_by, sizes[:MANY_SIZES]))
    blocks = said or "of a size that config.json does not say"
    raise Unfit(
        f"{scales.name} is of shape {list(scales.shape)}, expected a scale for each output "
        f"or block of {list(shape)}, blocks {blocks}"
    )


def _block_size(config: dict[str, Any]) -> tuple[int, int] | None:
    """DeepSeek's `weight_block_size`."""
    value = config.get("weight_block_size")
    return None if value is None else _pair(value)


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2:
        height, width = value
        sizes = type(height) is type(width) is int
        if sizes and min(height, width) > 0 and max(height, width) < MAX_INTEGER:
            return height, width
    raise Unfit(f"config.json says blocks of {shown(value)}, expected two sizes above 0")


def _blocks_of(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
    return -(-shape[0] // size[0]), -(-shape[1] // size[1])


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


SCALED = Scheme(_tables, _weight)
