"""The element types that weights are stored in, and what rounding they imply.

Names are NumPy's (`float32`, `bfloat16`, `float8_e4m3fn`), whatever a format calls them.
NumPy is imported on use: listing a checkpoint needs names and sizes only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class FloatType(NamedTuple):
    """A floating-point storage type.

    Attributes:
        itemsize: bytes per element.
        unit_roundoff: half the distance from 1 to the next number, 2^-(stored fraction bits + 1).
        smallest: the smallest positive (subnormal) number.
    """

    itemsize: int
    unit_roundoff: float
    smallest: float


# Fraction bits: IEEE 754-2019 for the first three, Google's bfloat16, and for fp8 the OCP
# "8-bit Floating Point Specification" (E4M3 has 3 fraction bits, E5M2 has 2).
FLOATS: dict[str, FloatType] = {
    "float64": FloatType(8, 2.0**-53, 2.0**-1074),
    "float32": FloatType(4, 2.0**-24, 2.0**-149),
    "float16": FloatType(2, 2.0**-11, 2.0**-24),
    "bfloat16": FloatType(2, 2.0**-8, 2.0**-133),
    "float8_e4m3fn": FloatType(1, 2.0**-4, 2.0**-9),
    "float8_e5m2": FloatType(1, 2.0**-3, 2.0**-16),
}

# Widths of the types that are recognised but never measured; sizes are needed to check a file.
OTHER_SIZES: dict[str, int] = {
    "bool": 1,
    "float8_e8m0fnu": 1,  # powers of two: scales, no weights (OCP MX v1.0)
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "complex64": 8,
    "complex128": 16,
}


def itemsize(name: str) -> int:
    """Bytes per element of a known type; KeyError for an unknown one."""
    return FLOATS[name].itemsize if name in FLOATS else OTHER_SIZES[name]


def why_not_measured(name: str) -> str | None:
    """The reason why tensors of this type have no spectrum, or None when they have."""
    if name in FLOATS:
        return None
    if name.startswith(("int", "uint")):
        return f"{name}: quantised or an index, no scales"
    if name.startswith("complex"):
        return f"{name}: complex weights are not supported"
    if name.startswith("float"):
        return f"{name}: not supported, expected one of {', '.join(FLOATS)}"
    return f"{name}: not a floating-point type"


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy type (from ml_dtypes where NumPy has none), little-endian."""
    import numpy as np

    if name.startswith(("bfloat16", "float8")):
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return dtype
    return np.dtype(name).newbyteorder("<")
