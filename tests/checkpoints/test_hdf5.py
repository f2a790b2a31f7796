"""The HDF5 reader against h5py."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.checkpoints import hdf5_chunks
from rankscope.checkpoints.boxes import boxes
from rankscope.checkpoints.hdf5 import Hdf5Reader
from rankscope.checkpoints.hdf5_types import DTYPE_ATTRIBUTE
from rankscope.errors import InputRejected
from rankscope.records import MatrixSpec
from tests.checkpoints.hdf5files import NUMBERS, listing, make, opened, put, put_compact, read_whole
from tests.contracts.reader import Arrays, ReaderContract, whole


class TestContract(ReaderContract):
    reader = Hdf5Reader()
    suffix = ".h5"

    def write(self, path: Path, arrays: Arrays) -> None:
        with h5py.File(path, "w") as file:
            put(file, arrays)


class TestContractOfChunks(ReaderContract):
    reader = Hdf5Reader()
    suffix = ".h5"

    def write(self, path: Path, arrays: Arrays) -> None:
        with h5py.File(path, "w", libver="latest") as file:
            for name, array in arrays.items():
                chunk = tuple(max(1, n * 2 // 3) for n in array.shape)
                put(
                    file,
                    {name: array},
                    chunks=chunk,
                    compression="gzip",
                    shuffle=True,
                    fletcher32=True,
                )


class TestContractOfCompactDatasets(ReaderContract):
    reader = Hdf5Reader()
    suffix = ".h5"

    def write(self, path: Path, arrays: Arrays) -> None:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                put_compact(file, name, array)

    def test_truncated_while_open_is_an_error_not_a_crash(self, tmp_path: Path) -> None:
        """It lies in the headers, which are read on opening: nothing is lost."""
        path = self.make(tmp_path, {"w": NUMBERS})
        with opened(path) as checkpoint:
            os.truncate(path, 0)
            found = checkpoint.read(
                whole(checkpoint.listing.tensors[0]), slice(0, 60), slice(0, 34)
            )
        np.testing.assert_array_equal(found, NUMBERS)


# What h5py wrote is what we read.


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (16, 8)},
        {"chunks": (60, 34)},
        {"chunks": (7, 34), "maxshape": (None, 34)},
        {"chunks": (7, 8), "maxshape": (None, None)},
        {"chunks": (7, 8), "maxshape": (60, 100)},
        {"chunks": (7, 8), "maxshape": (100, 34)},
        {"chunks": (16, 8), "compression": "gzip"},
        {"chunks": (20, 17), "shuffle": True},
        {"chunks": (16, 8), "fletcher32": True},
        {"chunks": (16, 8), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (60, 34), "compression": 9, "shuffle": True},
        {"compression": "gzip"},
    ],
    ids=str,
)
def test_every_chunk_index_and_filter(tmp_path: Path, libver: str, options: Any) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("w", data=NUMBERS, **options)
    np.testing.assert_array_equal(read_whole(path, "w"), NUMBERS)
    with opened(path) as checkpoint:
        spec = whole(checkpoint.listing.tensors[0])
        np.testing.assert_array_equal(
            checkpoint.read(spec, slice(9, 41), slice(5, 30)), NUMBERS[9:41, 5:30]
        )


def test_chunks_that_the_library_left_unfiltered(tmp_path: Path) -> None:
    """An optional filter that fails on a chunk is left out and marked in the chunk's mask."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        options = {"chunks": (30, 17), "compression": "gzip", "shuffle": True}
        dataset = file.create_dataset("w", data=NUMBERS, **options)
        raw = np.ascontiguousarray(NUMBERS[30:, :17]).tobytes()
        dataset.id.write_direct_chunk((30, 0), raw, filter_mask=0b11)
        deflated = zlib.compress(np.ascontiguousarray(NUMBERS[30:, 17:]).tobytes())
        dataset.id.write_direct_chunk((30, 17), deflated, filter_mask=0b01)
        np.testing.assert_array_equal(dataset[...], NUMBERS)
    np.testing.assert_array_equal(read_whole(path, "w"), NUMBERS)


def test_checksum_before_the_compression(tmp_path: Path) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((30, 17))
    plist.set_fletcher32()
    plist.set_shuffle()
    plist.set_deflate(4)
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(NUMBERS.shape)
        dataset = h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, space, plist)
        h5py.Dataset(dataset)[...] = NUMBERS
    np.testing.assert_array_equal(read_whole(path, "w"), NUMBERS)


@pytest.mark.parametrize("block", [512, 1024, 2048, 4096])
def test_behind_a_user_block(tmp_path: Path, block: int) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w", userblock_size=block) as file:
        file["flat"] = NUMBERS
        file.create_dataset("chunked", data=NUMBERS, chunks=(16, 8))
    np.testing.assert_array_equal(read_whole(path, "flat"), NUMBERS)
    np.testing.assert_array_equal(read_whole(path, "chunked"), NUMBERS)
    assert Hdf5Reader().recognises(path.read_bytes()[:4096]) == (block < 4096)


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">f2"])
@pytest.mark.parametrize("options", [{}, {"chunks": (7, 5), "shuffle": True, "compression": 1}])
def test_big_endian(tmp_path: Path, dtype: str, options: Any) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=NUMBERS[:14, :10].astype(dtype), **options)
    assert listing(path).tensors[0].dtype == np.dtype(dtype).name
    np.testing.assert_array_equal(read_whole(path, "w"), NUMBERS[:14, :10])


@pytest.mark.parametrize("chunks", [None, (7, 5)])
def test_big_endian_bits_of_bfloat16(tmp_path: Path, chunks: Any) -> None:
    path = tmp_path / "m.h5"
    numbers = NUMBERS[:14, :10].astype(ml_dtypes.bfloat16)
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=numbers.view(np.uint16).astype(">u2"), chunks=chunks)
        file["w"].attrs[DTYPE_ATTRIBUTE] = np.bytes_("bfloat16")
    found = read_whole(path, "w")
    assert found.astype(np.float32).tolist() == numbers.astype(np.float32).tolist()


@pytest.mark.parametrize(
    ("name", "fields", "bias"),
    [
        ("bfloat16", (15, 7, 8, 0, 7), 127),
        ("float8_e4m3fn", (7, 3, 4, 0, 3), 7),
        ("float8_e5m2", (7, 2, 5, 0, 2), 15),
    ],
)
def test_types_that_hdf5_itself_describes(
    tmp_path: Path, name: str, fields: tuple[int, ...], bias: int
) -> None:
    numbers = NUMBERS[:3, :4].astype(getattr(ml_dtypes, name))
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(*fields)
        kind.set_size(numbers.itemsize)
        kind.set_ebias(bias)
        dataset = h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((3, 4)))
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, numbers.view(f"u{numbers.itemsize}"), mtype=kind)
    assert listing(path).tensors[0].dtype == name
    found = read_whole(path, "w")
    assert found.astype(np.float32).tolist() == numbers.astype(np.float32).tolist()


def test_integers_and_booleans_are_listed_with_their_type(tmp_path: Path) -> None:
    names = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]
    path = make(tmp_path / "m.h5", **{name: np.ones((2, 2), name) for name in names})
    assert {t.name: t.dtype for t in listing(path).tensors} == {name: name for name in names}


def test_nothing_but_numbers_is_skipped_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["fixed"] = np.array([b"abc"])
        file["text"] = "words"
        file["compound"] = np.zeros(2, [("a", "f4"), ("b", "f4")])
        file["enum"] = np.zeros(2, h5py.enum_dtype({"x": 0, "y": 1}))
        file.create_dataset("lists", (2,), h5py.vlen_dtype(np.float32))
        file.create_dataset("refs", (2,), h5py.ref_dtype)
        file["void"] = h5py.Empty("f4")
        file["opaque"] = np.zeros(2, "V2")
        file["long"] = np.ones((2, 2), np.longdouble)
        file["rows"] = h5py.Empty(np.dtype(("f4", (2,))))
        file["type"] = np.dtype("f4")
        file["w"] = NUMBERS
    found = listing(path)
    assert [t.name for t in found.tensors] == ["w"]
    reasons = {item.name: item.reason for item in found.skipped}
    assert reasons.keys() == {
        *("fixed", "text", "compound", "enum", "lists", "refs", "void", "opaque", "long"),
        *("rows", "type"),
    }
    assert "strings" in reasons["fixed"]
    assert "strings" in reasons["text"]
    assert "80-bit float" in reasons["long"] or "float in 16 bytes" in reasons["long"]
    assert "compound" in reasons["compound"]
    assert not found.missing


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (np.zeros((2, 2), np.uint8), np.bytes_("bfloat16")),
        (np.zeros((2, 2), np.uint16), np.bytes_("float8_e5m2")),
        (np.zeros((2, 2), np.uint16), np.bytes_("float7")),
        (np.zeros((2, 2), np.uint16), np.bytes_("b" * 5000)),
        (np.zeros((2, 2), np.uint16), "bfloat16"),
        (np.zeros((2, 2), np.uint16), np.zeros(3)),
    ],
    ids=["narrow", "wide", "unknown", "long", "variable", "array"],
)
def test_our_attribute_must_fit(tmp_path: Path, data: Any, value: Any) -> None:
    path = make(tmp_path / "m.h5", w=data)
    with h5py.File(path, "r+") as file:
        file["w"].attrs[DTYPE_ATTRIBUTE] = value
    with pytest.raises(InputRejected, match=f"w: {DTYPE_ATTRIBUTE}"):
        Hdf5Reader().open(path)


# Keras's layouts.


def test_keras_3_kernels_have_their_channels_last(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    half = np.ones((3, 4), ml_dtypes.bfloat16)
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = np.ones((3, 3, 8, 16), np.float32)
        file["layers/conv1d/vars/0"] = np.ones((3, 8, 16), np.float32)
        file["layers/conv3d/vars/0"] = np.ones((3, 3, 3, 8, 16), np.float32)
        file["layers/dense/vars/0"] = np.ones((16, 4), np.float32)
        file["layers/attention/query_dense/vars/0"] = np.ones((16, 2, 8), np.float32)
        file["layers/attention/output_dense/vars/0"] = np.ones((2, 8, 16), np.float32)
        # As Keras does: h5py stores bfloat16 as opaque bytes.
        file.create_dataset("layers/half/vars/0", data=half).attrs["dtype"] = "bfloat16"
        file["optimizer/vars/3"] = np.ones((16, 4), np.float32)
    found = listing(path)
    assert {t.name: t.channels_last for t in found.tensors} == {
        "layers/conv2d/vars/0": True,
        "layers/conv1d/vars/0": True,
        "layers/conv3d/vars/0": True,
        "layers/dense/vars/0": False,
        "layers/attention/query_dense/vars/0": False,
        "layers/attention/output_dense/vars/0": True,
        "layers/half/vars/0": False,
    }
    assert [item.name for item in found.skipped] == ["optimizer/vars/3"]
    read = read_whole(path, "layers/half/vars/0")
    assert read.dtype == half.dtype
    assert read.astype(np.float32).tolist() == half.astype(np.float32).tolist()


@pytest.mark.parametrize("root", ["", "model_weights/"])
def test_keras_2_kernels_have_their_channels_last(tmp_path: Path, root: str) -> None:
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file[f"{root}conv/conv/kernel:0"] = np.ones((3, 3, 8, 16), np.float32)
        file[root or "/"].attrs["layer_names"] = [b"conv"]
        if root:
            file["optimizer_weights/SGD/m:0"] = np.ones((3, 3), np.float32)
    found = listing(path)
    assert [t.channels_last for t in found.tensors] == [True]
    assert [item.name for item in found.skipped] == ["optimizer_weights/SGD/m:0"] * bool(root)


def test_other_files_have_their_channels_first(tmp_path: Path) -> None:
    path = make(tmp_path / "m.h5", **{"conv.weight": np.ones((16, 8, 3, 3), np.float32)})
    assert not listing(path).tensors[0].channels_last


# Windows.


@pytest.mark.parametrize("chunks", [None, (64, 64, 3, 3), (8, 512, 1, 1)])
def test_memory_of_a_column_window(tmp_path: Path, chunks: Any) -> None:
    path = tmp_path / "m.h5"
    tensor = np.random.default_rng(0).standard_normal((64, 4096, 3, 3)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=tensor, chunks=chunks)
    with opened(path) as checkpoint:
        spec = whole(checkpoint.listing.tensors[0])
        tracemalloc.start()
        found = checkpoint.read(spec, slice(0, 64), slice(1000, 3000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    np.testing.assert_array_equal(found, tensor.reshape(64, -1)[:, 1000:3000])
    # The chunks that it touches are kept, each whole.
    touched = 0 if chunks is None else tensor[:, :512].nbytes
    assert peak < 3 * found.nbytes + touched < tensor.nbytes


@given(st.data())
def test_boxes_are_the_elements_in_order(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), max_size=4)))
    tensor = np.arange(int(np.prod(shape))).reshape(shape)
    start = data.draw(st.integers(0, tensor.size))
    stop = data.draw(st.integers(start, tensor.size))
    found = list(boxes(start, stop, shape))
    assert [int(i) for box in found for i in tensor[box].ravel()] == list(range(start, stop))
    assert len(found) <= max(1, 2 * len(shape) - 1)


@given(st.data())
def test_any_window_of_any_chunks(tmp_path_factory: Any, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=4)))
    chunk = tuple(data.draw(st.integers(1, n)) for n in shape)
    depth = data.draw(st.integers(0, len(shape) - 2))
    split = data.draw(st.integers(1, len(shape) - depth - 1))
    index = tuple(data.draw(st.integers(0, n - 1)) for n in shape[:depth])
    tensor = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    inner = tensor[index]
    matrix = inner.reshape(int(np.prod(inner.shape[:split])), -1)
    rows = data.draw(windows(matrix.shape[0]))
    columns = data.draw(windows(matrix.shape[1]))
    path = tmp_path_factory.getbasetemp() / "any.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=tensor, chunks=chunk)
    spec = MatrixSpec("w", "w", index, split, matrix.shape, "float32", "linear")
    with opened(path) as checkpoint:
        found = checkpoint.read(spec, rows, columns)
    np.testing.assert_array_equal(found, matrix[rows, columns])


def windows(length: int) -> st.SearchStrategy[slice]:
    return st.integers(0, length - 1).flatmap(
        lambda a: st.integers(a + 1, length).map(lambda b: slice(a, b))
    )


def test_few_chunks_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_chunks, "CACHE_BYTES", 100_000)
    path = tmp_path / "m.h5"
    tensor = np.random.default_rng(0).standard_normal((2000, 500))
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=tensor, chunks=(50, 100))
    with opened(path) as checkpoint:
        spec = whole(checkpoint.listing.tensors[0])
        tracemalloc.start()
        for start in range(0, 2000, 40):
            found = checkpoint.read(spec, slice(start, start + 40), slice(0, 500))
            np.testing.assert_array_equal(found, tensor[start : start + 40])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100_000 + 5 * found.nbytes < tensor.nbytes
