"""The storage types against what ml_dtypes and NumPy say of them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from rankscope.dtypes import FLOATS, OTHER_SIZES, itemsize, numpy_dtype, why_not_measured


@pytest.mark.parametrize("name", FLOATS)
def test_floats(name: str) -> None:
    info = ml_dtypes.finfo(numpy_dtype(name))  # type: ignore[no-untyped-call]
    assert FLOATS[name].unit_roundoff == float(info.eps) / 2
    assert itemsize(name) == numpy_dtype(name).itemsize == info.bits // 8
    assert numpy_dtype(name).name == name
    assert why_not_measured(name) is None


@pytest.mark.parametrize("name", FLOATS)
def test_unit_roundoff_is_the_largest_relative_error_of_storing(name: str) -> None:
    # Halfway between 1 and its successor: the worst case, rounded to even.
    unit = FLOATS[name].unit_roundoff
    if name != "float64":  # whose halfway point no wider type of NumPy holds everywhere
        stored = np.array([1 + unit, 1 + 1.01 * unit]).astype(numpy_dtype(name)).astype(float)
        np.testing.assert_array_equal(stored, [1, 1 + 2 * unit])


@pytest.mark.parametrize("name", OTHER_SIZES)
def test_others(name: str) -> None:
    assert itemsize(name) == np.dtype(name).itemsize
    assert why_not_measured(name) is not None


@pytest.mark.parametrize("name", [*FLOATS, *OTHER_SIZES])
def test_files_are_little_endian(name: str) -> None:
    dtype = numpy_dtype(name)
    if not name.startswith(("bfloat", "float8")):
        assert dtype == dtype.newbyteorder("<")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("int4", "int4: quantised or an index, no scales"),
        ("uint8", "uint8: quantised or an index, no scales"),
        ("bool", "bool: not a floating-point type"),
        ("complex64", "complex64: complex weights are not supported"),
        ("object", "object: not a floating-point type"),
        ("float8_e8m0fnu", "float8_e8m0fnu: not supported, expected one of float64, float32"),
        ("float128", "float128: not supported, expected one of float64, float32"),
    ],
)
def test_why_not_measured(name: str, reason: str) -> None:
    found = why_not_measured(name)
    assert found is not None
    assert found.startswith(reason)


def test_an_unknown_type_has_no_size() -> None:
    with pytest.raises(KeyError):
        itemsize("int4")
