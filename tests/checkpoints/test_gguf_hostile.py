"""GGUF files made to harm: refused in one line, memory and time bounded."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from rankscope.checkpoints import open_checkpoint
from rankscope.checkpoints.gguf import GgufReader
from rankscope.checkpoints.gguf_cursor import MAX_HEADER_BYTES
from rankscope.checkpoints.gguf_header import MAX_KEYS, MAX_TENSORS
from rankscope.errors import InputRejected
from rankscope.matrices import Selection, select
from rankscope.storedmatrix import StoredMatrix
from tests.checkpoints.gguf_files import (
    ARRAY,
    STRING,
    blocks,
    by_hand,
    entry,
    key,
    strings,
    text,
    write,
)
from tests.checkpoints.safetensors_files import open_in_child

UINT32 = 4
GIGANTIC = 2**60


def refused(path: Path) -> str:
    with pytest.raises(InputRejected) as caught:
        GgufReader().open(path)
    assert caught.value.path == str(path)
    assert "\n" not in str(caught.value)
    assert len(caught.value.reason) < 500
    tensor = caught.value.tensor
    return caught.value.reason if tensor is None else f"{tensor}: {caught.value.reason}"


def number(value: int) -> bytes:
    return struct.pack("<I", value)


def array(kind: int, count: int, content: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + content


class TestStart:
    @pytest.mark.parametrize("count", [4, 8, 23])
    def test_too_short(self, tmp_path: Path, count: int) -> None:
        path = by_hand(tmp_path / "m")
        path.write_bytes(path.read_bytes()[:count])
        assert refused(path) == f"{count} bytes, expected at least the 24 of a GGUF header"

    def test_no_gguf_though_its_name_says_so(self, tmp_path: Path) -> None:
        path = tmp_path / "m.gguf"
        path.write_bytes(b"ggjt" + bytes(100))
        with pytest.raises(InputRejected, match="begins with b'ggjt', expected b'GGUF'"):
            open_checkpoint(path)

    @pytest.mark.parametrize(
        ("version", "reason"),
        [
            (0, "GGUF version 0, expected 2 or 3"),
            (1, "GGUF version 1, expected 2 or 3: convert the model anew"),
            (4, "GGUF version 4, expected 2 or 3"),
            (1 << 24, "GGUF version 1, expected 2 or 3: convert the model anew"),
        ],
    )
    def test_versions(self, tmp_path: Path, version: int, reason: str) -> None:
        assert refused(by_hand(tmp_path / "m", claims={"version": version})) == reason


# What a header declares, and how the reason begins. Each is opened in a child process.
DECLARED: dict[str, tuple[Sequence[bytes], Sequence[bytes], dict[str, int], str]] = {
    "keys": ([], [], {"keys": 2**40}, f"header of 0 tensors and {2**40} keys, expected at most"),
    "tensors": ([], [], {"tensors": 2**40}, f"header of {2**40} tensors and 0 keys, expected"),
    "tensors within the limit": (
        [],
        [],
        {"tensors": MAX_TENSORS},
        f"header of {MAX_TENSORS} tensors in a file of 300000000 bytes",
    ),
    "the length of a key": (
        [],
        [struct.pack("<Q", GIGANTIC)],
        {},
        f"metadata: a name of {GIGANTIC} bytes at byte 32, at most 65535",
    ),
    "the length of a string": (
        [],
        [key(b"k", STRING, struct.pack("<Q", GIGANTIC))],
        {},
        f"metadata key 'k': {GIGANTIC + 8} bytes more in a header, expected at most",
    ),
    "strings": (
        [],
        [key(b"k", ARRAY, array(STRING, GIGANTIC))],
        {},
        f"metadata key 'k': {8 * GIGANTIC} bytes more in a header",
    ),
    "the length of a string among others": (
        [],
        [key(b"k", ARRAY, array(STRING, 3, text(b"a") + struct.pack("<Q", 2**64 - 1)))],
        {},
        "metadata key 'k': ",
    ),
    "numbers": (
        [],
        [key(b"k", ARRAY, array(12, GIGANTIC))],
        {},
        f"metadata key 'k': {8 * GIGANTIC} bytes more in a header",
    ),
    "arrays": (
        [],
        [key(b"k", ARRAY, array(ARRAY, GIGANTIC))],
        {},
        "metadata key 'k': arrays nested deeper than 4, or more than 1048576 of them",
    ),
    "arrays in arrays": (
        [],
        [key(b"k", ARRAY, array(ARRAY, 1) * 100_000)],
        {},
        "metadata key 'k': arrays nested deeper than 4",
    ),
    "the length of a tensor's name": (
        [struct.pack("<Q", GIGANTIC)],
        [],
        {},
        f"entry 1 of 1 tensors: a name of {GIGANTIC} bytes at byte 32, at most 1000",
    ),
    "axes": (
        [text(b"w") + number(2**32 - 1)],
        [],
        {},
        f"has {2**32 - 1} axes, expected at most 4",
    ),
    "elements": (
        [entry(dims=(2**62, 1))],
        [],
        {},
        f"ends at byte {2**64} of the data, which has ",
    ),
    "elements beyond 64 bits": (
        [entry(dims=(2**32, 2**32, 2**32, 0))],
        [],
        {},
        "shape [0, 4294967296, 4294967296, 4294967296] has more elements than 64 bits",
    ),
}


@pytest.mark.parametrize("what", DECLARED)
def test_gigantic(tmp_path: Path, what: str) -> None:
    entries, keys, counts, reason = DECLARED[what]
    path = by_hand(tmp_path / "m.gguf", entries, keys, claims=counts)
    os.truncate(path, 300_000_000)  # sparse: as long as a header may be, and longer
    if what == "tensors within the limit":
        # Zeros are sound entries; a file that ends before them is refused at once.
        os.truncate(path, 1_000_000)
        reason = reason.replace("300000000", "1000000")
    assert open_in_child(path, megabytes=150).startswith(f"rejected: {reason}")


@pytest.mark.parametrize("content", [ARRAY, STRING])
def test_a_file_of_zeros_ends_soon(tmp_path: Path, content: int) -> None:
    # Empty strings, or arrays of none, as many as a header can hold.
    count = (MAX_HEADER_BYTES - 1000) // 8 if content == STRING else 2**20
    path = by_hand(tmp_path / "m.gguf", keys=[key(b"k", ARRAY, array(content, count))])
    os.truncate(path, 2**40)
    assert open_in_child(path, megabytes=150).startswith("rejected: ")


class TestMetadata:
    def test_more_keys_than_any_model_has(self, tmp_path: Path) -> None:
        path = by_hand(tmp_path / "m", keys=[b""] * (MAX_KEYS + 1))
        assert refused(path).startswith(f"header of 0 tensors and {MAX_KEYS + 1} keys, expected")

    def test_a_key_twice(self, tmp_path: Path) -> None:
        keys = [key(b"general.alignment", UINT32, number(size)) for size in (32, 64)]
        assert refused(by_hand(tmp_path / "m", keys=keys)) == (
            "metadata key 'general.alignment': stands there twice"
        )

    @pytest.mark.parametrize("kind", [13, 2**32 - 1])
    def test_values_of_no_known_type(self, tmp_path: Path, kind: int) -> None:
        reason = f"metadata key 'k': a value of type {kind}, expected 0 to 12"
        assert refused(by_hand(tmp_path / "m", keys=[key(b"k", kind, bytes(8))])) == reason
        inside = key(b"k", ARRAY, array(kind, 0))
        assert refused(by_hand(tmp_path / "m", keys=[inside])) == reason

    def test_a_key_that_acts_on_a_terminal(self, tmp_path: Path) -> None:
        path = by_hand(tmp_path / "m", keys=[key(b"\x1b[31m\n\xff" * 100, 13, b"")])
        assert "\x1b" not in refused(path)

    @pytest.mark.parametrize("alignment", [0, 3, 48, 2**22, 2**31])
    def test_alignments(self, tmp_path: Path, alignment: int) -> None:
        keys = [key(b"general.alignment", UINT32, number(alignment))]
        assert refused(by_hand(tmp_path / "m", keys=keys)) == (
            f"general.alignment is {alignment}, expected a power of two up to 2097152"
        )

    @pytest.mark.parametrize("kind", [6, 7, STRING, ARRAY])
    def test_an_alignment_that_is_no_integer(self, tmp_path: Path, kind: int) -> None:
        path = by_hand(tmp_path / "m", keys=[key(b"general.alignment", kind, bytes(16))])
        assert refused(path) == (
            f"metadata key 'general.alignment': a value of type {kind}, expected an integer"
        )

    @pytest.mark.parametrize(
        ("number_", "count"), [(3, 3), (-1, 3), (0, 1001), (0, 2**31 - 1), (1, 0), (1, -5)]
    )
    def test_parts(self, tmp_path: Path, number_: int, count: int) -> None:
        keys = [
            key(b"split.no", 5, struct.pack("<i", number_)),
            key(b"split.count", 5, struct.pack("<i", count)),
        ]
        assert refused(by_hand(tmp_path / "m", keys=keys)) == (
            f"split.no is {number_} and split.count {count}, "
            "expected one of at most 1000 parts, counted from 0"
        )


FOUR = np.eye(2, dtype=np.float32).tobytes()  # 16 bytes

# Entries, data, and the reason.
BAD_PLACES: dict[str, tuple[Sequence[bytes], bytes, str]] = {
    "a name twice": (
        [entry(), entry(offset=32)],
        FOUR + bytes(16) + FOUR,
        "w: stands in the header twice",
    ),
    "a name that is no text": ([entry(b"\xff")], FOUR, "entry 1 of 1 tensors: name '\ufffd' is no"),
    "not aligned": (
        [entry(), entry(b"v", offset=16)],
        FOUR + FOUR,
        "v: begins at byte 16 of the data, no multiple of 32",
    ),
    "the same place": (
        [entry(), entry(b"v")],
        FOUR,
        "w: begins at byte 0 of the data, within the tensor before it",
    ),
    "overlap": (
        [entry(dims=(16, 1)), entry(b"v", offset=32)],
        bytes(64),
        "v: begins at byte 32 of the data, within the tensor before it",
    ),
    "overlap with a type that nobody knows": (
        [entry(code=77), entry(b"v")],
        bytes(64),
        "v: begins at byte 0 of the data, within the tensor before it",
    ),
    "a hole": (
        [entry(), entry(b"v", offset=64)],
        bytes(80),
        "v: begins at byte 64 of the data, leaving a hole behind byte 16",
    ),
    "a hole before the first": (
        [entry(offset=32)],
        bytes(48),
        "w: begins at byte 32 of the data, leaving a hole behind byte 0",
    ),
    "truncated": (
        [entry()],
        FOUR[:-1],
        "w: ends at byte 16 of the data, which has 15: truncated download?",
    ),
    "no data": ([entry()], b"", "w: ends at byte 16 of the data, which has 0: truncated download?"),
    "trailing bytes": (
        [entry()],
        bytes(33),
        "tensors end at byte 16 of the data, which has 33: trailing bytes",
    ),
    "an offset of 64 bits": (
        [entry(offset=2**64 - 32)],
        FOUR,
        f"w: ends at byte {2**64 - 16} of the data, which has 16: truncated download?",
    ),
    "rows of half a block": (
        [entry(dims=(48, 2), code=8)],
        bytes(3 * 34),
        "w: rows of 48 elements, no multiple of Q8_0's 32",
    ),
    "a packed scalar": (
        [entry(dims=(), code=8)],
        bytes(34),
        "w: rows of 1 elements, no multiple of Q8_0's 32",
    ),
}


@pytest.mark.parametrize("what", BAD_PLACES)
def test_bad_places(tmp_path: Path, what: str) -> None:
    entries, data, reason = BAD_PLACES[what]
    assert refused(by_hand(tmp_path / "m", entries, data=data)).startswith(reason)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("fuzz") / "m.gguf"
    tensors = {
        "a": (np.ones((3, 4), np.float32), None),
        "blk.0.ffn_up_exps.weight": (blocks(Kind.Q4_0, (2, 3, 64)), Kind.Q4_0),
        "v": (np.ones(3, np.float16), None),
    }
    write(path, tensors)
    return path, path.read_bytes()


class TestDamage:
    """Damage gives `InputRejected`, or a listing whose reads succeed or are `InputRejected`."""

    @given(data=st.data())
    @settings(max_examples=300, deadline=None)
    def test_bytes_changed(self, sound: tuple[Path, bytes], data: st.DataObject) -> None:
        path, content = sound
        damaged = bytearray(content)
        places = st.integers(0, len(content) - 1)
        values = st.one_of(st.integers(0, 255), st.integers(0, 40))
        for place, value in data.draw(st.lists(st.tuples(places, values), min_size=1, max_size=5)):
            damaged[place] = value
        self.survives(path, bytes(damaged))

    @given(data=st.data())
    @settings(max_examples=200, deadline=None)
    def test_cut_and_pasted(self, sound: tuple[Path, bytes], data: st.DataObject) -> None:
        path, content = sound
        at = data.draw(st.integers(0, len(content)))
        gone = data.draw(st.integers(0, 40))
        new = data.draw(st.one_of(st.binary(max_size=20), st.just(content[at : at + 30])))
        self.survives(path, content[:at] + new + content[at + gone :])

    def test_cut_anywhere(self, sound: tuple[Path, bytes]) -> None:
        path, content = sound
        padding = 32 - 6  # behind the last tensor, three numbers of two bytes
        for length in range(1, len(content) - padding):
            path.write_bytes(content[:length])
            with pytest.raises(InputRejected):
                GgufReader().open(path)

    def survives(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        try:
            with open_checkpoint(path) as checkpoint:
                specs, _ = select(checkpoint.listing, Selection())
                for spec in specs:
                    for block in StoredMatrix(checkpoint, spec).blocks(0, 64):
                        assert block.shape[1] == spec.shape[1]
        except InputRejected as error:
            assert error.path == str(path)  # noqa: PT017

    def test_shorter_since_it_was_opened(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m", {"w": (blocks(Kind.Q8_0, (64, 64)), Kind.Q8_0)})
        with open_checkpoint(path) as checkpoint:
            ((spec,), _) = select(checkpoint.listing, Selection())
            os.truncate(path, path.stat().st_size - 100)
            with pytest.raises(InputRejected, match="truncated or replaced"):
                checkpoint.read(spec, slice(0, 64), slice(0, 64))


class TestSplit:
    def test_a_tensor_in_two_parts(self, tmp_path: Path) -> None:
        for part in range(2):
            self.part(tmp_path, part, promised=2)
        path = tmp_path / "m-00001-of-00002.gguf"
        with pytest.raises(InputRejected, match=f"w: stands in {path} too"):
            open_checkpoint(path)

    def test_fewer_tensors_than_promised(self, tmp_path: Path) -> None:
        self.part(tmp_path, 0, promised=3, name=b"a")
        self.part(tmp_path, 1, promised=3, name=b"b")
        assert refused(tmp_path / "m-00002-of-00002.gguf") == (
            "all parts hold 2 tensors, expected 3"
        )

    def test_a_thousand_parts_that_are_not_there(self, tmp_path: Path) -> None:
        path = self.part(tmp_path, 0, promised=9, count=1000)
        (item,) = GgufReader().open(path).listing.missing
        assert item.reason == "is not there (parts missing: 999 of 1000)"

    def part(
        self, folder: Path, number_: int, *, promised: int, count: int = 2, name: bytes = b"w"
    ) -> Path:
        keys = [
            key(b"split.no", 2, struct.pack("<H", number_)),
            key(b"split.count", 2, struct.pack("<H", count)),
            key(b"split.tensors.count", 5, struct.pack("<i", promised)),
            key(b"tokens", ARRAY, strings([b"a"])),
        ]
        path = folder / f"m-{number_ + 1:05d}-of-{count:05d}.gguf"
        return by_hand(path, [entry(name)], keys, FOUR)
