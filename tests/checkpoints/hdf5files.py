"""HDF5 files for the tests, and short ways to read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rankscope.checkpoints.hdf5 import Hdf5Reader
from rankscope.checkpoints.hdf5_types import BITS_OF, DTYPE_ATTRIBUTE
from rankscope.records import Checkpoint, Listing
from tests.contracts.reader import Arrays, whole

NUMBERS = np.arange(60 * 34, dtype=np.float32).reshape(60, 34)


def put(file: Any, arrays: Arrays, **options: Any) -> None:
    """Write arrays as `SnapshotWriter` does: what h5py cannot, as bits with an attribute."""
    for name, array in arrays.items():
        bits = BITS_OF.get(array.dtype.name)
        data = array.view(bits) if bits else array
        dataset = file.create_dataset(name, data=data, **(options if array.ndim else {}))
        if bits:
            dataset.attrs[DTYPE_ATTRIBUTE] = np.bytes_(array.dtype.name)


def put_compact(file: Any, name: str, array: Any) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    bits = BITS_OF.get(array.dtype.name, array.dtype.name)
    kind = h5py.h5t.py_create(np.dtype(bits))
    space = h5py.h5s.create_simple(array.shape)
    dataset = h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=plist))
    dataset[...] = array.view(bits)
    if bits != array.dtype.name:
        dataset.attrs[DTYPE_ATTRIBUTE] = np.bytes_(array.dtype.name)


@contextmanager
def opened(path: Path) -> Iterator[Checkpoint]:
    checkpoint = Hdf5Reader().open(path)
    try:
        yield checkpoint
    finally:
        checkpoint.close()


def listing(path: Path) -> Listing:
    with opened(path) as checkpoint:
        return checkpoint.listing


def read_whole(path: Path, name: str) -> Any:
    with opened(path) as checkpoint:
        info = next(t for t in checkpoint.listing.tensors if t.name == name)
        spec = whole(info)
        return checkpoint.read(spec, slice(0, spec.shape[0]), slice(0, spec.shape[1]))


def make(path: Path, **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, data in datasets.items():
            file[name] = data
    return path
