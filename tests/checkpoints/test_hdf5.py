"""The HDF5 reader against h5py."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.checkpoints.boxes import boxes
from rankscope.checkpoints.hdf5 import Hdf5Reader
from rankscope.checkpoints.hdf5_types import BITS_OF, DTYPE_ATTRIBUTE
from rankscope.errors import InputRejected
from rankscope.records import Checkpoint, Listing, MatrixSpec
from tests.contracts.reader import Arrays, ReaderContract, whole

NUMBERS = np.arange(60 * 34, dtype=np.float32).reshape(60, 34)


def put(file: Any, arrays: Arrays, **options: Any) -> None:
    """Write arrays as `SnapshotWriter` does: what h5py cannot, as bits with an attribute."""
    for name, array in arrays.items():
        bits = BITS_OF.get(array.dtype.name)
        data = array.view(bits) if bits else array
        dataset = file.create_dataset(name, data=data, **(options if array.ndim else {}))
        if bits:
            dataset.attrs[DTYPE_ATTRIBUTE] = array.dtype.name


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


def put_compact(file: Any, name: str, array: Any) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    bits = BITS_OF.get(array.dtype.name, array.dtype.name)
    kind = h5py.h5t.py_create(np.dtype(bits))
    space = h5py.h5s.create_simple(array.shape)
    dataset = h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=plist))
    dataset[...] = array.view(bits)
    if bits != array.dtype.name:
        dataset.attrs[DTYPE_ATTRIBUTE] = array.dtype.name


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


# What h5py wrote is what we read.


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (16, 8)},
        {"chunks": (60, 34)},
        {"chunks": (7, 34), "maxshape": (None, 34)},
        {"chunks": (7, 8), "maxshape": (None, None)},
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
        file["w"].attrs[DTYPE_ATTRIBUTE] = "bfloat16"
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
        (np.zeros((2, 2), np.uint8), "bfloat16"),
        (np.zeros((2, 2), np.uint16), "float8_e5m2"),
        (np.zeros((2, 2), np.uint16), "float7"),
        (np.zeros((2, 2), np.uint16), "b" * 5000),
        (np.zeros((2, 2), np.uint16), np.zeros(3)),
    ],
    ids=["narrow", "wide", "unknown", "long", "array"],
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


# Links.


def test_each_object_is_listed_once(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["embedding"] = NUMBERS
        file["group/head"] = file["embedding"]
        file["group/up"] = file["/"]
        file["group/self"] = file["group"]
        file["group/alias"] = h5py.SoftLink("./../embedding")
        file["group/soft"] = h5py.SoftLink("/embedding")
        file["group/near"] = h5py.SoftLink("head")
        file["through"] = h5py.SoftLink("/soft/head")
        file["soft"] = h5py.SoftLink("group")
        file["round"] = h5py.SoftLink("round")
        file["nowhere"] = h5py.SoftLink("/gone/w")
    found = listing(path)
    assert [t.name for t in found.tensors] == ["embedding"]
    reasons = {item.name: item.reason for item in found.skipped}
    assert reasons == {
        "group/head": "the same object as embedding (hard link)",
        "group/up": "the same object as / (hard link)",
        "group/self": "the same object as group (hard link)",
        "group/soft": "a soft link to embedding",
        "group/near": "a soft link to embedding",
        "through": "a soft link to embedding",
        "soft": "a soft link to group",
    }
    # HDF5 has no "..": that link leads nowhere.
    assert [item.name for item in found.missing] == ["group/alias", "nowhere", "round"]


def external_link(file: Any, other: Path) -> None:
    file["deep/w"] = h5py.ExternalLink(str(other), "/w")


def behind_soft_link(file: Any, other: Path) -> None:
    file["out"] = h5py.ExternalLink(str(other), "/")
    file["a"] = h5py.SoftLink("/out/w")


def external_storage(file: Any, other: Path) -> None:
    file.create_dataset("w", (4, 4), "f4", external=[(str(other), 0, 64)])


def virtual_dataset(file: Any, other: Path) -> None:
    layout = h5py.VirtualLayout((60, 34), "f4")
    layout[...] = h5py.VirtualSource(str(other), "w", (60, 34))
    file.create_virtual_dataset("w", layout)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (external_link, "deep/w: external link"),
        (behind_soft_link, "out: external link"),
        (external_storage, "w: external storage"),
        (virtual_dataset, "w: virtual dataset"),
    ],
)
def test_other_files_are_never_read(tmp_path: Path, write: Any, reason: str) -> None:
    other = make(tmp_path / "other.h5", w=NUMBERS)
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        write(file, other)
        file["z"] = NUMBERS
    with pytest.raises(InputRejected, match=reason):
        Hdf5Reader().open(path)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "m.h5", **{"/".join("a" * 5000): NUMBERS})
    with pytest.raises(InputRejected, match="nested deeper"):
        Hdf5Reader().open(path)


def test_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file[b"caf\xe9"] = NUMBERS
    with pytest.raises(InputRejected, match="not UTF-8"):
        Hdf5Reader().open(path)


# What was never written, or is stored in a way that is not read.


def test_chunks_never_written_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("part", (64, 8), "f4", chunks=(8, 8))[:24] = 1
        file.create_dataset("none", (64, 8), "f4", chunks=(8, 8))
        file.create_dataset("late", (64, 8), "f4")
        file.create_dataset("grown", data=NUMBERS, chunks=(60, 34), maxshape=(None, 34))
        file["grown"].resize((61, 34))
        file["w"] = NUMBERS
    found = listing(path)
    assert [t.name for t in found.tensors] == ["w"]
    assert {item.name: item.reason for item in found.missing} == {
        "part": "5 of 8 chunks were never written",
        "none": "8 of 8 chunks were never written",
        "late": "none of its 2048 bytes were ever written",
        "grown": "1 of 2 chunks were never written",
    }


@pytest.mark.parametrize("chunks", [(1024, 1024), None])
def test_small_file_that_declares_4_terabytes(tmp_path: Path, chunks: Any) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("huge", (2**20, 2**20), "f4", chunks=chunks)
    assert path.stat().st_size < 5000
    with pytest.raises(InputRejected, match="huge: declares 4398046511104 bytes and stores 0"):
        Hdf5Reader().open(path)


def lzf(file: Any) -> None:
    file.create_dataset("w", data=NUMBERS, compression="lzf")


def scale_offset(file: Any) -> None:
    file.create_dataset("w", data=NUMBERS, scaleoffset=2)


@pytest.mark.parametrize(
    ("write", "reason"),
    [(lzf, "filter lzf"), (scale_offset, "filter scale-offset")],
)
def test_other_filters_are_refused_by_name(tmp_path: Path, write: Any, reason: str) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        write(file)
    with pytest.raises(InputRejected, match=f"w: {reason}"):
        Hdf5Reader().open(path)


def test_filter_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=NUMBERS, compression="lzf")
    data = path.read_bytes()
    wanted = (32000).to_bytes(2, "little") + (8).to_bytes(2, "little")
    assert data.count(wanted) == 1
    path.write_bytes(data.replace(wanted, (40000).to_bytes(2, "little") + wanted[2:]))
    with pytest.raises(InputRejected, match=r"w: filter \w+ \(40000\)"):
        Hdf5Reader().open(path)


def test_shuffled_partial_chunks_without_gzip_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=NUMBERS, chunks=(16, 8), shuffle=True)
    found = listing(path)
    assert not found.tensors
    assert "shuffled without gzip" in found.skipped[0].reason


def test_chunk_too_large_to_unpack_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("w", (2**14, 2**13), "f4", chunks=(2**14, 2**13))
        dataset.id.write_direct_chunk((0, 0), b"packed")
    assert "536870912 bytes" in listing(path).skipped[0].reason


# Damage.


def test_wrong_checksum(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=NUMBERS, chunks=(60, 34), fletcher32=True)
        offset = file["w"].id.get_chunk_info(0).byte_offset
    with open(path, "r+b") as raw:
        raw.seek(offset + 4001)
        raw.write(b"\xff")
    with pytest.raises(InputRejected, match="w: chunk 0 does not match its fletcher32"):
        read_whole(path, "w")


@pytest.mark.parametrize("size", [0, 1, 2, 5, 719, 720, 721, 40_001, 100_000])
@pytest.mark.parametrize("byte", [None, 0x00, 0xFF])
def test_checksums_of_any_length(tmp_path: Path, size: int, byte: int | None) -> None:
    data = np.random.default_rng(size).integers(0, 256, (2, size + 1), np.uint8)
    if byte is not None:
        data[:] = byte
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=data, chunks=data.shape, fletcher32=True)
    np.testing.assert_array_equal(read_whole(path, "w"), data)


@pytest.mark.parametrize("content", [b"no deflate", b"\0", bytes(100)])
def test_broken_deflate_stream(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("w", (8, 8), "f4", chunks=(8, 8), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), content)
    with pytest.raises(InputRejected, match=r"deflate stream is broken|does not unpack"):
        read_whole(path, "w")


@pytest.mark.parametrize("size", [0, 63 * 4, 65 * 4, 10**8])
def test_stream_that_unpacks_to_another_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("w", (8, 8), "f4", chunks=(8, 8), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(size)))
    with pytest.raises(InputRejected, match="does not unpack to 256 bytes"):
        read_whole(path, "w")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("chunks", [None, (7, 8)])
def test_truncated_file(tmp_path: Path, keep: float, chunks: Any) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=NUMBERS, chunks=chunks)
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(InputRejected, match="truncated"):
        Hdf5Reader().open(path)


def test_not_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(InputRejected, match="signature"):
        Hdf5Reader().open(path)


# The file system.


def test_read_only_file_in_a_read_only_directory(tmp_path: Path) -> None:
    path = make(tmp_path / "m.h5", w=NUMBERS)
    path.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        np.testing.assert_array_equal(read_whole(path, "w"), NUMBERS)
    finally:
        tmp_path.chmod(0o700)


def test_while_a_writer_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["w"] = NUMBERS
        file.flush()
        script = (
            "import sys; from pathlib import Path; from rankscope.checkpoints.hdf5 import "
            "Hdf5Reader; print(Hdf5Reader().open(Path(sys.argv[1])).listing.tensors[0].shape)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, path],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stdout == "(60, 34)\n", done.stderr


# Windows.


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
