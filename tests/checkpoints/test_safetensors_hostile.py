"""Safetensors files made to harm: refused in one line, memory and time bounded."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from rankscope import analyze
from rankscope.checkpoints import open_checkpoint
from rankscope.checkpoints.safetensors_header import MAX_AXES, MAX_HEADER_BYTES
from rankscope.errors import InputRejected
from rankscope.how import How
from rankscope.records import Checkpoint
from tests.checkpoints.safetensors_files import entry, library_refuses, open_in_child, write
from tests.contracts.reader import whole

NO_STORE = How(store=False)


def refused(path: Path) -> InputRejected:
    with pytest.raises(InputRejected) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert len(caught.value.reason) < 500
    return caught.value


class TestHeader:
    @pytest.mark.parametrize("count", [1, 7])
    def test_under_eight_bytes(self, tmp_path: Path, count: int) -> None:
        path = tmp_path / "m.safetensors"
        path.write_bytes(bytes(count))
        assert refused(path).reason == (
            f"{count} bytes, expected at least the 8 of a header length"
        )

    def test_an_empty_file(self, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        path.touch()
        assert refused(path).reason == "is empty, expected a checkpoint"

    def test_longer_than_the_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m", {"w": entry()}, bytes(4))
        content = path.read_bytes()
        path.write_bytes((5000).to_bytes(8, "little") + content[8:])
        assert refused(path).reason == (
            f"header of 5000 bytes in a file of {len(content)}: truncated download?"
        )

    @pytest.mark.parametrize("length", [MAX_HEADER_BYTES + 1, 2**39, 2**63, 2**64 - 1])
    def test_over_100_megabytes_is_not_even_read(self, tmp_path: Path, length: int) -> None:
        path = tmp_path / "m.safetensors"
        with open(path, "wb") as file:
            file.write(length.to_bytes(8, "little") + b'{"w":')
            file.truncate(300_000_000)  # sparse: a header that is really there
        answer = open_in_child(path, megabytes=150)
        assert answer == f"rejected: header of {length} bytes, expected at most {MAX_HEADER_BYTES}"

    def test_one_of_100_megabytes_that_would_fill_the_memory(self, tmp_path: Path) -> None:
        # Each pair of bytes becomes a list: thirty times what the file holds.
        text = b'{"w":[' + b"[]," * 20_000_000 + b"[]]}"
        assert len(text) < MAX_HEADER_BYTES
        answer = open_in_child(write(tmp_path / "m", text), megabytes=400)
        assert answer == f"rejected: header of {len(text)} bytes needs more memory than there is"

    def test_a_git_lfs_pointer(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        path.write_text(
            "version https://git-lfs.github.com/spec/v1\n"
            "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
            "size 12345\n"
        )
        assert refused(path).reason == (
            "a git-LFS pointer, not the file itself: run `git lfs pull`"
        )

    @pytest.mark.parametrize(
        ("header", "reason"),
        [
            (b'{"\xff":1}', "header is not UTF-8: invalid start byte at byte 2"),
            (b'{"w":', "header is not JSON: Expecting value: line 1 column 6 (char 5)"),
            (b"{} {}", "header is not JSON: Extra data: line 1 column 4 (char 3)"),
            (b'{"w":' + b"9" * 5000 + b"}", "header is not JSON: Exceeds the limit"),
            (b'{"a\\ud800":1}', "name in the header is not Unicode text: 'a\\ud800'"),
            (b'{"w":[]}', "header entry is not an object"),
            (b'{"w":null}', "header entry is not an object"),
        ],
    )
    def test_text_that_is_no_header(self, tmp_path: Path, header: bytes, reason: str) -> None:
        path = write(tmp_path / "m.safetensors", header)
        assert refused(path).reason.startswith(reason)
        assert library_refuses(path)

    @pytest.mark.parametrize("header", [b"[]", b"3", b'"w"', b"null"])
    def test_json_that_is_no_object(self, tmp_path: Path, header: bytes) -> None:
        path = write(tmp_path / "m.safetensors", header)
        assert "expected an object" in refused(path).reason
        assert library_refuses(path)

    @pytest.mark.parametrize("opening", [b"[", b'{"a":'])
    def test_nested_until_the_stack_ends(self, tmp_path: Path, opening: bytes) -> None:
        path = write(tmp_path / "m.safetensors", b'{"w":' + opening * 1_000_000)
        assert open_in_child(path) == "rejected: header is nested too deeply"

    def test_a_name_twice_is_refused_though_the_library_takes_the_last(
        self, tmp_path: Path
    ) -> None:
        text = (
            b'{"w":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},'
            b'"w":{"dtype":"I32","shape":[1,1],"data_offsets":[0,4]}}'
        )
        path = write(tmp_path / "m", text, np.float32(1).tobytes())
        # The oracle is wrong here: a weight of 1.0 is read as the integer 1065353216.
        assert safetensors.numpy.load_file(path)["w"] == 1065353216
        assert refused(path).reason == "name stands twice in the header, expected once: 'w'"

    def test_a_key_of_an_entry_twice(self, tmp_path: Path) -> None:
        text = b'{"w":{"dtype":"F32","shape":[1,1],"shape":[1,1],"data_offsets":[0,4]}}'
        assert "'shape'" in refused(write(tmp_path / "m", text, bytes(4))).reason

    def test_a_name_of_megabytes(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m", {"w" * 2_000_000: entry()}, bytes(4))
        assert refused(path).reason.startswith("name of 2000000 characters, expected at most 1000")


# A data section of 8 bytes; what stands in it, and a part of the reason.
BAD_ENTRIES: dict[str, tuple[dict[str, Any], str]] = {
    "overlap": (
        {"a": entry(offsets=[0, 4]), "b": entry([1, 2], offsets=[0, 8])},
        "data_offsets [0, 8] overlaps the tensor before it, expected to begin at 4",
    ),
    "the same range twice": (
        {"a": entry([1, 2], offsets=[0, 8]), "b": entry([1, 2], offsets=[0, 8])},
        "overlaps",
    ),
    "an empty one within another": (
        {"a": entry([1, 2], offsets=[0, 8]), "b": entry([0, 2], offsets=[4, 4])},
        "overlaps",
    ),
    "hole": (
        {"a": entry([1, 1], offsets=[4, 8])},
        "data_offsets [4, 8] leaves a hole before it, expected to begin at 0",
    ),
    "hole in the middle": (
        {"a": entry([1], "U8", [0, 1]), "b": entry([1], offsets=[4, 8])},
        "expected to begin at 1",
    ),
    "trailing bytes": (
        {"a": entry([1, 1])},
        "tensors end at byte 4 of the data section, which has 8: truncated, or trailing bytes",
    ),
    "beyond the file": (
        {"a": entry([1, 4], offsets=[0, 16])},
        "tensors end at byte 16 of the data section, which has 8",
    ),
    "shape larger than the range": (
        {"a": entry([3, 1], offsets=[0, 8])},
        "shape [3, 1] of F32 needs 12 bytes, data_offsets span 8",
    ),
    "shape smaller than the range": (
        {"a": entry([1, 1], offsets=[0, 8])},
        "needs 4 bytes, data_offsets span 8",
    ),
    "a product that wraps to 0 in 64 bits": (
        {"a": entry([2**62, 4], offsets=[0, 8])},
        "has more elements than 64 bits can count",
    ),
    "a product that wraps to the range": (
        {"a": entry([2**62 + 2, 4], "U8", [0, 8])},
        "has more elements than 64 bits can count",
    ),
    "bytes that wrap": (
        {"a": entry([2**61 + 1, 2], "F32", [0, 8])},
        f"needs {(2**61 + 1) * 8} bytes, data_offsets span 8",
    ),
    "a product hidden by a 0": (
        {"a": entry([2**62, 2**62, 0], offsets=[0, 0])},
        "has more elements than 64 bits can count",
    ),
    "axes": (
        {"a": entry([1] * 100_000 + [2], offsets=[0, 8])},
        f"shape has 100001 axes, expected at most {MAX_AXES}",
    ),
    "negative size": ({"a": entry([-1, -2], offsets=[0, 8])}, "shape is [-1, -2], expected a list"),
    "boolean size": ({"a": entry([True, 2], offsets=[0, 8])}, "shape is [True, 2]"),
    "fraction": ({"a": entry([1.0, 2.0], offsets=[0, 8])}, "shape is [1.0, 2.0]"),
    "text": ({"a": entry(["1", 2], offsets=[0, 8])}, "shape is ['1', 2]"),
    "infinity": ({"a": entry([float("inf")], offsets=[0, 8])}, "shape is [inf]"),
    "size over 64 bits": ({"a": entry([2**63, 0], offsets=[0, 0])}, "shape is [92233720368547758"),
    "nested shape": ({"a": entry([[1, 2]], offsets=[0, 8])}, "shape is [[1, 2]]"),
    "long nonsense": ({"a": entry(["x" * 10**6] * 9)}, "shape is ['xxxxx"),
    "shape missing": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, "shape is None"),
    "dtype missing": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, "dtype is None"),
    "dtype is a number": ({"a": entry([2], 32, [0, 8])}, "dtype is 32, expected a name"),
    "offsets missing": ({"a": {"dtype": "F32", "shape": [2]}}, "data_offsets is None"),
    "offsets backwards": ({"a": entry([2], offsets=[8, 0])}, "data_offsets is [8, 0], expected"),
    "negative offset": ({"a": entry([2], offsets=[-8, 0])}, "data_offsets is [-8, 0]"),
    "one offset": ({"a": entry([2], offsets=[8])}, "data_offsets is [8]"),
    "three offsets": ({"a": entry([2], offsets=[0, 4, 8])}, "data_offsets is [0, 4, 8]"),
    "boolean offset": ({"a": entry([1], "U8", [False, True])}, "data_offsets is [False, True]"),
    "huge offsets": ({"a": entry([2], offsets=[2**70, 2**70 + 8])}, "data_offsets is [11805"),
}


class TestEntries:
    @pytest.mark.parametrize("case", BAD_ENTRIES)
    def test_are_refused(self, tmp_path: Path, case: str) -> None:
        header, reason = BAD_ENTRIES[case]
        path = write(tmp_path / "m", header, bytes(8))
        error = refused(path)
        assert reason in error.reason
        assert error.tensor in header or "tensors end" in reason
        # The library allows what NumPy cannot hold.
        assert library_refuses(path) or case == "axes"

    @pytest.mark.parametrize("shape", [[0], [0, 3], [3, 0], [2, 0, 5], [2**62, 0], [0, 2**62]])
    def test_a_shape_with_a_zero_is_empty(self, tmp_path: Path, shape: list[int]) -> None:
        path = write(tmp_path / "m", {"w": entry(shape, offsets=[0, 0])})
        assert not library_refuses(path)
        result = analyze(path, how=NO_STORE)
        assert [row["status"] for row in result.matrices] == ["empty"] * (len(shape) > 1)
        assert not result.incomplete

    def test_a_stack_without_elements_is_not_taken_apart(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m", {"mlp.experts": entry([2**40, 5, 0], offsets=[0, 0])})
        assert [row["status"] for row in analyze(path, how=NO_STORE).matrices] == ["empty"]

    @pytest.mark.parametrize("code", ["F4", "F6_E2M3", "Q4_K", "f32", "", "X" * 10**6])
    def test_an_unknown_dtype_is_skipped_with_its_name(self, tmp_path: Path, code: str) -> None:
        header = {"q": entry([16], code, [0, 7]), "w": entry([1, 1], "U8", [7, 8])}
        listing = open_checkpoint(write(tmp_path / "m", header, bytes(8))).listing
        assert [t.name for t in listing.tensors] == ["w"]
        assert [item.name for item in listing.skipped] == ["q"]
        assert listing.skipped[0].reason.startswith(f"dtype {code[:40]} is not known, expected one")
        assert len(listing.skipped[0].reason) < 300

    def test_an_unknown_dtype_still_takes_its_place(self, tmp_path: Path) -> None:
        header = {"q": entry([16], "F4", [0, 8]), "w": entry([1, 1], "U8", [7, 8])}
        assert "overlaps" in refused(write(tmp_path / "m", header, bytes(8))).reason


def matrix_file(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file({"w": np.ones((64, 32))}, path)
    return path


class TestChangedWhileOpen:
    def read(self, checkpoint: Checkpoint) -> Any:
        spec = whole(checkpoint.listing.tensors[0])
        return checkpoint.read(spec, slice(0, 64), slice(0, 32))

    def test_truncated(self, tmp_path: Path) -> None:
        path = matrix_file(tmp_path)
        checkpoint = open_checkpoint(path)
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises(InputRejected, match="truncated or replaced while it was read"):
            self.read(checkpoint)
        checkpoint.close()

    def test_truncated_between_listing_and_measuring(self, tmp_path: Path) -> None:
        path = matrix_file(tmp_path)
        good = tmp_path / "good.safetensors"
        safetensors.numpy.save_file({"v": np.eye(3)}, good)
        os.truncate(path, path.stat().st_size // 2)
        result = analyze(path, good, how=NO_STORE)
        assert result.incomplete
        assert [row["name"] for row in result.matrices] == ["v"]
        assert "truncated" in result.skipped[0]["reason"]

    def test_replaced_by_another_the_old_one_is_read(self, tmp_path: Path) -> None:
        path = matrix_file(tmp_path)
        checkpoint = open_checkpoint(path)
        other = tmp_path / "other"
        other.write_bytes(b"x")
        other.replace(path)
        np.testing.assert_array_equal(self.read(checkpoint), np.ones((64, 32)))
        checkpoint.close()

    def test_removed(self, tmp_path: Path) -> None:
        path = matrix_file(tmp_path)
        path.unlink()
        assert refused(path).reason == "cannot be opened: No such file or directory"

    def test_closed(self, tmp_path: Path) -> None:
        checkpoint = open_checkpoint(matrix_file(tmp_path))
        checkpoint.close()
        checkpoint.close()
        with pytest.raises(InputRejected, match="cannot be read"):
            self.read(checkpoint)


class TestNoFile:
    def test_a_fifo(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "m.safetensors")
        assert open_in_child(tmp_path / "m.safetensors") == "rejected: not a regular file"

    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty"])
    def test_a_device(self, device: str) -> None:
        answer = open_in_child(Path(device))
        assert answer.startswith(("rejected: not a regular file", "rejected: cannot be opened"))

    def test_a_socket(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "m.safetensors"))
            assert "cannot be opened" in open_in_child(tmp_path / "m.safetensors")

    def test_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "m.safetensors").mkdir()
        assert "holds no model" in open_in_child(tmp_path / "m.safetensors")

    def test_a_link_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "m.safetensors").symlink_to("m.safetensors")
        assert "cannot be opened: Too many levels" in open_in_child(tmp_path / "m.safetensors")

    def test_a_link_to_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "m.safetensors").symlink_to("../blobs/gone")
        assert refused(tmp_path / "m.safetensors").reason.startswith("cannot be opened")
