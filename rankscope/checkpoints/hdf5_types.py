"""What type the elements of an HDF5 dataset have.

HDF5 describes a number by its bits, so that types which NumPy or h5py do not know are told
apart by their layout and not by how h5py would convert them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rankscope.dtypes import OTHER_SIZES

# Our own convention, for types that h5py cannot write: the bits as uint16 or uint8, and the
# type's name in this attribute of the dataset, a fixed-length string (`numpy.bytes_`). One of
# variable length lies in the file's global heap, where damage makes the library hang.
DTYPE_ATTRIBUTE = "rankscope_dtype"
BITS_OF = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}

# Keras 3 stores bfloat16, and nothing else, as two opaque bytes with this attribute
# (saving_lib.py, H5Entry). Its value is of variable length and not needed.
KERAS_DTYPE_ATTRIBUTE = "dtype"

# Bytes; positions of sign, exponent and its size, fraction and its size; exponent bias. The
# types are those of `rankscope.dtypes.FLOATS`; HDF5 2.0 predefines all but float8_e4m3fn as
# IEEE-like, and that one as H5T_FLOAT_F8E4M3, "the OCP type".
FLOAT_LAYOUTS = {
    (8, (63, 52, 11, 0, 52), 1023): "float64",
    (4, (31, 23, 8, 0, 23), 127): "float32",
    (2, (15, 10, 5, 0, 10), 15): "float16",
    (2, (15, 7, 8, 0, 7), 127): "bfloat16",
    (1, (7, 3, 4, 0, 3), 7): "float8_e4m3fn",
    (1, (7, 2, 5, 0, 2), 15): "float8_e5m2",
}


class StoredType(NamedTuple):
    """A type that can be read: NumPy's name, and whether its bytes are swapped."""

    dtype: str
    big_endian: bool


class NoNumbers(Exception):
    """The elements are nothing that RankScope reads; the text says what they are."""


class BadAttribute(Exception):
    """The attribute that names the type contradicts the dataset."""


def stored_type(dataset: Any, *, keras: bool) -> StoredType:
    """The type of an open `h5py.h5d.DatasetID`, in a file that Keras wrote or another.

    Raises:
        NoNumbers: strings, compounds, floats of an unusual layout, ...
        BadAttribute: our attribute names a type that does not fit what is stored.
    """
    from h5py import h5a, h5t

    kind = dataset.get_type()
    code = kind.get_class()
    if code == h5t.FLOAT:
        return _float(kind)
    if code == h5t.INTEGER:
        return _integer(dataset, kind)
    marked = keras and h5a.exists(dataset, KERAS_DTYPE_ATTRIBUTE.encode())
    if marked and code == h5t.OPAQUE and kind.get_size() == 2:
        return StoredType("bfloat16", False)
    if code == h5t.ENUM and kind.dtype == bool:
        return StoredType("bool", False)
    names = {
        h5t.STRING: "strings",
        h5t.BITFIELD: "bit fields",
        h5t.OPAQUE: "opaque bytes",
        h5t.COMPOUND: "compound records",
        h5t.REFERENCE: "references",
        h5t.ENUM: "enumerated values",
        h5t.VLEN: "variable-length lists",
        h5t.ARRAY: "arrays as elements",
    }
    raise NoNumbers(f"{names.get(code, f'HDF5 type class {code}')}: not numbers")


def _float(kind: Any) -> StoredType:
    from h5py import h5t

    order = kind.get_order()
    plain = kind.get_offset() == 0 and kind.get_precision() == 8 * kind.get_size()
    if plain and kind.get_norm() == h5t.NORM_IMPLIED and order in (h5t.ORDER_LE, h5t.ORDER_BE):
        layout = (kind.get_size(), kind.get_fields(), kind.get_ebias())
        if layout in FLOAT_LAYOUTS:
            return StoredType(FLOAT_LAYOUTS[layout], order == h5t.ORDER_BE)
    raise NoNumbers(
        f"{kind.get_precision()}-bit float in {kind.get_size()} bytes, expected one of "
        f"{', '.join(FLOAT_LAYOUTS.values())}"
    )


def _integer(dataset: Any, kind: Any) -> StoredType:
    from h5py import h5a, h5t

    size = kind.get_size()
    dtype = f"{'u' if kind.get_sign() == h5t.SGN_NONE else ''}int{8 * size}"
    if dtype not in OTHER_SIZES or kind.get_precision() != 8 * size:
        raise NoNumbers(f"{kind.get_precision()}-bit integer in {size} bytes: not read")
    if h5a.exists(dataset, DTYPE_ATTRIBUTE.encode()):
        meant = _type_name(h5a.open(dataset, DTYPE_ATTRIBUTE.encode()))
        if BITS_OF.get(meant) != dtype:
            expected = ", ".join(f"{name} in {bits}" for name, bits in BITS_OF.items())
            raise BadAttribute(
                f"{DTYPE_ATTRIBUTE} is {meant!r} on a dataset of {dtype}, expected {expected}"
            )
        dtype = meant
    return StoredType(dtype, kind.get_order() == h5t.ORDER_BE)


def _type_name(attribute: Any) -> str:
    """The value of an open `h5py.h5a.AttrID` that should be a short fixed-length string."""
    import numpy as np
    from h5py import h5t

    kind = attribute.get_type()
    if kind.get_class() != h5t.STRING or kind.is_variable_str() or attribute.shape != ():
        raise BadAttribute(f"{DTYPE_ATTRIBUTE} is no fixed-length string: write numpy.bytes_(name)")
    value = np.empty((), f"S{kind.get_size()}")
    attribute.read(value)
    return bytes(value.item()).decode("ascii", "replace")
