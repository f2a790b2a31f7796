"""compressed-tensors' `pack-quantized`: integers of 2, 4 or 8 bits in words of 32.

Layout: `weight_packed` int32 holds the codes of (out, in), each plus 2^(bits - 1), packed along the
inputs; `weight_shape` [out, in]; `weight_scale` (out, groups), (out, 1) or of one element;
`weight_zero_point` likewise, as int8 or packed along the outputs; `weight_g_idx` (in,) the group of
each input where that is no run. weight = (code - zero point) scale.
`compressed_tensors.compressors.pack_quantized` and `quantization.lifecycle.forward`; the latter
knows no `weight_g_idx` any more, older versions of it did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rankscope.checkpoints.dequantisation.bits import unpacked, words_of
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
from rankscope.records import MatrixSpec, TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKED = "_packed"
TABLES = ("_scale", "_shape", "_zero_point", "_g_idx", "_global_scale")

# Of other widths older versions packed as many as fit into each word, newer ones densely.
BITS = (2, 4, 8)

# One for each way of quantising in a model: published ones have one to three.
MAX_GROUPS = 256


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A weight of packed integers.

    Attributes:
        info: the tensor as it is listed.
        bits: of a code.
        groups: scales of an output.
        group_size: inputs to a scale.
    """

    info: TensorInfo
    bits: int
    groups: int
    group_size: int

    def read(
        self, stored: StoredTensors, _: MatrixSpec, rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """A window; scales and zero points are read for its rows and the groups it touches."""
        import numpy as np

        name = self.info.name
        words = words_of(self.bits, columns)
        packed = stored.window(name + PACKED, (), rows, words)
        window = unpacked(packed.T, self.bits, columns).T.astype(np.float32)
        group = self._groups(stored, columns)
        touched = slice(int(group.min()), int(group.max()) + 1)
        group -= touched.start
        window -= self._zeros(stored, rows, touched)[:, group]
        window *= self._table(stored, f"{name}_scale", rows, touched)[:, group]
        return window

    def _groups(self, stored: StoredTensors, columns: slice) -> NDArray[np.intp]:
        """The group of each of these inputs."""
        import numpy as np

        name = f"{self.info.name}_g_idx"
        inputs = np.arange(columns.start, columns.stop)
        if name not in self.info.sources:
            return inputs // self.group_size
        groups = stored.flat(name, 0, self.info.shape[1]).astype(np.intp)
        if (groups == -1).any():  # never filled in: groups are runs
            return inputs // self.group_size
        wrong = groups[(groups < 0) | (groups >= self.groups)]
        if len(wrong):
            raise stored.rejected(name, f"group {wrong[0]}, expected 0 to {self.groups - 1}")
        if (np.bincount(groups, minlength=self.groups) != self.group_size).any():
            raise stored.rejected(name, f"groups of other sizes, expected {self.group_size} inputs")
        return groups[columns]

    def _zeros(self, stored: StoredTensors, rows: slice, groups: slice) -> NDArray[np.float32]:
        """What stands for zero, in codes, shape (rows, groups) or (1, 1)."""
        import numpy as np

        name = f"{self.info.name}_zero_point"
        middle = np.float32(2 ** (self.bits - 1))
        if name not in self.info.sources:
            return np.full((1, 1), middle).repeat(groups.stop - groups.start, axis=1)
        if stored.infos[name].dtype == "int8":
            return self._table(stored, name, rows, groups) + middle
        packed = stored.window(name, (), words_of(self.bits, rows), groups)
        return unpacked(packed, self.bits, rows).astype(np.float32)

    def _table(
        self, stored: StoredTensors, name: str, rows: slice, groups: slice
    ) -> NDArray[np.float32]:
        """Scales or zero points that are not packed, shape (rows, groups) or (1, 1)."""
        import numpy as np

        if stored.infos[name].size == 1:
            return stored.flat(name, 0, 1).astype(np.float32).reshape(1, 1)
        return stored.window(name, (), rows, groups).astype(np.float32)


def _tables(stored: StoredTensors, name: str, _: ModelFiles) -> tuple[str, ...] | None:
    weight = name.removesuffix(PACKED)
    tables = stored.those_of(*(weight + table for table in TABLES))
    return None if weight == name or not tables else tables


def _weight(stored: StoredTensors, name: str, files: ModelFiles) -> PackedWeight:
    weight = name.removesuffix(PACKED)
    said = [group for group in weight_groups(files.quantisation) if type(group) is dict]
    codes, scales = present(stored, name), present(stored, f"{weight}_scale")
    expect_axes(codes, 2)
    expect_type(codes, "int32")
    expect_type(scales, *SCALE_TYPES)
    shape = _shape(stored, f"{weight}_shape")
    bits = [one for one in BITS if codes.shape == (shape[0], -(-shape[1] * one // 32))]
    if len(bits) != 1:
        raise Unfit(
            f"{name} is of shape {list(codes.shape)} for a weight of {list(shape)}: "
            f"{'bits unknown' if bits else 'not 2, 4 or 8 bits to a code'}"
        )
    if said and bits[0] not in [group.get("num_bits") for group in said]:
        raise Unfit(f"holds codes of {bits[0]} bits, which config.json does not speak of")
    groups, group_size = _groups(scales, shape)
    tables = (f"{weight}_shape", scales.name, *_others(stored, weight, shape, bits[0], scales))
    info = TensorInfo(
        weight,
        shape,
        "float32",
        encoding=f"compressed-tensors int{bits[0]}",
        sources=(name, *tables),
    )
    return PackedWeight(info, bits[0], groups, group_size)


def _shape(stored: StoredTensors, name: str) -> tuple[int, int]:
    """What a tensor of two numbers says."""
    info = present(stored, name)
    expect_type(info, "int64", "int32")
    expect_shape(info, (2,))
    rows, columns = (int(size) for size in stored.flat(name, 0, 2))
    if min(rows, columns) < 1:
        raise Unfit(f"{name} says [{rows}, {columns}], expected sizes above 0")
    return rows, columns


def _groups(scales: TensorInfo, shape: tuple[int, int]) -> tuple[int, int]:
    """How many scales an output has, and for how many inputs each."""
    if scales.size == 1:
        return 1, shape[1]
    expect_axes(scales, 2)
    rows, groups = scales.shape
    if rows != shape[0] or shape[1] % groups:
        raise Unfit(
            f"{scales.name} is of shape {list(scales.shape)}, expected [{shape[0]}, n] "
            f"with n a divisor of {shape[1]}"
        )
    return groups, shape[1] // groups


def _others(
    stored: StoredTensors, weight: str, shape: tuple[int, int], bits: int, scales: TensorInfo
) -> tuple[str, ...]:
    """The names of zero points and groups, where there are any, checked; raises `Unfit`."""
    names = stored.those_of(f"{weight}_zero_point", f"{weight}_g_idx", f"{weight}_global_scale")
    for info in [present(stored, name) for name in names]:
        if info.name.endswith("_zero_point"):
            expect_type(info, "int8", "int32")
            packed = (-(-shape[0] * bits // 32), *scales.shape[1:])
            expect_shape(info, scales.shape if info.dtype == "int8" else packed)
            if info.dtype == "int32":
                expect_axes(info, 2)
        elif info.name.endswith("_g_idx"):
            expect_type(info, "int32", "int64")
            expect_shape(info, shape[1:])
        else:
            raise Unfit(f"{info.name} scales the scales, expected none with integers")
    return names


def weight_groups(config: dict[str, Any]) -> list[Any]:
    """What compressed-tensors' configuration says of weights, for each group of layers.

    Raises:
        Unfit: there are more than can be gone through for every weight.
    """
    groups = config.get("config_groups")
    if isinstance(groups, dict) and len(groups) > MAX_GROUPS:
        raise Unfit(f"config.json has {len(groups)} config_groups, expected at most {MAX_GROUPS}")
    members = groups.values() if isinstance(groups, dict) else ()
    return [group.get("weights") for group in members if isinstance(group, dict)]


PACK_QUANTISED = Scheme(_tables, _weight)
