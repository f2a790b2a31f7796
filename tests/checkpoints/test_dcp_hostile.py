"""Distributed checkpoints made to harm, or damaged: refused in one line, nothing run."""

from __future__ import annotations

import contextlib
import enum
import io
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
)

from rankscope.checkpoints import open_checkpoint
from rankscope.checkpoints.dcp_chunks import Place
from rankscope.checkpoints.dcp_files import ChunkFiles, Section
from rankscope.checkpoints.dcp_metadata import METADATA
from rankscope.checkpoints.inert_pickle import MAX_PICKLE_BYTES
from rankscope.errors import InputRejected
from rankscope.records import MatrixSpec
from tests.checkpoints.dcp_dirs import craft, described, open_in_child, write
from tests.checkpoints.torch_files import Call, G, Id, pickled

HALVES = [((0, 0), (2, 3)), ((2, 0), (2, 3))]
INDEX = MetadataIndex("w", (0, 0))


def refused(directory: Path) -> str:
    with pytest.raises(InputRejected) as caught:
        open_checkpoint(directory)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000
    return str(caught.value).replace(str(directory), "DIR")


def sound(directory: Path) -> Metadata:
    return craft(directory, {"w": (torch.randn(4, 3), HALVES)})


def place(metadata: Metadata, **changed: Any) -> None:
    """Change where the first chunk is stored."""
    fields = {**vars(metadata.storage_data[INDEX]), **changed}
    metadata.storage_data[INDEX] = _StorageInfo(**fields)


class TestCalls:
    @pytest.mark.parametrize(
        ("call", "found"),
        [
            (Call(G("os", "system"), ("touch RAN",)), "calls 'os.system'"),
            (Call(G("builtins", "eval"), ("open('RAN', 'w')",)), "calls 'builtins.eval'"),
            (Call(G("builtins", "getattr"), (G("os", "path"), "os.system")), "something else than"),
            (
                Call(G("builtins", "getattr"), (G("os", "system"), "__call__")),
                "something else than",
            ),
            (Call(G("torch._utils", "_rebuild_tensor_v2"), ()), "calls 'torch._utils._rebuild"),
            (Call(G("megatron.core", "MCoreMetadata"), ()), "calls 'megatron.core.MCoreMetadata'"),
            (Id(("storage", G("torch", "FloatStorage"), "0", "cpu", 1)), "holds a storage"),
        ],
    )
    def test_no_call_is_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: object, found: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        sound(tmp_path / "m")
        assert found in refused(write(tmp_path / "m", pickled({"a": call})))
        assert not (tmp_path / "RAN").exists()

    def test_nor_by_a_chunk(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
                return os.system, (f"touch {tmp_path / 'ran'}",)

        metadata = sound(tmp_path)
        torch.save({"w": Evil()}, tmp_path / "__0_0.distcp")
        place(metadata, offset=0, length=(tmp_path / "__0_0.distcp").stat().st_size)
        write(tmp_path, metadata)
        with (
            open_checkpoint(tmp_path) as checkpoint,
            pytest.raises(InputRejected, match="system', which is not on the list"),
        ):
            checkpoint.read(
                MatrixSpec("w", "w", (), 1, (4, 3), "float32", "linear"), slice(0, 1), slice(0, 3)
            )
        assert not (tmp_path / "ran").exists()

    def test_an_enumeration_as_python_3_11_0_pickles_it(self, tmp_path: Path) -> None:
        class Former(pickle.Pickler):
            def reducer_override(self, thing: object) -> Any:
                if isinstance(thing, enum.Enum):
                    return getattr, (type(thing), thing.name)
                return NotImplemented

        stream = io.BytesIO()
        Former(stream).dump(sound(tmp_path))
        assert b"getattr" in stream.getvalue()
        with open_checkpoint(write(tmp_path, stream.getvalue())) as checkpoint:
            assert [tensor.name for tensor in checkpoint.listing.tensors] == ["w"]


class TestMetadata:
    @pytest.mark.parametrize(
        ("data", "found"),
        [
            (b"", "damaged"),
            (b"\x80\x04", "damaged"),
            (b"PK\x03\x04", "damaged"),
            (pickle.dumps({"w": 1}), f"holds a Dictionary, expected {METADATA}.Metadata"),
            (pickle.dumps([]), f"holds a list, expected {METADATA}.Metadata"),
            (pickle.dumps(Metadata({})), "storage_data is no dictionary"),
            (pickle.dumps(Metadata(None, None, {})), "state_dict_metadata is no dictionary"),  # type: ignore[arg-type]
            (pickle.dumps(Metadata({1: BytesStorageMetadata()}, None, {})), "key that is not text"),  # type: ignore[dict-item]
            (pickle.dumps(Metadata({"w": torch.Size((1,))}, None, {})), "holds a tuple, expected"),  # type: ignore[dict-item]
        ],
    )
    def test_of_the_wrong_kind(self, tmp_path: Path, data: bytes, found: str) -> None:
        sound(tmp_path)
        assert found in refused(write(tmp_path, data))

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (lambda m: setattr(described(m, "w"), "size", (4, 3.5)), "size holds '3.5'"),
            (lambda m: setattr(described(m, "w"), "size", (4, -3)), "size holds '-3'"),
            (lambda m: setattr(described(m, "w"), "size", (4, 2**63)), "size holds"),
            (lambda m: setattr(described(m, "w"), "size", (1,) * 65), "at most 64 axes"),
            (lambda m: setattr(described(m, "w"), "size", None), "is no torch.Size"),
            (lambda m: setattr(described(m, "w"), "size", (4, 3, 1)), "reaches out of size"),
            (lambda m: setattr(described(m, "w"), "size", (3, 3)), "reaches out of size [3, 3]"),
            (lambda m: setattr(described(m, "w"), "chunks", None), "chunks of 'w' are no list"),
            (
                lambda m: described(m, "w").chunks.append(1),  # type: ignore[arg-type]
                "holds a int, expected",
            ),
            (lambda m: setattr(described(m, "w"), "properties", 1), "not a TensorProperties"),
            (lambda m: place(m, offset=-1), "something else than a file"),
            (lambda m: place(m, length="1"), "something else than a file"),
            (lambda m: place(m, relative_path=None), "something else than a file"),
            (lambda m: place(m, relative_path="../x"), "leaves the directory"),
            (lambda m: place(m, relative_path="/etc/passwd"), "leaves the directory"),
            (lambda m: place(m, relative_path=""), "leaves the directory"),
            (lambda m: place(m, relative_path="a\0b"), "no file's name"),
            (lambda m: place(m, offset=2**40), "reaches byte"),
            (lambda m: place(m, length=20), "takes 20 bytes, expected at least 24"),
        ],
    )
    def test_that_contradicts_itself(
        self, tmp_path: Path, change: Callable[[Metadata], None], found: str
    ) -> None:
        metadata = sound(tmp_path)
        change(metadata)
        message = refused(write(tmp_path, metadata))
        assert found in message
        assert message.startswith("DIR/.metadata: ")

    def test_chunks_that_overlap(self, tmp_path: Path) -> None:
        for number, (offsets, sizes) in enumerate(
            [((1, 0), (3, 3)), ((0, 0), (2, 3)), ((3, 2), (1, 1))]
        ):
            directory = tmp_path / str(number)
            metadata = sound(directory)
            described(metadata, "w").chunks.append(
                ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))
            )
            assert "overlaps another" in refused(write(directory, metadata))

    def test_pieces_that_overlap_in_their_file(self, tmp_path: Path) -> None:
        metadata = craft(tmp_path, {"w": (torch.randn(4, 3), HALVES)}, files=1)
        place(metadata, length=metadata.storage_data[INDEX].length + 1)
        assert "two pieces overlap at byte" in refused(write(tmp_path, metadata))

    def test_a_name_that_stands_twice(self, tmp_path: Path) -> None:
        metadata = sound(tmp_path)
        metadata.state_dict_metadata["v"] = metadata.state_dict_metadata["w"]
        data = pickle.dumps(metadata)
        assert data.count(b"\x8c\x01v\x94") == 1
        assert "two tensors are named 'w'" in refused(
            write(tmp_path, data.replace(b"\x8c\x01v\x94", b"\x8c\x01w\x94"))
        )

    def test_a_piece_that_is_stored_twice(self, tmp_path: Path) -> None:
        metadata = sound(tmp_path)
        metadata.storage_data[MetadataIndex("v", (0, 0))] = _StorageInfo("x", 0, 1)
        data = pickle.dumps(metadata)
        assert "'w' at (0, 0) is stored twice" in refused(
            write(tmp_path, data.replace(b"\x8c\x01v\x94", b"\x8c\x01w\x94"))
        )

    def test_one_outside_the_model_is_called_as_one_inside(self, tmp_path: Path) -> None:
        craft(
            tmp_path,
            {
                "model.a": (torch.ones(2, 2), [((0, 0), (2, 2))]),
                "a": (torch.ones(2), [((0,), (2,))]),
            },
            nested={"model.a": ("model", "a")},
        )
        with open_checkpoint(tmp_path) as checkpoint:
            (tensor,) = checkpoint.listing.tensors
            (outside,) = checkpoint.listing.skipped
        assert (tensor.name, tensor.shape) == ("a", (2, 2))
        assert outside.reason == "outside the state dict, which is 'model'"


class TestFiles:
    def test_links_out_of_the_directory(self, tmp_path: Path) -> None:
        sound(tmp_path / "m")
        (tmp_path / "m" / "__0_0.distcp").rename(tmp_path / "outside")
        (tmp_path / "m" / "__0_0.distcp").symlink_to(tmp_path / "outside")
        assert "is a link out of the directory" in refused(tmp_path / "m")

    @pytest.mark.parametrize("what", ["fifo", "directory"])
    def test_what_is_no_file(self, tmp_path: Path, what: str) -> None:
        sound(tmp_path)
        (tmp_path / "__1_0.distcp").unlink()
        (os.mkfifo if what == "fifo" else os.mkdir)(tmp_path / "__1_0.distcp")
        assert "rejected" in open_in_child(tmp_path)

    def test_truncated(self, tmp_path: Path) -> None:
        sound(tmp_path)
        os.truncate(tmp_path / "__1_0.distcp", 500)
        assert "'__1_0.distcp', which has 500: truncated?" in refused(tmp_path)

    def chunk(self, directory: Path, replacement: object) -> str:
        """What is said of a first chunk that is another torch file."""
        metadata = craft(directory, {"w": (torch.randn(4, 3), HALVES)}, files=2)
        target = directory / "__0_0.distcp"
        if isinstance(replacement, bytes):
            target.write_bytes(replacement)
        else:
            torch.save(replacement, target)
        place(metadata, offset=0, length=target.stat().st_size)
        write(directory, metadata)
        spec = MatrixSpec("w", "w", (), 1, (4, 3), "float32", "linear")
        with open_checkpoint(directory) as checkpoint:
            with pytest.raises(InputRejected) as caught:
                checkpoint.read(spec, slice(0, 4), slice(0, 3))
            assert caught.value.tensor == "w"
            assert checkpoint.read(spec, slice(2, 4), slice(0, 3)).shape == (2, 3)
        return caught.value.reason

    @pytest.mark.parametrize(
        ("replacement", "found"),
        [
            (torch.zeros(3, 2), "holds float32 [3, 2], expected one float32 [2, 3]"),
            (torch.zeros(2, 3).double(), "holds float64 [2, 3], expected one float32 [2, 3]"),
            ({"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)}, "holds float32 [2, 3], float32"),
            ([], "holds no tensor"),
            (torch.zeros(2, 3).to_sparse(), "sparse tensor"),
            (bytes(100), "expected a zip archive"),
            (b"PK\x03\x04" + bytes(100), "without an end record"),
            (b"\x80\x02" + bytes(100), "bare pickle"),
        ],
    )
    def test_a_chunk_that_is_something_else(
        self, tmp_path: Path, replacement: object, found: str
    ) -> None:
        assert found in self.chunk(tmp_path, replacement)

    def test_a_chunk_may_not_reach_into_its_neighbour(self, tmp_path: Path) -> None:
        """The zip archive of a chunk is read within its own bytes only."""
        metadata = craft(tmp_path, {"w": (torch.randn(40, 30), [((0, 0), (40, 30))])})
        index = MetadataIndex("w", (0, 0))
        info = metadata.storage_data[index]
        metadata.storage_data[index] = _StorageInfo(info.relative_path, 0, info.length - 64)
        write(tmp_path, metadata)
        spec = MatrixSpec("w", "w", (), 1, (40, 30), "float32", "linear")
        with (
            open_checkpoint(tmp_path) as checkpoint,
            pytest.raises(InputRejected, match=r"without an end record|do not end the file"),
        ):
            checkpoint.read(spec, slice(0, 1), slice(0, 30))

    def test_a_section_ends_where_its_piece_does(self, tmp_path: Path) -> None:
        (tmp_path / "a.distcp").write_bytes(b"0123456789")
        files = ChunkFiles(tmp_path / ".metadata")
        assert files.size("a.distcp") == 10
        section = Section(files, Place("a.distcp", 2, 5))
        assert (section.size, section.read(1, 4)) == (5, b"3456")
        for offset, count in ((1, 5), (-1, 2), (5, 1)):
            with pytest.raises(InputRejected, match="a piece of 5 bytes, expected at least"):
                section.read(offset, count)
        files.close()


class TestBounds:
    def test_a_file_of_metadata_that_is_too_large(self, tmp_path: Path) -> None:
        sound(tmp_path)
        with open(tmp_path / ".metadata", "ab") as file:
            file.truncate(MAX_PICKLE_BYTES + 1)
        assert f"expected at most {MAX_PICKLE_BYTES}" in open_in_child(tmp_path, megabytes=300)

    def test_more_opcodes_than_any(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sound(tmp_path)
        monkeypatch.setattr("rankscope.checkpoints.dcp_metadata.MAX_OPCODES", 100)
        assert "more than 100 opcodes" in refused(tmp_path)

    @pytest.mark.parametrize(
        "data",
        [
            b"\x80\x04]" + b"]\x94h\x00a" * 30_000 + b".",
            b"\x80\x04" + b"(" * 200_000 + b".",
            b"\x80\x04Nr\xff\xff\xff\xff.",  # a memo index of 2**32
            b"\x80\x04" + b")" + b"\x94h\x00\x86" * 2_000 + b".",
        ],
    )
    def test_bombs(self, tmp_path: Path, data: bytes) -> None:
        sound(tmp_path)
        assert "rejected" in open_in_child(write(tmp_path, data))

    def test_a_small_file_that_declares_terabytes(self, tmp_path: Path) -> None:
        metadata = sound(tmp_path)
        described(metadata, "w").size = torch.Size((2**40, 3))
        big = torch.Size((2**40, 3))
        described(metadata, "w").chunks = [ChunkStorageMetadata(torch.Size((0, 0)), big)]
        assert "expected at least 13194139533312" in refused(write(tmp_path, metadata))

    def test_chunks_that_no_ranks_would_share(self, tmp_path: Path) -> None:
        """Checking these against each other would take a long time: 200 cuts along 3 axes."""
        metadata = sound(tmp_path)
        tensor = described(metadata, "w")
        tensor.size = torch.Size((400, 400, 400))
        corners = [torch.Size((i, i, i)) for i in range(200)]
        tensor.chunks = [ChunkStorageMetadata(at, torch.Size((1, 1, 1))) for at in corners]
        tensor.chunks.append(
            ChunkStorageMetadata(torch.Size((200, 0, 0)), torch.Size((200, 400, 400)))
        )
        write(tmp_path, metadata)
        assert "cut at more places than any grid's" in open_in_child(tmp_path)

    def test_random_damage_is_refused_or_harmless(self, tmp_path: Path) -> None:
        generator = random.Random(0)
        data = pickle.dumps(sound(tmp_path))
        for _ in range(200):
            damaged = bytearray(data)
            for _ in range(generator.randint(1, 3)):
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            write(tmp_path, bytes(damaged))
            with contextlib.suppress(InputRejected):
                open_checkpoint(tmp_path).close()
