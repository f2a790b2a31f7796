"""One snapshot file, written whole or not at all, through the library that owns its format."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rankscope.errors import OutputFailed
from rankscope.writing import atomic_path, atomic_write

if TYPE_CHECKING:
    from rankscope.records import Stored

Format = Literal["safetensors", "hdf5"]

SUFFIXES: dict[Format, str] = {"safetensors": ".safetensors", "hdf5": ".h5"}


def write_safetensors(
    path: Path, arrays: Mapping[str, Stored], metadata: dict[str, str] | None = None
) -> None:
    """Write C-contiguous arrays; `OutputFailed` when the disk is full."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with atomic_path(path) as inner:
        try:
            save_file(dict(arrays), inner, metadata)
        except SafetensorError as error:
            raise OutputFailed(path, str(error)) from error


def write_hdf5(path: Path, arrays: Mapping[str, Stored]) -> None:
    """Write one dataset per array; `OutputFailed` when the disk is full.

    HDF5 has no bfloat16 or fp8: their bits are stored as unsigned integers of the same width,
    and an attribute names the type.
    """
    import h5py
    import numpy as np

    from rankscope.checkpoints.hdf5_types import DTYPE_ATTRIBUTE

    # Into memory first: when HDF5 finds the disk full on closing, it keeps the file open for good.
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        for name, array in arrays.items():
            if array.dtype.name.startswith(("bfloat16", "float8")):
                bits = array.view(np.dtype(f"u{array.itemsize}"))
                dataset = file.create_dataset(name, data=bits)
                dataset.attrs[DTYPE_ATTRIBUTE] = np.bytes_(array.dtype.name)
            else:
                file.create_dataset(name, data=array)
    with atomic_write(path) as handle:
        handle.write(image.getbuffer())


WRITERS: dict[Format, Callable[[Path, Mapping[str, Stored]], None]] = {
    "safetensors": write_safetensors,
    "hdf5": write_hdf5,
}
