"""What type the elements of an HDF5 dataset have.

HDF5 describes a number by its bits, so that types which NumPy or h5py do not know are told
apart by their layout and not by how h5py would convert them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rankscope.dtypes import OTHER_SIZES

# Our own convention, for types that h5py cannot write: the bits as uint16 or uint8, and the
# type's name in this attribute of the dataset. `rankscope.snapshots` writes it.
DTYPE_ATTRIBUTE = "rankscope_dtype"
BITS_OF = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}

# Keras 3 stores bfloat16 as two opaque bytes with this attribute (saving_lib.py, H5Entry).
KERAS_DTYPE_ATTRIBUTE = "dtype"

# A type's name has no more; an attribute may claim any size.
MAX_ATTRIBUTE_BYTES = 64

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


def stored_type(dataset: Any) -> StoredType:
    """The type of an open `h5py.h5d.DatasetID`.

    Raises:
        NoNumbers: strings, compounds, floats of an unusual layout, ...
        BadAttribute: our attribute names a type that does not fit what is stored.
    """
    from h5py import h5t

    kind = dataset.get_type()
    code = kind.get_class()
    if code == h5t.FLOAT:
        return _float(kind)
    if code == h5t.INTEGER:
        return _integer(dataset, kind)
    if code == h5t.OPAQUE and kind.get_size() == 2:
        if _attribute(dataset, KERAS_DTYPE_ATTRIBUTE) == "bfloat16":
            return StoredType("bfloat16", False)
        raise NoNumbers("opaque bytes: not numbers")
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
    from h5py import h5t

    size = kind.get_size()
    dtype = f"{'u' if kind.get_sign() == h5t.SGN_NONE else ''}int{8 * size}"
    if dtype not in OTHER_SIZES or kind.get_precision() != 8 * size:
        raise NoNumbers(f"{kind.get_precision()}-bit integer in {size} bytes: not read")
    meant = _attribute(dataset, DTYPE_ATTRIBUTE)
    if meant is not None:
        if BITS_OF.get(meant) != dtype:
            expected = ", ".join(f"{name} in {bits}" for name, bits in BITS_OF.items())
            raise BadAttribute(
                f"{DTYPE_ATTRIBUTE} is {meant!r} on a dataset of {dtype}, expected {expected}"
            )
        dtype = meant
    return StoredType(dtype, kind.get_order() == h5t.ORDER_BE)


def _attribute(dataset: Any, name: str) -> str | None:
    """A short string attribute, or None when there is none; anything else is no string."""
    from h5py import Dataset, h5a

    if not h5a.exists(dataset, name.encode()):
        return None
    attribute = h5a.open(dataset, name.encode())
    if attribute.shape != () or attribute.get_storage_size() > MAX_ATTRIBUTE_BYTES:
        return "something else than a name"
    value = Dataset(dataset).attrs[name]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
