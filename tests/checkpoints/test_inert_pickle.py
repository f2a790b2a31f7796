"""Pickles read as data: our decoder against `pickletools`, the memo and the bounds."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from rankscope.checkpoints.inert_arguments import CODES, NAMES, READERS
from rankscope.checkpoints.inert_nodes import BadPickle, Dictionary, Opaque, TooLarge
from rankscope.checkpoints.inert_opcodes import STEPS, STEPS_WITH
from rankscope.checkpoints.inert_pickle import interpret
from rankscope.checkpoints.torch_stubs import BUILDERS, persistent_stub

DAMAGE = (ValueError, IndexError, OverflowError, struct.error)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -(2**31), -1, 2**2000])
    | st.floats(allow_nan=False)
    | st.text()
    | st.text(min_size=250, max_size=260)
    | st.sampled_from(["", "\x00", "\ud800", "\U0001f600", "a\\b\n'\"", "\u20ac" * 90])
    | st.binary(max_size=300)
    | st.binary(max_size=9).map(bytearray)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=5)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=5)
        | st.lists(inner, min_size=1, max_size=2).map(lambda items: [items, items])
    ),
    max_leaves=20,
)

Operation = tuple[str, object, int]


def ours(data: bytes) -> Iterator[Operation]:
    """What our table makes of a pickle, opcode by opcode; as `pickletools.genops` gives it."""
    at = 0
    while True:
        start, code = at, data[at]
        if code not in NAMES:
            raise ValueError(f"opcode {code} unknown")
        argument, at = READERS[code](data, at + 1) if code in READERS else (None, at + 1)
        yield NAMES[code], argument, start
        if code == CODES["STOP"]:
            return


def theirs(data: bytes) -> Iterator[Operation]:
    for opcode, argument, at in pickletools.genops(data):
        assert at is not None
        yield opcode.name, argument, at


def told(operations: Iterator[Operation]) -> tuple[list[str], bool]:
    """Every opcode up to the damage, exactly as it is, and whether there was damage."""
    seen: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes, which `pickletools` lets through
            # With types: 1, 1.0 and True are equal.
            seen.extend(repr(operation) for operation in operations)
    except DAMAGE:
        return seen, True
    return seen, False


CALLS: dict[str, Any] = {
    "frozenset": lambda parts=(): frozenset(parts),
    "bytearray": bytearray,
    "bytes": bytes,
    "encode": str.encode,
}


def rebuilt(node: object) -> Any:
    """What pickle.loads makes of the same pickle, of plain containers."""
    match node:
        case list():
            return [rebuilt(item) for item in node]
        case tuple():
            return tuple(rebuilt(item) for item in node)
        case Dictionary():
            return {rebuilt(key): rebuilt(value) for key, value in node.pairs}
        case Opaque("builtins.frozenset", parts):  # the opcode's; a call's has a list in it
            return frozenset(rebuilt(parts[0] if parts and type(parts[0]) is list else parts))
        case Opaque(name, parts):
            return CALLS[name.rpartition(".")[2]](*rebuilt(parts))
    return node


def read(data: bytes) -> Any:
    return interpret(data, BUILDERS, persistent_stub)


class TestDecoder:
    @given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL))
    def test_agrees_with_pickletools(self, value: object, protocol: int) -> None:
        data = pickle.dumps(value, protocol)
        seen, damaged = told(ours(data))
        assert not damaged
        assert (seen, damaged) == told(theirs(data))

    @given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL))
    def test_gives_what_pickle_gives(self, value: object, protocol: int) -> None:
        data = pickle.dumps(value, protocol)
        assert repr(rebuilt(read(data))) == repr(pickle.loads(data))

    @given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL), st.data())
    def test_truncated(self, value: object, protocol: int, draw: st.DataObject) -> None:
        data = pickle.dumps(value, protocol)
        short = data[: draw.draw(st.integers(0, len(data) - 1))]
        assert told(ours(short)) == told(theirs(short))
        with pytest.raises(BadPickle, match="damaged"):
            read(short)

    @given(st.binary(max_size=60))
    @example(b"S'a\\qb'\n.")
    @example(b'S"\n.')
    @example(b"S'a\n.")
    @example(b"S\n.")
    @example(b"I01\n.")
    @example(b"I1_0\n.")
    @example(b"L12L\n.")
    @example(b"T\xff\xff\xff\xff.")
    @example(b"\x8b\xff\xff\xff\xff.")
    @example(b"\x8e" + b"\xff" * 8 + b".")
    @example(b"\x96" + b"\x7f" + b"\xff" * 7 + b".")
    @example(b"cos\nsys tem\n.")
    @example(b"V\\u12\n.")
    def test_garbage(self, data: bytes) -> None:
        """Refused by theirs, then by ours; what both take is the same."""
        mine, damaged = told(ours(data))
        others, also = told(theirs(data))
        if self.unusual(data):
            return
        assert (mine, damaged) == (others, also)

    def unusual(self, data: bytes) -> bool:
        """Whether text has escapes that we refuse, or letters that releases of Python differ on."""
        return b"\\" in data or not data.isascii()

    @given(st.lists(st.sampled_from(sorted(NAMES)), max_size=12), st.binary(max_size=20))
    def test_opcodes_in_any_order(self, codes: list[int], rest: bytes) -> None:
        """Ours makes something of it or refuses it, and takes nothing that theirs refuses."""
        data = bytes(codes) + rest + b"."
        try:
            read(data)
        except BadPickle:
            return
        assert not told(theirs(data))[1]

    @given(
        st.dictionaries(
            st.text(st.characters(codec="utf-8"), max_size=300),
            st.lists(st.integers(0, 3), max_size=4).map(torch.zeros),
            max_size=8,
        ),
        st.integers(2, pickle.HIGHEST_PROTOCOL),
    )
    def test_agrees_on_state_dicts(self, state: dict[str, torch.Tensor], protocol: int) -> None:
        stream = io.BytesIO()
        torch.save(state, stream, pickle_protocol=protocol)
        with zipfile.ZipFile(stream) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
            data = archive.read(name)
        assert told(ours(data)) == (told(theirs(data))[0], False)
        names = [key for key, _ in read(data).pairs]
        assert names == list(state)

    def test_every_opcode_is_decided_on(self) -> None:
        left_out = {"EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"}
        assert set(STEPS) | set(STEPS_WITH) | left_out == set(CODES)
        assert not set(STEPS) & set(STEPS_WITH)
        assert {NAMES[code] for code in READERS} - left_out == set(STEPS_WITH)
        assert not (set(STEPS) | set(STEPS_WITH)) & left_out

    def test_text_with_escapes_of_python_2(self) -> None:
        line = rb"""S'it\'s \\ \x1b\t\n"q"'""" + b"\n."
        assert read(line) == 'it\'s \\ \x1b\t\n"q"' == pickle.loads(line)
        for bad in (rb"S'\q'", rb"S'\\\q'", rb"S'\777'", rb"S'\x1'", b"S'\\'"):
            with pytest.raises(BadPickle, match="damaged"):
                read(bad + b"\n.")


class TestMemo:
    """Picklers number from 0 on; nobody has to."""

    @pytest.mark.parametrize(
        "code",
        [
            b"(K\x07q\x05K\x01\x94K\x02\x94h\x05h\x01h\x02t",  # far, then 1 and 2 by MEMOIZE
            b"(K\x07q\x01K\x08q\x00K\x09\x94h\x00h\x01h\x02t",  # out of turn, then turned
            b"(K\x07q\x00K\x08q\x00h\x00t",  # written over
            b"(K\x07q\x03K\x08q\x03K\x01q\x00K\x02q\x01K\x03q\x02K\x04q\x03K\x05\x94h\x03h\x04t",
            b"(K\x07p01\nK\x08q\x00g01\ng1\nt",
            b"(K\x07r\xff\xff\xff\xffj\xff\xff\xff\xfft",
            b"(K\x07q\x02K\x08q\x00K\x09q\x01K\x0a\x94h\x02h\x03t",
        ],
    )
    def test_as_pickle_does(self, code: bytes) -> None:
        data = b"\x80\x04" + code + b"."
        # Not pickle.loads, which is told to make room for 2**32.
        assert read(data) == pickle._Unpickler(io.BytesIO(data)).load()

    @pytest.mark.parametrize(
        "get", [b"g-1\n", b"h\x01", b"j\xff\xff\xff\xff", b"g" + b"9" * 30 + b"\n"]
    )
    def test_what_was_not_remembered(self, get: bytes) -> None:
        with pytest.raises(BadPickle, match="damaged"):
            read(b"\x80\x02]q\x00" + get + b"\x86.")

    def test_a_negative_number(self) -> None:
        with pytest.raises(BadPickle, match="memo index -1"):
            read(b"K\x07p-1\n.")


class TestBounds:
    @pytest.mark.parametrize(
        "code",
        [b"]", b"}", b"\x8f", b"(l", b"(d", b"cdatetime\ndate\n)R", b"cdatetime\ndate\n)\x81"],
    )
    def test_objects(self, monkeypatch: pytest.MonkeyPatch, code: bytes) -> None:
        monkeypatch.setattr("rankscope.checkpoints.inert_machine.MAX_OBJECTS", 10)
        assert len(read(b"\x80\x04(" + code * 9 + b"l.")) == 9
        with pytest.raises(TooLarge, match="more than 10 lists, dictionaries and calls"):
            read(b"\x80\x04(" + code * 10 + b"l.")

    def test_opcodes(self) -> None:
        code = b"\x80\x02" + b"N0" * 10 + b"N."
        assert interpret(code, {}, persistent_stub, 23) is None
        with pytest.raises(TooLarge, match="more than 22 opcodes"):
            interpret(code, {}, persistent_stub, 22)

    @pytest.mark.parametrize(
        ("data", "found"),
        [
            (b"", "it ends before STOP"),
            (b"\x80\x02N", "it ends before STOP"),
            (b"\x80\x02X\x05\x00\x00\x00abc.", "5 bytes announced, 4 left"),
            (b"\x80\x02\xff.", "is unknown"),
        ],
    )
    def test_damage_is_told(self, data: bytes, found: str) -> None:
        with pytest.raises(BadPickle, match=found):
            read(data)

    @pytest.mark.parametrize("code", [b"}", b"("])
    def test_memory(self, code: bytes) -> None:
        """The costliest opcodes, more of them than any checkpoint has, in 700 MB."""
        child = (
            "import resource\n"
            "resource.setrlimit(resource.RLIMIT_AS, (700_000_000, 700_000_000))\n"
            "from rankscope.checkpoints.inert_pickle import interpret\n"
            "from rankscope.checkpoints.inert_nodes import TooLarge\n"
            "try:\n"
            f"    interpret({code!r} * 15_000_000 + b'.', {{}}, id, 20_000_000)\n"
            "except TooLarge:\n"
            "    print('refused')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", child],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        assert done.stdout == "refused\n", done.stderr
