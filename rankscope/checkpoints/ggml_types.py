"""The types that ggml stores weights in: plain ones, and blocks of codes with their scales.

Numbers and sizes: enum ggml_type in ggml.h, and the block structures in ggml-common.h. A number
that is missing belongs to a type that ggml has removed, or to one that came later.
"""

from __future__ import annotations

from typing import NamedTuple


class GgmlType(NamedTuple):
    """How a run of elements is stored.

    Attributes:
        name: ggml's name.
        block: elements a block; a row is a whole number of them.
        size: bytes a block.
        dtype: NumPy's name of a plain type; empty where blocks must be decoded.
        decoded: whether the gguf package decodes its blocks.
    """

    name: str
    block: int
    size: int
    dtype: str = ""
    decoded: bool = True


TYPES: dict[int, GgmlType] = {
    0: GgmlType("F32", 1, 4, "float32"),
    1: GgmlType("F16", 1, 2, "float16"),
    2: GgmlType("Q4_0", 32, 18),
    3: GgmlType("Q4_1", 32, 20),
    6: GgmlType("Q5_0", 32, 22),
    7: GgmlType("Q5_1", 32, 24),
    8: GgmlType("Q8_0", 32, 34),
    9: GgmlType("Q8_1", 32, 40, decoded=False),  # of activations only, never in a file so far
    10: GgmlType("Q2_K", 256, 84),
    11: GgmlType("Q3_K", 256, 110),
    12: GgmlType("Q4_K", 256, 144),
    13: GgmlType("Q5_K", 256, 176),
    14: GgmlType("Q6_K", 256, 210),
    15: GgmlType("Q8_K", 256, 292, decoded=False),  # likewise
    16: GgmlType("IQ2_XXS", 256, 66),
    17: GgmlType("IQ2_XS", 256, 74),
    18: GgmlType("IQ3_XXS", 256, 98),
    19: GgmlType("IQ1_S", 256, 50),
    20: GgmlType("IQ4_NL", 32, 18),
    21: GgmlType("IQ3_S", 256, 110),
    22: GgmlType("IQ2_S", 256, 82),
    23: GgmlType("IQ4_XS", 256, 136),
    24: GgmlType("I8", 1, 1, "int8"),
    25: GgmlType("I16", 1, 2, "int16"),
    26: GgmlType("I32", 1, 4, "int32"),
    27: GgmlType("I64", 1, 8, "int64"),
    28: GgmlType("F64", 1, 8, "float64"),
    29: GgmlType("IQ1_M", 256, 56),
    30: GgmlType("BF16", 1, 2, "bfloat16"),
    34: GgmlType("TQ1_0", 256, 54),
    35: GgmlType("TQ2_0", 256, 66),
    39: GgmlType("MXFP4", 32, 17),
    40: GgmlType("NVFP4", 64, 36),
    41: GgmlType("Q1_0", 128, 18, decoded=False),
}

# Their converters store one more factor, of the whole tensor, beside them: X.scale for X.weight.
SCALED_APART = frozenset({"NVFP4", "TQ1_0", "TQ2_0"})
