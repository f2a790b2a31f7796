"""The loaders, on files made here in each original layout, and on damaged and hostile ones."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import itertools
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from rankscope.errors import InputRejected, UsageError
from trainers.data import NAMES, Images, Task, distributions, load, loading, synthetic
from trainers.data.distributions import CIFAR10, FASHION_MNIST, MNIST, Original
from trainers.data.images import balanced

ROOT = Path(__file__).parents[2]
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
IDX = [part.name for part in MNIST.forms[0].parts]

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def pixels(seed: int, samples: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (samples, *shape), np.uint8)


def digits_of(seed: int, samples: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 10, samples, np.uint8)


def cifar_pairs() -> list[Pair]:
    return [(pixels(i, 4 + i, 3, 32, 32), digits_of(i, 4 + i)) for i in range(6)]


def text2(value: bytes) -> bytes:
    """A str of Python 2."""
    return b"U" + bytes([len(value)]) + value


def pickle2(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> bytes:
    """A batch, opcode by opcode as Python 2's cPickle and the numpy of its day wrote them."""
    raw = images.tobytes()
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    names = b"".join(
        text2(b"some_auto_s_%06d.png" % i) + b"r" + struct.pack("<I", 300 + i)
        for i in range(len(labels))
    )
    shape = b"M" + struct.pack("<H", len(labels)) + b"M" + struct.pack("<H", 3072) + b"\x86"
    return (
        b"\x80\x02}q\x01("
        + (text2(b"batch_label") + b"q\x02" + text2(b"training batch 1 of 5") + b"q\x03")
        + (text2(b"labels") + b"q\x04]q\x05(" + numbers + b"e")
        + (text2(b"data") + b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\n")
        + (b"q\x08K\x00\x85" + text2(b"b") + b"\x87Rq\x09(K\x01" + shape)
        + (b"cnumpy\ndtype\nq\x0a" + text2(b"u1") + b"K\x00K\x01\x87Rq\x0b(K\x03" + text2(b"|"))
        + (b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(raw)) + raw)
        + (b"tb" + text2(b"filenames") + b"q\x0c]q\x0d(" + names + b"eu.")
    )


def pickle3(protocol: int) -> Callable[[NDArray[np.uint8], NDArray[np.uint8]], bytes]:
    """A batch as Python 3 and today's numpy write it."""

    def write(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> bytes:
        batch = {"labels": labels.tolist(), "data": images.reshape(len(images), -1)}
        return pickle.dumps(batch, protocol)

    return write


def records(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> bytes:
    return np.column_stack([labels, images.reshape(len(images), -1)]).tobytes()


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def write_archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def idx_files(seed: int = 0) -> dict[str, bytes]:
    return {
        IDX[0]: idx(pixels(seed, 20, 28, 28)),
        IDX[1]: idx(digits_of(seed, 20)),
        IDX[2]: idx(pixels(seed + 1, 7, 28, 28)),
        IDX[3]: idx(digits_of(seed + 1, 7)),
    }


def write_svhn(folder: Path, *, compressed: bool = True) -> None:
    for seed, (name, samples) in enumerate([("train", 12), ("test", 5)]):
        images = pixels(seed, samples, 3, 32, 32).transpose(2, 3, 1, 0)
        labels = digits_of(seed, samples)[:, None]
        labels = np.where(labels == 0, 10, labels).astype(np.uint8)
        data = {"X": images, "y": labels}
        savemat(folder / f"{name}_32x32.mat", data, do_compression=compressed)


def rejected(name: str, directory: Path, *, verify: bool = False) -> str:
    with pytest.raises(InputRejected) as caught:
        load(name, directory, verify=verify)
    (line,) = str(caught.value).splitlines()
    assert len(line) < 600
    return line


def check_cifar(images: Images) -> None:
    *train, (test_images, test_labels) = cifar_pairs()
    assert images.train_images.dtype == images.test_images.dtype == torch.uint8
    assert images.train_labels.dtype == images.test_labels.dtype == torch.int64
    assert np.array_equal(images.train_images, np.concatenate([pair[0] for pair in train]))
    assert np.array_equal(images.train_labels, np.concatenate([pair[1] for pair in train]))
    assert np.array_equal(images.test_images, test_images)
    assert np.array_equal(images.test_labels, test_labels)
    assert (images.classes, images.name) == (10, "cifar10")


class TestCifar:
    @pytest.mark.parametrize("write", [pickle2, pickle3(2), pickle3(3), pickle3(4)])
    @pytest.mark.parametrize("folder", ["cifar-10-batches-py", ""])
    def test_pickles(self, tmp_path: Path, write: Callable[..., bytes], folder: str) -> None:
        files = {name: write(*pair) for name, pair in zip(BATCHES, cifar_pairs(), strict=True)}
        write_folder(tmp_path / folder, files)
        check_cifar(load("cifar10", tmp_path, verify=False))

    def test_what_is_written_here_is_what_pickle_reads(self) -> None:
        images, labels = cifar_pairs()[0]
        batch = pickle.loads(
            pickle2(images, labels).replace(b"numpy.core.", b"numpy._core."), encoding="latin1"
        )
        assert np.array_equal(batch["data"].reshape(images.shape), images)
        assert batch["labels"] == labels.tolist()

    @pytest.mark.parametrize("folder", ["cifar-10-batches-bin", ""])
    def test_records(self, tmp_path: Path, folder: str) -> None:
        pairs = zip(BATCHES, cifar_pairs(), strict=True)
        write_folder(tmp_path / folder, {f"{name}.bin": records(*pair) for name, pair in pairs})
        check_cifar(load("cifar10", tmp_path, verify=False))

    @pytest.mark.parametrize(
        ("archive", "folder", "suffix", "write"),
        [
            ("cifar-10-python.tar.gz", "cifar-10-batches-py", "", pickle2),
            ("cifar-10-binary.tar.gz", "cifar-10-batches-bin", ".bin", records),
        ],
    )
    def test_archives(
        self, tmp_path: Path, archive: str, folder: str, suffix: str, write: Callable[..., bytes]
    ) -> None:
        pairs = list(zip(BATCHES, cifar_pairs(), strict=True))[::-1]  # order makes no difference
        files = {f"{folder}/{name}{suffix}": write(*pair) for name, pair in pairs}
        write_archive(tmp_path / archive, {"../evil": b"", f"{folder}/readme.html": b"", **files})
        check_cifar(load("cifar10", tmp_path, verify=False))
        assert sorted(tmp_path.iterdir()) == [tmp_path / archive]
        assert not (tmp_path.parent / "evil").exists()

    def test_nothing_that_a_pickle_asks_for_is_called(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, ...]:
                return os.system, (f"touch {tmp_path / 'called'}",)

        for number, payload in enumerate([Evil(), {"labels": [1], "data": Evil()}]):
            for protocol in range(2, 6):
                write_folder(
                    tmp_path / "d", {name: pickle.dumps(payload, protocol) for name in BATCHES}
                )
                message = rejected("cifar10", tmp_path / "d")
                assert "data_batch_1: is not a batch" in message
                if number == 0 or protocol < 4:
                    assert "asks for 'posix.system'; nothing was called" in message
        assert not (tmp_path / "called").exists()
        pickle.loads(pickle.dumps(Evil()))  # it would have been
        assert (tmp_path / "called").exists()

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda d: d[:-1], "pickle is damaged"),
            (lambda d: d[:2000], "pickle is damaged"),
            (lambda _: b"", "pickle is damaged"),
            (lambda _: b"\x80\x02N.", "is no dictionary"),
            (lambda _: b"\x80\x02}.", "has no array under data"),
            (lambda d: d.replace(b"U\x02u1", b"U\x02f8"), "array of 'f8'"),
            (lambda d: d.replace(b"\x89T", b"\x88T"), "array of 'u1' under data, expected u1 row"),
            (lambda d: d.replace(b"M\x00\x0c\x86", b"M\x01\x0c\x86"), "4 x 3073 under data"),
            (
                lambda d: d.replace(b"M\x04\x00M\x00\x0c", b"M\x06\x00M\x00\x08"),
                "6 x 2048 under data",
            ),
            (lambda d: d.replace(b"M\x04\x00", b"M\x05\x00"), "5 x 3072 under data"),
            (lambda d: d.replace(b"M\x04\x00", b"M\x00\x00"), "0 x 3072 under data"),
            (lambda d: d.replace(b"\x86cnumpy", b"0cnumpy"), "pickle uses POP"),
            (lambda d: d.replace(b"labels", b"lebals"), "no list of integers under labels"),
            (lambda d: d.replace(b"q\x05(K", b"q\x05(NK"), "no list of integers under labels"),
            (lambda d: d.replace(b"q\x05(K", b"q\x05(K\x01K"), "5 labels for 4 images"),
            (lambda _: b"\x80\x02}](K\x01tb.", "pickle is damaged: it sets the state"),
            (lambda _: b"\x80\x02}]K\x01s.", "a key that is no text"),
            (lambda _: b"\x80\x02}h\x07.", "pickle is damaged"),
            (lambda _: b"\x80\x02K\x01)R.", "it calls what is no function"),
            (lambda _: b"\x80\x02\x87.", "the stack is too short"),
            (lambda _: b"\x80\x02(K\x01.", "objects are left over"),
        ],
    )
    def test_damaged_pickles(
        self, tmp_path: Path, change: Callable[[bytes], bytes], reason: str
    ) -> None:
        good = pickle2(*cifar_pairs()[0])
        bad = change(good)
        assert bad != good
        write_folder(tmp_path, dict.fromkeys(BATCHES, good) | {"data_batch_3": bad})
        message = rejected("cifar10", tmp_path)
        assert message.startswith(f"{tmp_path / 'data_batch_3'}: ")
        assert reason in message

    @pytest.mark.parametrize("label", [10, 255])
    @pytest.mark.parametrize("write", [pickle2, records])
    def test_labels_out_of_range(
        self, tmp_path: Path, label: int, write: Callable[..., bytes]
    ) -> None:
        images, labels = cifar_pairs()[0]
        labels[2] = label
        suffix = ".bin" if write is records else ""
        write_folder(tmp_path, {name + suffix: write(images, labels) for name in BATCHES})
        assert f"label {label} of sample 2, expected 0 to 9" in rejected("cifar10", tmp_path)

    def test_labels_that_no_byte_holds(self, tmp_path: Path) -> None:
        images, _ = cifar_pairs()[0]
        for label in (-1, 2**40):
            batch = {"labels": [0, 1, 2, label], "data": images.reshape(4, -1)}
            write_folder(tmp_path, {name: pickle.dumps(batch, 2) for name in BATCHES})
            assert "of sample 3, expected 0 to 9" in rejected("cifar10", tmp_path)

    @pytest.mark.parametrize("size", [0, 3072, 3074])
    def test_records_cut_short(self, tmp_path: Path, size: int) -> None:
        write_folder(tmp_path, {f"{name}.bin": bytes(size) for name in BATCHES})
        assert f"has {size} bytes, expected a multiple of 3073" in rejected("cifar10", tmp_path)

    def test_a_file_larger_than_the_original(self, tmp_path: Path) -> None:
        write_folder(tmp_path, {f"{name}.bin": bytes(10_001 * 3073) for name in BATCHES})
        assert "more than 30730000 bytes" in rejected("cifar10", tmp_path)

    def test_archives_that_are_none(self, tmp_path: Path) -> None:
        path = tmp_path / "cifar-10-binary.tar.gz"
        path.write_bytes(b"<html>not found</html>")
        assert "cannot be read: Not a gzipped file" in rejected("cifar10", tmp_path)
        path.write_bytes(gzip.compress(b"x" * 2000))
        assert "is no tar archive" in rejected("cifar10", tmp_path)
        write_archive(path, {"cifar-10-batches-bin/data_batch_1.bin": bytes(3073)})
        path.write_bytes(path.read_bytes()[:-20])
        assert "cannot be read: Compressed file ended" in rejected("cifar10", tmp_path)

    def test_archives_without_a_member_or_with_a_link(self, tmp_path: Path) -> None:
        path = tmp_path / "cifar-10-binary.tar.gz"
        first = "cifar-10-batches-bin/data_batch_1.bin"
        write_archive(path, {first: bytes(3073)})
        assert f"{path}: cifar-10-batches-bin/data_batch_2.bin: is not in the archive" in (
            rejected("cifar10", tmp_path)
        )
        with tarfile.open(path, "w:gz") as tar:
            link = tarfile.TarInfo(first)
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        assert "is no plain file of at most 30730000 bytes" in rejected("cifar10", tmp_path)

    def test_a_member_that_ends_too_early(self, tmp_path: Path) -> None:
        info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        info.size = 3073 * 4
        data = gzip.compress(info.tobuf() + bytes(3073))
        (tmp_path / "cifar-10-binary.tar.gz").write_bytes(data)
        assert "is no tar archive: unexpected end of data" in rejected("cifar10", tmp_path)


class TestIdx:
    @pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
    @pytest.mark.parametrize("packed", [(), IDX, IDX[1:3]])
    def test_gzipped_or_not(self, tmp_path: Path, name: str, packed: list[str]) -> None:
        for file, data in idx_files().items():
            if file in packed:
                (tmp_path / f"{file}.gz").write_bytes(gzip.compress(data))
            else:
                (tmp_path / file).write_bytes(data)
        images = load(name, tmp_path, verify=False)
        assert np.array_equal(images.train_images, pixels(0, 20, 28, 28)[:, None])
        assert np.array_equal(images.train_labels, digits_of(0, 20))
        assert np.array_equal(images.test_images, pixels(1, 7, 28, 28)[:, None])
        assert np.array_equal(images.test_labels, digits_of(1, 7))
        assert images.train_images.dtype == torch.uint8
        assert images.train_labels.dtype == torch.int64
        assert (images.classes, images.name) == (10, name)

    @pytest.mark.parametrize(
        ("mnist", "fashion"),
        [("mnist", "fashion-mnist"), ("MNIST/raw", "FashionMNIST/raw"), ("mnist", ""), ("", None)],
    )
    def test_each_in_its_folder(self, tmp_path: Path, mnist: str, fashion: str | None) -> None:
        write_folder(tmp_path / mnist, idx_files(0))
        if fashion is not None:
            write_folder(tmp_path / fashion, idx_files(5))
            found = load("fashion-mnist", tmp_path, verify=False)
            assert np.array_equal(found.test_images[:, 0], pixels(6, 7, 28, 28))
        found = load("mnist", tmp_path, verify=False)
        assert np.array_equal(found.test_images[:, 0], pixels(1, 7, 28, 28))

    @pytest.mark.parametrize(
        ("file", "data", "reason"),
        [
            (IDX[0], b"", "ends after 0 bytes, expected a header of 16"),
            (IDX[0], idx_files()[IDX[0]][:15], "ends after 15 bytes"),
            (IDX[0], idx_files()[IDX[0]][:-1], "has 15679 bytes after its header, expected 15680"),
            (IDX[0], idx_files()[IDX[0]] + b"x", "has 15681 bytes after its header"),
            (IDX[0], idx(digits_of(0, 20)), "begins with 0x00000801, expected 0x00000803"),
            (IDX[0], b"\x1f\x8b" + idx_files()[IDX[0]][2:], "begins with 0x1f8b0803"),
            (IDX[0], idx(pixels(0, 20, 28, 27)), "images of 28 x 27 pixels, expected 28 x 28"),
            (IDX[0], idx(pixels(0, 0, 28, 28)), "and at least 1"),
            (IDX[0], struct.pack(">4I", 0x803, *[2**32 - 1] * 3), "has 0 bytes after its header"),
            (IDX[1], idx(digits_of(0, 19)), "has 19 labels for 20 images"),
            (IDX[1], idx(np.arange(20, dtype=np.uint8)), "label 10 of sample 10, expected 0 to 9"),
            (IDX[1], bytes(60_009), "more than 60008 bytes, which the original has at most"),
            (IDX[3], idx(digits_of(0, 8)), "has 8 labels for 7 images"),
        ],
    )
    def test_damaged(self, tmp_path: Path, file: str, data: bytes, reason: str) -> None:
        write_folder(tmp_path, idx_files() | {file: data})
        message = rejected("mnist", tmp_path)
        assert message.startswith(f"{tmp_path / file}: ")
        assert reason in message

    def test_damaged_gzip(self, tmp_path: Path) -> None:
        write_folder(tmp_path, {f"{n}.gz": gzip.compress(d) for n, d in idx_files().items()})
        path = tmp_path / f"{IDX[0]}.gz"
        good = path.read_bytes()
        flipped = good[:-6] + bytes([good[-6] ^ 1]) + good[-5:]
        for bad in (good[:-9], good[: len(good) // 2], flipped, b"x" + good, good[:12] + b"\xff"):
            path.write_bytes(bad)
            assert f"{path}: cannot be read: " in rejected("mnist", tmp_path)

    def test_no_plain_file(self, tmp_path: Path) -> None:
        write_folder(tmp_path, idx_files())
        (tmp_path / IDX[0]).unlink()
        os.mkfifo(tmp_path / IDX[0])
        assert "is not a plain file" in rejected("mnist", tmp_path)


class TestSvhn:
    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("folder", ["svhn", ""])
    def test_reads(self, tmp_path: Path, compressed: bool, folder: str) -> None:
        (tmp_path / folder).mkdir(exist_ok=True)
        write_svhn(tmp_path / folder, compressed=compressed)
        images = load("svhn", tmp_path, verify=False)
        assert np.array_equal(images.train_images, pixels(0, 12, 3, 32, 32))
        assert np.array_equal(images.test_images, pixels(1, 5, 3, 32, 32))
        assert images.train_images.is_contiguous()
        # What was written as 10 means 0.
        assert np.array_equal(images.train_labels, digits_of(0, 12))
        assert np.array_equal(images.test_labels, digits_of(1, 5))
        assert 0 in images.train_labels
        assert images.train_labels.dtype == torch.int64

    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"X": np.zeros((32, 32, 12), np.uint8)}, "X uint8 (32, 32, 12), expected uint8 (32"),
            ({"X": np.zeros((12, 3, 32, 32), np.uint8)}, "X uint8 (12, 3, 32, 32)"),
            ({"X": np.zeros((32, 32, 3, 12))}, "X double (32, 32, 3, 12), expected uint8"),
            (
                {"X": np.zeros((32, 32, 3, 12), np.uint8) + 1j},
                "X complex double (32, 32, 3, 12), expected uint8",
            ),
            ({"X": {"a": 1}}, "X struct"),
            ({"X": np.array([1, "a"], object)}, "X cell"),
            ({"y": np.ones((1, 12), np.uint8)}, "y uint8 (1, 12), expected (12, 1) numbers"),
            ({"y": np.ones((11, 1), np.uint8)}, "y uint8 (11, 1), expected (12, 1) numbers"),
            ({"y": "twelve chars"}, "y char"),
            ({"y": np.zeros((12, 1), np.uint8)}, "has label 0 in y, expected whole numbers"),
            ({"y": np.full((12, 1), 11, np.uint8)}, "has label 11 in y, expected"),
            ({"y": np.full((12, 1), 1.5)}, "has label 1.5 in y, expected"),
            ({"y": np.full((12, 1), np.inf)}, "has label inf in y, expected"),
            ({"X": np.zeros((32, 32, 3, 0), np.uint8)}, "y uint8 (12, 1), expected (0, 1) numbers"),
            ({"y": None}, "lacks y"),
            ({"X": None}, "lacks X"),
        ],
    )
    def test_wrong_arrays(
        self, tmp_path: Path, change: dict[str, object], reason: str, compressed: bool
    ) -> None:
        write_svhn(tmp_path)
        good = {"X": np.zeros((32, 32, 3, 12), np.uint8), "y": np.ones((12, 1), np.uint8)}
        data = {name: array for name, array in {**good, **change}.items() if array is not None}
        savemat(tmp_path / "train_32x32.mat", data, do_compression=compressed)
        message = rejected("svhn", tmp_path)
        assert message.startswith(f"{tmp_path / 'train_32x32.mat'}: ")
        assert reason in message

    def test_labels_as_other_numbers(self, tmp_path: Path) -> None:
        write_svhn(tmp_path)
        labels = np.array([[10.0], [1], [9]])
        data = {"X": np.zeros((32, 32, 3, 3), np.uint8), "y": labels}
        savemat(tmp_path / "test_32x32.mat", data)
        assert load("svhn", tmp_path, verify=False).test_labels.tolist() == [0, 1, 9]

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda d: d[:100], "not a little-endian MATLAB 5 file"),
            (lambda d: b"\x89HDF\r\n\x1a\n" + d[8:], None),
            (lambda d: d[:124] + b"\x00\x02" + d[126:], "not a little-endian MATLAB 5 file"),
            (lambda d: d[:126] + b"MI" + d[128:], "not a little-endian MATLAB 5 file"),
            (lambda d: d[:-1], "is damaged: "),
            (lambda d: d[:132], "end within the tag at byte 128"),
            (lambda d: d[:140] + bytes(40) + d[180:], "damaged array"),
            (lambda d: d[:128], "lacks X"),
            (lambda d: d + d[128:], "has 'X' twice"),
            (
                lambda d: d[:128] + struct.pack("<2I", 14, 0),
                "is damaged: 0 bytes end within the tag",
            ),
            (lambda d: d[:128] + struct.pack("<2I", 14, 2**32 - 1) + d[136:], "hold no element"),
        ],
    )
    def test_damaged(
        self, tmp_path: Path, change: Callable[[bytes], bytes], reason: str | None
    ) -> None:
        write_svhn(tmp_path)
        path = tmp_path / "train_32x32.mat"
        path.write_bytes(change(path.read_bytes()))
        if reason is None:  # the text before the version says nothing
            load("svhn", tmp_path, verify=False)
        else:
            assert reason in rejected("svhn", tmp_path)

    def test_a_short_element_of_more_than_4_bytes(self, tmp_path: Path) -> None:
        write_svhn(tmp_path, compressed=False)
        path = tmp_path / "train_32x32.mat"
        good = path.read_bytes()
        bad = good.replace(b"\x01\x00\x01\x00X", b"\x01\x00\x05\x00X")
        assert bad != good
        path.write_bytes(bad)
        assert "hold no element of 5" in rejected("svhn", tmp_path)

    def test_any_byte_flipped_is_read_or_rejected(self, tmp_path: Path) -> None:
        write_svhn(tmp_path, compressed=False)
        path = tmp_path / "test_32x32.mat"
        good = path.read_bytes()
        seen = set()
        for position in [*range(120, 200), *range(len(good) - 90, len(good))]:
            for flip in (1, 0x80):
                bad = bytearray(good)
                bad[position] ^= flip
                path.write_bytes(bad)
                try:
                    load("svhn", tmp_path, verify=False)
                    seen.add("read")
                except InputRejected:
                    seen.add("rejected")
        assert seen == {"read", "rejected"}


BOMBS = """
import json, resource, sys
from pathlib import Path
import torch
from rankscope.errors import InputRejected
from trainers.data import load
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 700_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
said = {}
for name, folder in json.loads(sys.argv[1]):
    try:
        load(name, Path(folder), verify=False)
    except InputRejected as error:
        said[folder] = str(error)
print(json.dumps(said))
"""


class TestBounds:
    """What unpacks to far more than it may is refused within bounds of memory and time."""

    @staticmethod
    def gzipped(start: bytes) -> bytes:
        """1.2 GB of zeros after a start, in some 1.2 MB: a gzip file may have many members."""
        return gzip.compress(start) + gzip.compress(bytes(10_000_000), 1) * 120

    @staticmethod
    def matlab() -> bytes:
        """A compressed array of 1.2 GB: after a full flush, a block may stand many times."""
        pack = zlib.compressobj(1)
        packed = pack.compress(struct.pack("<2I", 14, 1_200_000_000)) + pack.flush(
            zlib.Z_FULL_FLUSH
        )
        packed += (pack.compress(bytes(10_000_000)) + pack.flush(zlib.Z_FULL_FLUSH)) * 120
        header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
        return header + struct.pack("<2I", 15, len(packed)) + packed

    def test_bombs(self, tmp_path: Path) -> None:
        header = struct.pack(">4I", 0x803, 60_000, 28, 28)
        memo = b"\x80\x02]r\xff\xff\xff\x7f."
        cases = {
            "mnist": {f"{IDX[0]}.gz": self.gzipped(header)},
            "cifar10": {"cifar-10-python.tar.gz": self.gzipped(b"")},
            "svhn": {"train_32x32.mat": self.matlab(), "test_32x32.mat": b""},
        }
        folders = []
        for name, files in cases.items():
            write_folder(tmp_path / name, (idx_files() if name == "mnist" else {}) | files)
            folders.append((name, str(tmp_path / name)))
        (tmp_path / "mnist" / IDX[0]).unlink()
        for number, data in enumerate([memo, b"\x80\x02" + b"]" * 500_000]):
            write_folder(tmp_path / str(number), dict.fromkeys(BATCHES, data))
            folders.append(("cifar10", str(tmp_path / str(number))))
        done = subprocess.run(
            [sys.executable, "-c", BOMBS, json.dumps(folders)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        said = [json.loads(done.stdout)[folder] for _, folder in folders]
        assert "has more than 47040016 bytes" in said[0]
        assert "has more than 200000000 bytes" in said[1]
        assert "unpacks to 226631560 bytes and more" in said[2]
        assert "is no dictionary" in said[3]
        assert "pickle of more than 200000 opcodes" in said[4]


class TestWhichFiles:
    @pytest.mark.parametrize("name", ["cifar10", "mnist", "fashion-mnist", "svhn"])
    def test_missing(self, tmp_path: Path, name: str) -> None:
        original, _ = loading.ORIGINALS[name]
        message = rejected(name, tmp_path, verify=True)
        assert message.startswith(f"{tmp_path}: has no {original.title}: expected ")
        for form in original.forms:
            assert all(part.name in message for part in form.parts)
            assert form.archive is None or form.archive.name in message
        assert message.endswith(f"they come from {original.home}")
        message = rejected(name, tmp_path / "nowhere")
        assert message.startswith(f"{tmp_path / 'nowhere'}: is no directory; expected ")

    def test_some_are_missing(self, tmp_path: Path) -> None:
        files = idx_files()
        write_folder(tmp_path / "mnist", {name: files[name] for name in IDX[:2]})
        message = rejected("mnist", tmp_path)
        assert message == (
            f"{tmp_path / 'mnist'}: lacks {IDX[2]}, {IDX[3]} of MNIST (idx files); "
            f"it comes from {MNIST.home}"
        )

    def test_no_directory(self) -> None:
        with pytest.raises(UsageError, match="svhn needs the directory with SVHN's files, from "):
            load("svhn")

    def test_no_such_name(self) -> None:
        with pytest.raises(UsageError, match=r"no data set 'cifar'; there are cifar10, mnist, .*"):
            load("cifar", Path())

    def test_names(self) -> None:
        assert NAMES == ("cifar10", "mnist", "fashion-mnist", "svhn", "digits", "synthetic")


def with_sums(original: Original, files: dict[str, bytes]) -> Original:
    """The same data set, had it had these files."""
    form = original.forms[0]
    sums = {name: hashlib.md5(data).hexdigest() for name, data in files.items()}
    parts = tuple(dataclasses.replace(part, md5=sums[part.name]) for part in form.parts)
    return dataclasses.replace(original, forms=(dataclasses.replace(form, parts=parts),))


class TestChecksums:
    @pytest.fixture
    def patched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        mnist, fashion = with_sums(MNIST, idx_files(0)), with_sums(FASHION_MNIST, idx_files(5))
        monkeypatch.setattr(distributions, "ORIGINALS", (mnist, fashion))
        decoders = loading.ORIGINALS["mnist"][1]
        monkeypatch.setitem(loading.ORIGINALS, "mnist", (mnist, decoders))
        monkeypatch.setitem(loading.ORIGINALS, "fashion-mnist", (fashion, decoders))

    @pytest.mark.usefixtures("patched")
    def test_the_original_is_taken_gzipped_or_not(self, tmp_path: Path) -> None:
        write_folder(tmp_path, idx_files(5))
        plain = load("fashion-mnist", tmp_path)
        for name, data in idx_files(5).items():
            (tmp_path / name).unlink()
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data, 1))
        assert torch.equal(load("fashion-mnist", tmp_path).train_images, plain.train_images)

    @pytest.mark.usefixtures("patched")
    @pytest.mark.parametrize("verify", [False, True])
    def test_the_other_of_the_two_is_refused(self, tmp_path: Path, verify: bool) -> None:
        write_folder(tmp_path, idx_files(5))
        assert rejected("mnist", tmp_path, verify=verify) == (
            f"{tmp_path / IDX[0]}: is {IDX[0]} of Fashion-MNIST, expected MNIST's {IDX[0]}; "
            "keep MNIST in a directory of its own, such as mnist/"
        )

    @pytest.mark.usefixtures("patched")
    @pytest.mark.parametrize("name", IDX)
    def test_one_changed_byte_is_seen(self, tmp_path: Path, name: str) -> None:
        files = idx_files(0)
        changed = files[name][:-1] + bytes([files[name][-1] ^ 1])
        write_folder(tmp_path, files | {name: changed})
        message = rejected("mnist", tmp_path, verify=True)
        assert message.startswith(f"{tmp_path / name}: has MD5 ")
        assert hashlib.md5(changed).hexdigest() in message
        assert f"expected {hashlib.md5(files[name]).hexdigest()} of MNIST's {name}" in message
        load("mnist", tmp_path, verify=False)

    def test_files_made_here_are_not_the_original(self, tmp_path: Path) -> None:
        write_folder(tmp_path, idx_files())
        write_svhn(tmp_path)
        pairs = zip(BATCHES, cifar_pairs(), strict=True)
        write_folder(tmp_path, {name: pickle2(*pair) for name, pair in pairs})
        for name in loading.ORIGINALS:
            assert "has MD5 " in rejected(name, tmp_path, verify=True)

    def test_the_table(self) -> None:
        parts = [
            part for one in distributions.ORIGINALS for form in one.forms for part in form.parts
        ]
        assert len(parts) == 12 + 4 + 4 + 2
        assert len({part.md5 for part in parts}) == len(parts)
        assert all(len(bytes.fromhex(part.md5)) == 16 for part in parts)
        for original in (MNIST, FASHION_MNIST):
            sizes = [part.size for part in original.forms[0].parts]
            assert sizes == [16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000]
        for form in CIFAR10.forms:
            assert form.archive
            assert sum(part.size for part in form.parts) < form.archive.size

    def test_of_known_bytes(self) -> None:
        # RFC 1321, A.5, so that the sums here are MD5's.
        assert hashlib.md5(b"abc").hexdigest() == "900150983cd24fb0d6963f7d28e17f72"


class TestBundled:
    def test_digits_are_scikit_learns(self) -> None:
        images = load("digits")
        together = torch.cat([images.train_images, images.test_images]).flatten(1).numpy()
        samples, labels = load_digits(return_X_y=True)
        rows = np.column_stack([samples, labels])
        ours = np.column_stack([together, torch.cat([images.train_labels, images.test_labels])])
        assert np.array_equal(np.unique(ours, axis=0), np.unique(rows, axis=0))
        assert images.train_images.shape == (1347, 1, 8, 8)
        assert images.train_images.dtype == torch.uint8
        assert images.classes == 10
        # Another seed is another run, on the same split.
        assert torch.equal(load("digits", seed=1).train_labels, images.train_labels)

    @pytest.mark.parametrize("latent", [1, 5])
    def test_synthetic_images_have_the_rank_that_was_asked_for(self, latent: int) -> None:
        task = Task(train=300, test=40, classes=3, channels=2, side=7, latent=latent)
        images = synthetic(task)
        assert images.train_images.shape == (300, 2, 7, 7)
        assert images.test_images.shape == (40, 2, 7, 7)
        assert images.train_images.dtype == torch.float32
        together = torch.cat([images.train_images, images.test_images]).flatten(1)
        assert torch.linalg.matrix_rank(together.double(), rtol=1e-5) == latent
        assert images.classes == 3
        assert set(images.train_labels.tolist()) <= {0, 1, 2}

    def test_synthetic_pixels_have_variance_1_on_average(self) -> None:
        images = load("synthetic")
        assert images.train_images.shape == (5000, 3, 32, 32)
        assert images.train_images.square().mean() == pytest.approx(1, abs=0.05)
        assert images.train_labels.bincount(minlength=10).min() > 50

    def test_synthetic_labels_are_linear_in_the_images(self) -> None:
        images = synthetic(Task(train=400, test=1, classes=3, side=6, latent=4), seed=3)
        left, sigma, _ = np.linalg.svd(images.train_images.flatten(1).numpy(), full_matrices=False)
        hidden = left[:, :4] * sigma[:4]
        fit = LogisticRegression(C=1e9, max_iter=5000).fit(hidden, images.train_labels)
        assert fit.score(hidden, images.train_labels) == 1
        shuffled = images.train_labels.flip(0)
        assert LogisticRegression(max_iter=200).fit(hidden, shuffled).score(hidden, shuffled) < 0.8

    def test_synthetic_depends_on_its_seed_only(self) -> None:
        one, again, other = load("synthetic"), load("synthetic"), load("synthetic", seed=1)
        assert torch.equal(one.train_images, again.train_images)
        assert torch.equal(one.test_labels, again.test_labels)
        assert not torch.equal(one.train_images, other.train_images)
        assert not torch.equal(one.train_images[:1000], one.test_images)

    def test_synthetic_of_nothing(self) -> None:
        with pytest.raises(UsageError, match="latent is 0, expected at least 1"):
            Task(latent=0)


class TestLimit:
    def test_both_parts_are_balanced(self) -> None:
        whole, images = load("digits"), load("digits", limit=105)
        assert len(images.train_labels) == len(images.test_labels) == 105
        for labels in (images.train_labels, images.test_labels):
            assert set(labels.bincount().tolist()) == {10, 11}
        # Images stay with their labels, in the order of the files.
        rows = torch.column_stack([whole.train_images.flatten(1), whole.train_labels])
        chosen = torch.column_stack([images.train_images.flatten(1), images.train_labels])
        places = (rows[None] == chosen[:, None]).all(2).nonzero()[:, 1]
        assert len(places) == 105
        assert (places.diff() > 0).all()

    def test_a_larger_one_contains_a_smaller(self) -> None:
        labels = torch.from_numpy(digits_of(0, 500).astype(np.int64))
        sets = [set(balanced(labels, limit, 7).tolist()) for limit in (1, 10, 99, 300, 500, 900)]
        assert [len(one) for one in sets] == [1, 10, 99, 300, 500, 500]
        assert all(small <= large for small, large in itertools.pairwise(sets))

    def test_the_seed_chooses(self) -> None:
        labels = torch.zeros(1000, dtype=torch.int64)
        assert torch.equal(balanced(labels, 50, 3), balanced(labels, 50, 3))
        assert not torch.equal(balanced(labels, 50, 3), balanced(labels, 50, 4))
        # Every image has the same chance: 200 draws of 50 of 1000, 10 each on average.
        counts = torch.stack([balanced(labels, 50, seed) for seed in range(200)]).flatten()
        assert counts.bincount(minlength=1000).double().var() == pytest.approx(9.5, rel=0.2)

    def test_a_class_that_runs_out(self) -> None:
        labels = torch.tensor([0] * 20 + [1] * 3)
        assert labels[balanced(labels, 10, 0)].bincount().tolist() == [7, 3]

    @pytest.mark.parametrize("limit", [0, -1])
    def test_none(self, limit: int) -> None:
        with pytest.raises(UsageError, match=f"limit is {limit}, expected at least 1 image"):
            load("digits", limit=limit)


def test_everything_goes_to_the_device() -> None:
    images = load("digits", device="meta", limit=20)
    tensors = (images.train_images, images.train_labels, images.test_images, images.test_labels)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert images.train_images.shape == (20, 1, 8, 8)
