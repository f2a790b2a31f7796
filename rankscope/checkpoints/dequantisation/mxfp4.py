"""MXFP4 as gpt-oss stores its experts: 4-bit floats with one power of two for every 32 of them.

Layout: `X_blocks` uint8 (experts, out, in / 32, 16), two codes to a byte, the first in the low
half; `X_scales` uint8 (experts, out, in / 32), the exponent plus 127, 255 meaning NaN. OCP
"Microscaling Formats (MX) Specification" v1.0, 5.2 to 5.4. X is (experts, out, in) as it is packed;
transformers transposes it to (experts, in, out) when it unpacks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rankscope.checkpoints.dequantisation.bits import nibbles, powers_of_two
from rankscope.checkpoints.dequantisation.scheme import (
    Scheme,
    Unfit,
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

CODES = "_blocks"
SCALES = "_scales"
BLOCK = 32

# E2M1: a sign, two bits of exponent, one of fraction; the code is the index.
POSITIVE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
NUMBERS = (*POSITIVE, *(-number for number in POSITIVE))


@dataclass(frozen=True, slots=True)
class Mxfp4Weight:
    """A stack of weights in MXFP4, or one.

    Attributes:
        info: the tensor as it is listed.
        name: of the codes.
    """

    info: TensorInfo
    name: str

    def read(
        self, stored: StoredTensors, spec: MatrixSpec, rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """A window, of whichever axes: blocks follow each other in row-major order."""
        import numpy as np

        touched = slice(columns.start // BLOCK, -(-columns.stop // BLOCK))
        held = slice(touched.start * BLOCK // 2, touched.stop * BLOCK // 2)
        codes = nibbles(stored.window(self.name, spec.index, rows, held))
        scales = stored.window(self.info.name + SCALES, spec.index, rows, touched)
        window = np.array(NUMBERS, np.float32)[codes].reshape(*scales.shape, BLOCK)
        window *= powers_of_two(scales)[:, :, None]
        first = columns.start - touched.start * BLOCK
        width = columns.stop - columns.start
        return window.reshape(len(window), -1)[:, first : first + width]


def _tables(stored: StoredTensors, name: str, _: ModelFiles) -> tuple[str, ...] | None:
    weight = name.removesuffix(CODES)
    return None if weight == name or weight + SCALES not in stored else (weight + SCALES,)


def _weight(stored: StoredTensors, name: str, _: ModelFiles) -> Mxfp4Weight:
    weight = name.removesuffix(CODES)
    codes, scales = present(stored, name), present(stored, weight + SCALES)
    for info in (codes, scales):
        expect_type(info, "uint8", *(("float8_e8m0fnu",) if info is scales else ()))
    *lead, blocks, held = codes.shape if len(codes.shape) in (3, 4) else (0, 0)
    if held != BLOCK // 2 or 0 in codes.shape:
        raise Unfit(f"{name} is of shape {list(codes.shape)}, expected [..., out, in / 32, 16]")
    expect_shape(scales, codes.shape[:-1])
    shape = (*lead, blocks * BLOCK)
    sources = (name, scales.name)
    return Mxfp4Weight(
        TensorInfo(weight, shape, "float32", encoding="MXFP4", sources=sources), name
    )


MXFP4 = Scheme(_tables, _weight)
