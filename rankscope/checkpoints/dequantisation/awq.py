"""AWQ's 4-bit integers with scales and zero points for groups of inputs, as its GEMM kernels do.

Layout: `qweight` int32 holds the codes of (in, out) packed along the outputs, `qzeros` int32 the
zero points of (groups, out) likewise, `scales` (groups, out).
weight[o, i] = scales[g, o] (code[i, o] - zero[g, o]), g = i // group_size. Of the 8 numbers of a
word the lowest is output 0, then 2, 4, 6, 1, 3, 5, 7. AutoAWQ's WQLinear_GEMM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rankscope.checkpoints.dequantisation.scheme import (
    SCALE_TYPES,
    Scheme,
    Unfit,
    expect_axes,
    expect_shape,
    expect_type,
    group_size_of,
    integer_of,
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

CODES = "qweight"
BITS = 4
IN_A_WORD = 32 // BITS

# Which output each number of a word is of, from the lowest bits up.
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True, slots=True)
class AwqWeight:
    """A weight of AWQ.

    Attributes:
        info: the tensor as it is listed.
        layer: what its tensors' names begin with, the dot included.
        group_size: inputs of a group.
    """

    info: TensorInfo
    layer: str
    group_size: int

    def read(
        self, stored: StoredTensors, _: MatrixSpec, rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """A window; its scales and zero points are read for the groups that it touches."""
        import numpy as np

        words = slice(rows.start // IN_A_WORD, -(-rows.stop // IN_A_WORD))
        wanted = slice(rows.start - words.start * IN_A_WORD, rows.stop - words.start * IN_A_WORD)
        packed = stored.window(self.layer + CODES, (), columns, words)
        window = _unpacked(packed)[:, wanted].astype(np.float32)
        inputs = np.arange(columns.start, columns.stop)
        groups, place = np.unique(inputs // self.group_size, return_inverse=True)
        zeros = _unpacked(stored.gathered(f"{self.layer}qzeros", groups, words))[:, wanted]
        window -= zeros.astype(np.float32)[place]
        window *= stored.gathered(f"{self.layer}scales", groups, rows).astype(np.float32)[place]
        return window.T


def _unpacked(words: Stored) -> NDArray[np.uint8]:
    """The numbers of rows of words, shape (rows, 8 words)."""
    import numpy as np

    unsigned = words.astype(np.uint32)
    codes = np.empty((*words.shape, IN_A_WORD), np.uint8)
    for place, output in enumerate(ORDER):
        codes[..., output] = unsigned >> np.uint32(place * BITS) & np.uint32(2**BITS - 1)
    return codes.reshape(len(words), -1)


def _tables(stored: StoredTensors, name: str, files: ModelFiles) -> tuple[str, ...] | None:
    layer = name.removesuffix(CODES)
    if name != layer + CODES or layer[-1:] not in ("", "."):
        return None
    if files.quantisation.get("quant_method") != "awq":
        return None
    return stored.those_of(f"{layer}scales", f"{layer}qzeros")


def _weight(stored: StoredTensors, name: str, files: ModelFiles) -> AwqWeight:
    config = files.quantisation
    _check_format(config)
    layer = name.removesuffix(CODES)
    codes, scales, zeros = (present(stored, layer + one) for one in (CODES, "scales", "qzeros"))
    for info, types in ((codes, ("int32",)), (zeros, ("int32",)), (scales, SCALE_TYPES)):
        expect_axes(info, 2)
        expect_type(info, *types)
    inputs, outputs = codes.shape[0], codes.shape[1] * IN_A_WORD
    group_size = group_size_of(config, inputs, "group_size", "q_group_size")
    groups = -(-inputs // group_size)
    expect_shape(scales, (groups, outputs))
    expect_shape(zeros, (groups, outputs // IN_A_WORD))
    info = TensorInfo(
        f"{layer}weight",
        (outputs, inputs),
        "float32",
        encoding=f"AWQ int{BITS}",
        sources=(name, scales.name, zeros.name),
    )
    return AwqWeight(info, layer, group_size)


def _check_format(config: dict[str, Any]) -> None:
    version = config.get("version", "gemm")
    if not isinstance(version, str) or version.lower() != "gemm":
        raise Unfit(f"AWQ version {shown(version)}, whose packing is another; expected 'gemm'")
    bits = integer_of(config, "bits", "w_bit")
    if bits != BITS:
        raise Unfit(f"AWQ with {bits} bits, expected {BITS}")
    if not config.get("zero_point", True):
        raise Unfit("AWQ without zero points, expected zero_point true")


AWQ = Scheme(_tables, _weight)
