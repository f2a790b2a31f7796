"""The reader of single arrays against NumPy."""

from __future__ import annotations

import io
import os
import re
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.checkpoints.fortran import MAX_RUN
from rankscope.checkpoints.npy import NpyReader
from rankscope.errors import InputRejected
from rankscope.records import MatrixSpec, TensorInfo
from tests.contracts.reader import Arrays, ReaderContract, whole


class TestContract(ReaderContract):
    reader = NpyReader()
    suffix = ".npy"
    dtypes = ("float64", "float32", "float16")

    def write(self, path: Path, arrays: Arrays) -> None:
        (array,) = arrays.values()
        np.save(path, array)

    def make(self, tmp_path: Path, arrays: Arrays) -> Path:
        """The tensor is named after the file."""
        (name,) = arrays
        path = tmp_path / f"{name}.npy"
        self.write(path, arrays)
        return path

    def test_lists_names_shapes_and_dtypes(self, tmp_path: Path) -> None:
        path = self.make(tmp_path, {"a.weight": np.ones((2, 3), np.float32)})
        checkpoint = self.reader.open(path)
        assert checkpoint.listing.tensors == (TensorInfo("a.weight", (2, 3), "float32"),)
        assert checkpoint.listing.files == (str(path),)
        checkpoint.close()

    def test_every_dtype_reads_back_bit_for_bit(self, tmp_path: Path) -> None:
        for name in self.dtypes:
            array = np.random.default_rng(0).standard_normal((7, 5)).astype(name)
            path = self.make(tmp_path, {name: array})
            found = read(path, whole(TensorInfo(name, (7, 5), name)))
            assert found.dtype.newbyteorder("=") == array.dtype
            assert found.astype(array.dtype).tobytes() == array.tobytes()


class TestContractInFortranOrder(TestContract):
    def write(self, path: Path, arrays: Arrays) -> None:
        (array,) = arrays.values()
        np.save(path, np.asfortranarray(array))


class TestContractOfBigEndians(TestContract):
    def write(self, path: Path, arrays: Arrays) -> None:
        (array,) = arrays.values()
        np.save(path, array.astype(array.dtype.newbyteorder(">")))


def read(path: Path, spec: MatrixSpec, rows: Any = None, columns: Any = None) -> Any:
    checkpoint = NpyReader().open(path)
    window = checkpoint.read(
        spec, rows or slice(0, spec.shape[0]), columns or slice(0, spec.shape[1])
    )
    checkpoint.close()
    return window


def saved(tmp_path: Path, array: Any, **options: Any) -> Path:
    path = tmp_path / "w.npy"
    np.save(path, array, **options)
    return path


def written(tmp_path: Path, header: str, data: bytes = b"", version: int = 1) -> Path:
    """A file with any header."""
    path = tmp_path / "w.npy"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + data)
    return path


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format(tmp_path: Path, version: tuple[int, int]) -> None:
    array = np.arange(6.0).reshape(2, 3)
    path = tmp_path / "w.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array(file, array, version)
    np.testing.assert_array_equal(read(path, whole(TensorInfo("w", (2, 3), "float64"))), array)


def test_integers_and_booleans_are_listed_with_their_type(tmp_path: Path) -> None:
    for name in ["bool", "int8", "uint16", "int32", "uint64", "complex64", "complex128"]:
        path = saved(tmp_path, np.ones((2, 2), name))
        assert NpyReader().open(path).listing.tensors == (TensorInfo("w", (2, 2), name),)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(2, [("a", "f4")]), "structured"),
        (np.zeros(2, "S3"), "byte strings"),
        (np.zeros(2, "U3"), "strings"),
        (np.zeros(2, "M8[s]"), r"'<M8\[s\]' is not known"),
        (np.zeros(2, np.longdouble), "not known"),
        (np.zeros(2, "V3"), "raw bytes"),
        (np.zeros(2, ml_dtypes.bfloat16), "NumPy keeps no bfloat16"),
        (np.zeros(2, ml_dtypes.float8_e4m3fn), "NumPy keeps no bfloat16 or float8"),
        (np.zeros(2, ml_dtypes.float8_e5m2), "NumPy keeps no bfloat16 or float8"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.dtype),
)
def test_nothing_but_numbers_is_skipped(tmp_path: Path, array: Any, reason: str) -> None:
    listing = NpyReader().open(saved(tmp_path, array)).listing
    assert not listing.tensors
    (skipped,) = listing.skipped
    assert re.search(reason, skipped.reason)


class Bomb:
    def __reduce__(self) -> Any:
        return os._exit, (66,)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = saved(tmp_path, np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(InputRejected, match="Python objects"):
        NpyReader().open(path)


SOUND = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}"


def test_the_header_that_the_next_test_damages_is_sound(tmp_path: Path) -> None:
    NpyReader().open(written(tmp_path, SOUND, bytes(24)))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (SOUND.replace("2", "2000000000"), "truncated"),
        (SOUND.replace("2", "1"), "trailing"),
        (SOUND.replace("2", "-2"), "shape is"),
        (SOUND.replace("2", "True"), "shape is"),
        (SOUND.replace("2", "2.0"), "shape is"),
        (SOUND.replace("2", "9" * 30), "shape is"),
        (SOUND.replace("2", "9" * 5000), "no Python literal"),
        (SOUND.replace("(2, 3)", "[2, 3]"), "shape is"),
        (SOUND.replace("(2, 3)", str((1,) * 65)), "shape is"),
        (SOUND.replace("False", "0"), "fortran_order"),
        (SOUND.replace("'shape'", "'form'"), "no dictionary"),
        (SOUND.replace("(2, 3)", "__import__('os')._exit(66)"), "no Python literal"),
        ("[1]", "no dictionary"),
        ("", "no Python literal"),
        ("(" * 9000, "no Python literal"),
        ("-" * 9000 + "1", "no Python literal"),
        ("{'descr': " + "[" * 3000 + "]" * 3000 + "}", "no Python literal"),
        ("'\\d'", "no dictionary"),
        (" " * 10_001, "expected at most 10000"),
    ],
    ids=lambda value: value[:40],
)
def test_damaged_headers(tmp_path: Path, header: str, reason: str) -> None:
    with pytest.raises(InputRejected, match=reason):
        NpyReader().open(written(tmp_path, header, bytes(24)))


@pytest.mark.parametrize("version", [0, 4, 255])
def test_unknown_versions(tmp_path: Path, version: int) -> None:
    with pytest.raises(InputRejected, match=f"format version {version}"):
        NpyReader().open(written(tmp_path, SOUND, bytes(24), version))


def test_every_truncation(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.ones((2, 3)))
    path = tmp_path / "w.npy"
    for length in range(len(buffer.getvalue())):
        path.write_bytes(buffer.getvalue()[:length])
        with pytest.raises(InputRejected):
            NpyReader().open(path)


def test_two_arrays_in_one_file(tmp_path: Path) -> None:
    with open(tmp_path / "w.npy", "wb") as file:
        np.save(file, np.ones((2, 3)))
        np.save(file, np.ones((2, 3)))
    with pytest.raises(InputRejected, match="trailing bytes"):
        NpyReader().open(tmp_path / "w.npy")


@given(st.data())
def test_any_window_in_fortran_order(tmp_path_factory: Any, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=4)))
    depth = data.draw(st.integers(0, len(shape) - 2))
    split = data.draw(st.integers(1, len(shape) - depth - 1))
    index = tuple(data.draw(st.integers(0, n - 1)) for n in shape[:depth])
    tensor = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    matrix = tensor[index].reshape(int(np.prod(shape[depth : depth + split])), -1)
    rows, columns = (
        slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))))
        for n in matrix.shape
    )
    path = saved(tmp_path_factory.getbasetemp(), np.asfortranarray(tensor))
    spec = MatrixSpec("w", "w", index, split, matrix.shape, "float32", "linear")
    if rows.start < rows.stop and columns.start < columns.stop:
        np.testing.assert_array_equal(read(path, spec, rows, columns), matrix[rows, columns])


@pytest.mark.parametrize(
    ("shape", "index"), [((256, 128, 3, 3), ()), ((6, 400, 300), (4,)), ((9000, 10, 8), (8999,))]
)
def test_memory_of_a_window_in_fortran_order(
    tmp_path: Path, shape: tuple[int, ...], index: tuple[int, ...]
) -> None:
    """Runs with gaps, runs without, runs that are cut: all numbers, and not all in memory."""
    tensor = np.random.default_rng(0).standard_normal(shape)
    matrix = tensor[index].reshape(shape[len(index)], -1)
    path = saved(tmp_path, np.asfortranarray(tensor))
    spec = MatrixSpec("w", "w", index, 1, matrix.shape, "float64", "linear")
    read(path, spec)  # imports
    tracemalloc.start()
    found = read(path, spec, slice(3, 9))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, matrix[3:9])
    assert peak < 5 * found.nbytes + 2 * tensor.itemsize * MAX_RUN < tensor.nbytes
    np.testing.assert_array_equal(read(path, spec), matrix)
