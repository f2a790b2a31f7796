"""The reader of archives of arrays against NumPy."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from rankscope.checkpoints import npz
from rankscope.checkpoints.npz import NpzReader
from rankscope.errors import InputRejected, OutputFailed
from rankscope.records import Skipped, TensorInfo
from tests.contracts.reader import Arrays, ReaderContract, whole

NOISE = np.random.default_rng(0).standard_normal((300, 200))


class TestContract(ReaderContract):
    reader = NpzReader()
    suffix = ".npz"
    dtypes = ("float64", "float32", "float16")

    def write(self, path: Path, arrays: Arrays) -> None:
        with open(path, "wb") as file:
            np.savez(file, **arrays)


class TestContractOfFortranOrder(TestContract):
    def write(self, path: Path, arrays: Arrays) -> None:
        super().write(path, {name: np.asfortranarray(array) for name, array in arrays.items()})


class TestContractCompressed(TestContract):
    def write(self, path: Path, arrays: Arrays) -> None:
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def array_file(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def read(path: Path, name: str, shape: tuple[int, ...]) -> Any:
    checkpoint = NpzReader().open(path)
    try:
        spec = whole(TensorInfo(name, shape, "float64"))
        return checkpoint.read(spec, slice(0, spec.shape[0]), slice(0, spec.shape[1]))
    finally:
        checkpoint.close()


class Bomb:
    def __reduce__(self) -> Any:
        return os._exit, (66,)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_is_no_array_of_numbers_is_skipped(tmp_path: Path, method: int) -> None:
    members = {
        "w.npy": array_file(np.ones((2, 3))),
        "objects.npy": array_file(np.array([Bomb()], dtype=object), allow_pickle=True),
        "half.npy": array_file(np.ones((2, 2), ml_dtypes.bfloat16)),
        "readme.txt": b"words",
    }
    listing = NpzReader().open(archive(tmp_path / "m.npz", members, method)).listing
    assert [t.name for t in listing.tensors] == ["w"]
    reasons = {item.name: item.reason for item in listing.skipped}
    assert reasons.keys() == {"objects", "half", "readme.txt"}
    assert "pickled, which is never undone" in reasons["objects"]
    assert "bfloat16" in reasons["half"]
    assert "not an array" in reasons["readme.txt"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_skipped_by_name(tmp_path: Path, method: int) -> None:
    path = archive(tmp_path / "m.npz", {"w.npy": array_file(NOISE)}, method)
    names = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}
    reason = f"compressed with {names[method]}, expected none or deflate"
    assert NpzReader().open(path).listing.skipped == (Skipped("w", reason),)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (array_file(NOISE)[:-1], "truncated"),
        (array_file(NOISE) + b"\0", "trailing bytes"),
        (b"something else", "expected a NumPy array"),
        (b"", "expected a NumPy array"),
    ],
)
def test_damaged_members(tmp_path: Path, method: int, content: bytes, reason: str) -> None:
    path = archive(tmp_path / "m.npz", {"a/w.npy": content}, method)
    with pytest.raises(InputRejected, match=f"a/w: .*{reason}"):
        NpzReader().open(path)


def test_only_archives_that_begin_with_an_array_are_ours(tmp_path: Path) -> None:
    mine = archive(tmp_path / "a", {"x.npy": b"", "data.pkl": b""}).read_bytes()
    other = archive(tmp_path / "b", {"data.pkl": b"", "x.npy": b""}).read_bytes()
    empty = archive(tmp_path / "c", {}).read_bytes()
    assert [NpzReader().recognises(head) for head in (mine, other, empty, b"PK", b"")] == [
        *(True, False, False, False, False)
    ]


# Deflated entries.


def test_one_array_is_unpacked_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez_compressed(path, a=NOISE, b=-NOISE, c=NOISE.T[:7])
    checkpoint = NpzReader().open(path)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for name, array in [("a", NOISE), ("b", -NOISE), ("a", NOISE), ("c", NOISE.T[:7])]:
        spec = whole(TensorInfo(name, array.shape, "float64"))
        for start in range(0, array.shape[1], 50):
            window = checkpoint.read(spec, slice(2, 7), slice(start, start + 50))
            np.testing.assert_array_equal(window, array[2:7, start : start + 50])
    if before:
        assert len(os.listdir("/proc/self/fd")) == before + 1
    checkpoint.close()


def test_memory_while_unpacking(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez_compressed(path, w=np.zeros((4000, 1000)))
    checkpoint = NpzReader().open(path)
    spec = whole(checkpoint.listing.tensors[0])
    tracemalloc.start()
    window = checkpoint.read(spec, slice(0, 10), slice(0, 1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    checkpoint.close()
    assert not window.any()
    assert peak < 5 * npz.BLOCK_BYTES < 32_000_000


def deflated(tmp_path: Path) -> tuple[Path, bytearray, int]:
    """A sound file, its bytes, and where the packed bytes of its one entry begin."""
    path = tmp_path / "m.npz"
    np.savez_compressed(path, w=NOISE)
    data = bytearray(path.read_bytes())
    name, extra = struct.unpack_from("<2H", data, 26)
    return path, data, 30 + name + extra


def test_flipped_bytes_of_the_stream_are_found(tmp_path: Path) -> None:
    path, sound, start = deflated(tmp_path)
    end = bytes(sound).index(b"PK\x01\x02")
    for place in np.random.default_rng(0).integers(start + 300, end, 20):
        data = bytearray(sound)
        data[place] ^= 0x10
        path.write_bytes(data)
        with pytest.raises(InputRejected, match=r"w: .*(does not unpack|stream is broken)"):
            read(path, "w", NOISE.shape)


def test_wrong_checksum(tmp_path: Path) -> None:
    path, data, _ = deflated(tmp_path)
    data[bytes(data).index(b"PK\x01\x02") + 16] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputRejected, match=r"w: does not unpack to 480128 bytes with checksum"):
        read(path, "w", NOISE.shape)


def set_size(path: Path, data: bytearray, size: int) -> None:
    """Let the directory claim another unpacked size."""
    struct.pack_into("<I", data, bytes(data).index(b"PK\x01\x02") + 24, size)
    path.write_bytes(data)


def packed_array(tmp_path: Path, shape: tuple[int, int], rows: int) -> tuple[Path, bytearray]:
    """An array whose header has one shape and whose content has some rows."""
    content = array_file(np.zeros((rows, shape[1])))
    content = content.replace(f"({rows}, ".encode(), f"({shape[0]}, ".encode())
    path = archive(tmp_path / "m.npz", {"w.npy": content}, zipfile.ZIP_DEFLATED)
    return path, bytearray(path.read_bytes())


@pytest.mark.parametrize("rows", [9990, 1000])
def test_stream_that_unpacks_to_less_or_more(tmp_path: Path, rows: int) -> None:
    path, data = packed_array(tmp_path, (5000, 100), rows)
    set_size(path, data, 128 + 5000 * 100 * 8)
    with pytest.raises(InputRejected, match="does not unpack to 4000128 bytes"):
        read(path, "w", (5000, 100))


def test_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What unpacks to nine times what it declares is stopped at what it declares."""
    path, data = packed_array(tmp_path, (1000, 1000), 9000)
    set_size(path, data, 128 + 1000 * 1000 * 8)
    scratch = tmp_path / "scratch"
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: scratch.open("w+b"))
    tracemalloc.start()
    with pytest.raises(InputRejected, match="does not unpack"):
        read(path, "w", (1000, 1000))
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
    assert scratch.stat().st_size <= 8_000_128 + npz.BLOCK_BYTES


def test_stream_that_ends_early(tmp_path: Path) -> None:
    path, data, _ = deflated(tmp_path)
    struct.pack_into("<I", data, bytes(data).index(b"PK\x01\x02") + 20, 100_000)
    path.write_bytes(data)
    with pytest.raises(InputRejected, match="does not unpack to 480128 bytes"):
        read(path, "w", NOISE.shape)


def test_declares_far_more_than_it_stores(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    # A zip64 size of 5 GB on an entry of some bytes.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("w.npy", array_file(np.zeros((2, 2))))
        file.filelist[0].file_size = 5 * 10**9
    with pytest.raises(InputRejected, match="w: declares 5000000000 bytes and stores"):
        NpzReader().open(path)


def test_no_room_for_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _, _ = deflated(tmp_path)

    def full() -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OutputFailed, match="no room to unpack 480128 bytes of w: No space left"):
        read(path, "w", NOISE.shape)
