"""HDF5 files that are not what they claim: links out, holes, bombs, damage."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

from rankscope.checkpoints import hdf5
from rankscope.checkpoints.hdf5 import Hdf5Reader
from rankscope.checkpoints.hdf5_links import walk
from rankscope.errors import InputRejected
from tests.checkpoints.hdf5files import NUMBERS, listing, make, put, put_compact, read_whole

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


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_chunks_that_the_library_mixes_up_are_skipped(tmp_path: Path, libver: str) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("w", data=NUMBERS, chunks=(30, 17), maxshape=(60, None))
    found = listing(path)
    assert not found.tensors
    assert "can grow along an axis other than its first" in found.skipped[0].reason


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


# Run in a child: the library has crashed and hung on such files before. The child prints what
# it got for each file, and the file's name first, so that a crash can be told from a finding.
FUZZ = """
import sys
from pathlib import Path
from rankscope.checkpoints.hdf5 import Hdf5Reader
from rankscope.errors import InputRejected
from tests.contracts.reader import whole
for path in sorted(Path(sys.argv[1]).glob("*.h5")):
    print(path.name, end=" ", flush=True)
    try:
        checkpoint = Hdf5Reader().open(path)
        for info in checkpoint.listing.tensors:
            rows, columns = (min(n, 100) for n in whole(info).shape)
            window = checkpoint.read(whole(info), slice(0, rows), slice(0, columns))
            assert window.dtype == info.dtype
        print("read", flush=True)
    except InputRejected:
        print("rejected", flush=True)
"""


def limited() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))


def test_flipped_bytes_are_rejected_or_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i, libver in enumerate(["earliest", "latest"]):
        with h5py.File(tmp_path / "base", "w", libver=libver) as file:
            put(file, {"a/b/flat": NUMBERS[:20, :20], "half": np.ones((3, 3), ml_dtypes.bfloat16)})
            put(file, {"chunked": NUMBERS[:20, :20]}, chunks=(7, 8), compression=1, shuffle=True)
            put(file, {"grown": NUMBERS[:20, :20]}, maxshape=(None, None), fletcher32=True)
            put_compact(file, "compact", NUMBERS[:5, :5])
            file["text"], file["soft"] = "words", h5py.SoftLink("/a/b/flat")
        sound = np.fromfile(tmp_path / "base", np.uint8)
        # Zeros are unused space of the headers for the most part.
        used = np.flatnonzero(sound)
        for number in range(40):
            damaged = sound.copy()
            places = rng.choice(used, rng.integers(1, 5))
            damaged[places] ^= rng.integers(1, 256, len(places), np.uint8)
            damaged.tofile(tmp_path / f"{i}-{number:02}.h5")
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, tmp_path],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limited,
    )
    results = done.stdout.split()[1::2]
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1]}: {done.stderr}"
    assert len(results) == 80
    assert {"read", "rejected"} == set(results)


def damaged_index(path: Path, old: bytes, new: bytes) -> None:
    """A chunked dataset whose index, which older files keep without a checksum, is changed."""
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=NUMBERS, chunks=(60, 17))
        address = file["w"].id.get_chunk_info(1).byte_offset
    data = path.read_bytes()
    # Of the second chunk: bytes, filter mask, where it lies in the array, in the file.
    entry = (60 * 17 * 4).to_bytes(4, "little") + bytes(4)
    entry += b"".join(n.to_bytes(8, "little") for n in (0, 17, 0, address))
    assert data.count(entry) == 1
    path.write_bytes(data.replace(entry, entry.replace(old, new)))


def test_index_that_misses_a_chunk_is_no_zeros(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    damaged_index(path, (17).to_bytes(8, "little"), (34).to_bytes(8, "little"))
    with h5py.File(path) as file:
        assert not file["w"][:, 17:].any(), "what the library makes of it"
    with pytest.raises(InputRejected, match=r"w: chunk at \[0, 34\] is none of the shape"):
        Hdf5Reader().open(path)


def test_chunk_outside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    damaged_index(path, b"", b"")  # sound, to learn the address
    with h5py.File(path) as file:
        address = file["w"].id.get_chunk_info(1).byte_offset
    damaged_index(path, address.to_bytes(8, "little"), (10**6).to_bytes(8, "little"))
    with pytest.raises(InputRejected, match="w: chunk of 4080 bytes at 1000000 in a file of"):
        Hdf5Reader().open(path)


@pytest.mark.parametrize(("part", "value"), [("address", 10**6), ("address", 3000), ("size", 100)])
def test_elements_outside_the_file(tmp_path: Path, part: str, value: int) -> None:
    path = make(tmp_path / "m.h5", w=NUMBERS)
    with h5py.File(path) as file:
        address = file["w"].id.get_offset()
    place = [address, NUMBERS.nbytes]
    old = b"".join(n.to_bytes(8, "little") for n in place)
    place[part == "size"] = value
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, b"".join(n.to_bytes(8, "little") for n in place)))
    # Newer libraries find the first two themselves.
    reason = r"w: (shape \[60, 34\] of float32 needs 8160 bytes|not sound HDF5: .* dataset size)"
    with pytest.raises(InputRejected, match=reason):
        Hdf5Reader().open(path)


def test_too_much_in_the_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        for name in "abc":
            put_compact(file, name, NUMBERS)
    monkeypatch.setattr(hdf5, "MAX_COMPACT_BYTES", 2 * NUMBERS.nbytes)
    with pytest.raises(InputRejected, match="compact datasets of more than"):
        Hdf5Reader().open(path)


def test_changed_while_its_headers_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "m.h5", w=NUMBERS)

    def replace(path: Path, root: Any) -> Any:
        make(path.with_name("other"), w=NUMBERS[:4]).replace(path)
        return walk(path, root)

    monkeypatch.setattr(hdf5, "walk", replace)
    with pytest.raises(InputRejected, match="changed while its headers were read"):
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
