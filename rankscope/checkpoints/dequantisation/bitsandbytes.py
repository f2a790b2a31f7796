"""bitsandbytes: LLM.int8 with a scale for each output, and 4-bit codes with one for each block.

LLM.int8: `weight` int8 (out, in) and `SCB` (out,), the largest magnitude of each row:
weight = codes SCB / 127.

4-bit: `weight` holds the codes in row-major order, two to a byte, the first in the high half;
`weight.quant_map` the 16 numbers that they stand for, `weight.absmax` the scale of each block, and
`weight.quant_state.bitsandbytes__nf4` (or fp4) the shape and the block size as JSON. With double
quantisation absmax is codes too: absmax = nested_quant_map[code] nested_absmax[block] + offset.
`bitsandbytes.functional.QuantState.as_dict` and `dequantize_4bit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from rankscope.checkpoints.dequantisation.scheme import (
    SCALE_TYPES,
    Scheme,
    Unfit,
    expect_axes,
    expect_shape,
    expect_type,
    present,
)
from rankscope.checkpoints.dequantisation.stored import StoredTensors
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.checkpoints.strictjson import parse_strict
from rankscope.dtypes import itemsize
from rankscope.errors import InputRejected
from rankscope.records import MatrixSpec, TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STATE = ".quant_state.bitsandbytes__"
KINDS = ("nf4", "fp4")
TABLES = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")

# Its own are about 200 bytes long.
MAX_STATE_BYTES = 10_000

# The smallest and the largest block that it knows.
MIN_BLOCK, MAX_BLOCK = 32, 4096

# Codes that are decoded at once: their places are 2 MiB, which caches hold.
CHUNK = 2**18

# Codes that are read at once for those of a narrow window among them: 4 MiB. Longer rows than WIDE
# are read one by one: passing over 64 KiB takes as long as another read.
SPAN = 2**23
WIDE = 2**17


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """A weight of LLM.int8.

    Attributes:
        info: the tensor as it is listed.
        scales: the name of SCB.
    """

    info: TensorInfo
    scales: str

    def read(
        self, stored: StoredTensors, _: MatrixSpec, rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """A window: codes times SCB / 127."""
        import numpy as np

        window = stored.window(self.info.name, (), rows, columns).astype(np.float32)
        scales = stored.flat(self.scales, rows.start, rows.stop).astype(np.float32)
        window *= (scales / np.float32(127))[:, None]
        return window


class Blocks(NamedTuple):
    """What the JSON says of the blocks of codes, and of the blocks of their scales."""

    size: int
    nested_size: int
    nested_offset: float


@dataclass(frozen=True, slots=True)
class FourBitWeight:
    """A weight of 4-bit codes.

    Attributes:
        info: the tensor as it is listed.
        blocks: codes to a scale; `nested_size` is 0 where the scales are no codes.
    """

    info: TensorInfo
    blocks: Blocks

    def read(
        self, stored: StoredTensors, spec: MatrixSpec, rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """A window, some of its rows at a time."""
        import numpy as np

        width = spec.shape[1]
        base = spec.index[0] * math.prod(spec.shape) if spec.index else 0
        across = np.arange(base + columns.start, base + columns.stop)
        window = np.empty((rows.stop - rows.start, len(across)), np.float32)
        step = 1 if width > WIDE else max(1, min(CHUNK // len(across), SPAN // width))
        for start in range(rows.start, rows.stop, step):
            stop = min(start + step, rows.stop)
            places = np.arange(start, stop)[:, None] * width + across
            window[start - rows.start : stop - rows.start] = self._decoded(stored, places)
        return window

    def _decoded(self, stored: StoredTensors, places: NDArray[np.intp]) -> NDArray[np.float32]:
        """The elements at these places in row-major order, which ascend."""
        import numpy as np

        name = self.info.name
        first, last = int(places[0, 0]), int(places[-1, -1])
        pair = 2 * itemsize(stored.infos[name].dtype)  # codes to a stored element
        start = first // pair
        data = np.ascontiguousarray(stored.flat(name, start, last // pair + 1)).view(np.uint8)
        held = places - start * pair
        low = (held & 1).astype(np.uint8)
        codes = data[held >> 1] >> (4 - 4 * low) & 15
        numbers: NDArray[np.float32] = stored.flat(f"{name}.quant_map", 0, 16)[codes]
        block = places // self.blocks.size
        begin = first // self.blocks.size
        numbers *= self._absmax(stored, begin, int(block[-1, -1]) + 1)[block - begin]
        return numbers

    def _absmax(self, stored: StoredTensors, first: int, last: int) -> NDArray[np.float32]:
        """The scales of these blocks."""
        import numpy as np

        name = self.info.name
        scales = stored.flat(f"{name}.absmax", first, last)
        if not self.blocks.nested_size:
            return scales.astype(np.float32)
        block = np.arange(first, last) // self.blocks.nested_size
        outer = stored.flat(f"{name}.nested_absmax", int(block[0]), int(block[-1]) + 1)
        numbers = stored.flat(f"{name}.nested_quant_map", 0, 256).astype(np.float32)[scales]
        numbers *= outer.astype(np.float32)[block - block[0]]
        return numbers + np.float32(self.blocks.nested_offset)


def _int8_tables(stored: StoredTensors, name: str, _: ModelFiles) -> tuple[str, ...] | None:
    layer = name.removesuffix("weight")
    if name == layer or f"{layer}SCB" not in stored:
        return None
    return stored.those_of(f"{layer}SCB", f"{layer}weight_format")


def _int8_weight(stored: StoredTensors, name: str, _: ModelFiles) -> Int8Weight:
    layer = name.removesuffix("weight")
    codes, scales = present(stored, name), present(stored, f"{layer}SCB")
    expect_axes(codes, 2)
    expect_type(codes, "int8")
    expect_type(scales, *SCALE_TYPES)
    expect_shape(scales, codes.shape[:1])
    form = stored.infos.get(f"{layer}weight_format")
    # bitsandbytes' LINEAR_8BIT_WEIGHTS_FORMAT_MAPPING: others than 0 are tiled for one kernel.
    if form is not None and (form.size != 1 or stored.flat(form.name, 0, 1)[0] != 0):
        raise Unfit(f"{form.name} is not 0, expected the codes row by row")
    sources = (name, scales.name)
    return Int8Weight(
        TensorInfo(name, codes.shape, "float32", encoding="bnb int8", sources=sources),
        scales.name,
    )


def _4bit_tables(stored: StoredTensors, name: str, _: ModelFiles) -> tuple[str, ...] | None:
    states = stored.those_of(*(name + STATE + kind for kind in KINDS))
    if not states:
        return None
    return states + stored.those_of(*(f"{name}.{table}" for table in TABLES))


def _4bit_weight(stored: StoredTensors, name: str, _: ModelFiles) -> FourBitWeight:
    kinds = [kind for kind in KINDS if name + STATE + kind in stored]
    if len(kinds) != 1:
        raise Unfit(f"comes with the states of {' and '.join(kinds)}, expected one")
    state = _state(stored, name + STATE + kinds[0])
    shape, blocks = _shape(state), _blocks(state)
    codes = present(stored, name)
    count = math.prod(shape)
    held = codes.size * itemsize(codes.dtype) * 2
    if not 0 <= held - count < 2 * itemsize(codes.dtype):
        raise Unfit(f"holds {held} codes, its state says shape {list(shape)}")
    tables = _checked_tables(stored, name, -(-count // blocks.size), blocks.nested_size)
    info = TensorInfo(name, shape, "float32", encoding=f"bnb {kinds[0]}", sources=(name, *tables))
    return FourBitWeight(info, blocks)


def _checked_tables(
    stored: StoredTensors, name: str, blocks: int, nested_size: int
) -> tuple[str, ...]:
    """The names of the tables of a weight, their types and sizes checked; raises `Unfit`."""
    kinds = [kind for kind in KINDS if name + STATE + kind in stored]
    scales = "uint8" if nested_size else "float32"
    expected = {"absmax": (scales, blocks), "quant_map": ("float32", 16)}
    if nested_size:
        expected["nested_absmax"] = ("float32", -(-blocks // nested_size))
        expected["nested_quant_map"] = ("float32", 256)
    for table, (dtype, size) in expected.items():
        info = present(stored, f"{name}.{table}")
        expect_type(info, dtype)
        expect_shape(info, (size,))
    return (*(name + STATE + kind for kind in kinds), *(f"{name}.{table}" for table in expected))


def _state(stored: StoredTensors, name: str) -> dict[str, Any]:
    """The JSON object that a tensor of bytes holds."""
    info = present(stored, name)
    expect_type(info, "uint8")
    if info.size > MAX_STATE_BYTES:
        raise Unfit(f"{name} has {info.size} bytes, expected JSON of at most {MAX_STATE_BYTES}")
    try:
        state = parse_strict(PurePath(name), stored.flat(name, 0, info.size).tobytes(), "state")
    except InputRejected as error:
        raise Unfit(f"{name}: {error.reason}") from error
    if not isinstance(state, dict):
        raise Unfit(f"{name} is a JSON {type(state).__name__}, expected an object")
    return state


def _shape(state: dict[str, Any]) -> tuple[int, ...]:
    shape = state.get("shape")
    sizes = shape if isinstance(shape, list) else []
    if not 2 <= len(sizes) <= 3 or not all(type(size) is int and size > 0 for size in sizes):
        raise Unfit(f"its state says shape {shape!r}, expected 2 or 3 sizes")
    return tuple(sizes)


def _blocks(state: dict[str, Any]) -> Blocks:
    size = state.get("blocksize")
    if not _is_block(size):
        raise Unfit(f"its state says blocksize {size!r}, expected {MIN_BLOCK} to {MAX_BLOCK}")
    nested, offset = state.get("nested_blocksize"), state.get("nested_offset")
    if nested is None:
        return Blocks(size, 0, 0.0)
    if not _is_block(nested) or not isinstance(offset, float):
        raise Unfit(f"its state says nested_blocksize {nested!r} and nested_offset {offset!r}")
    return Blocks(size, nested, offset)


def _is_block(size: object) -> TypeGuard[int]:
    return type(size) is int and MIN_BLOCK <= size <= MAX_BLOCK


BNB_INT8 = Scheme(_int8_tables, _int8_weight)
BNB_4BIT = Scheme(_4bit_tables, _4bit_weight)
