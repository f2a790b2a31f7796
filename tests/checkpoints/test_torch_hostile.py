"""Torch files made to harm: refused in one line, nothing run, memory and time bounded."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from rankscope.checkpoints.torchzip import TorchReader
from rankscope.errors import InputRejected
from tests.checkpoints.torch_files import (
    Call,
    G,
    Id,
    Raw,
    encoded,
    open_in_child,
    pickled,
    storage,
    tensor,
    write_archive,
)


def refused(path: Path) -> str:
    with pytest.raises(InputRejected) as caught:
        TorchReader().open(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000
    return caught.value.reason  # not the path, which holds the test's own name


def sentinel_calls(command: str) -> dict[str, object]:
    """Ways to run a command from a pickle, each of which works with pickle.load."""
    run = (command,)
    return {
        "os.system": Call(G("os", "system"), run),
        "posix.system": Call(G("posix", "system"), run),
        "builtins.eval": Call(G("builtins", "eval"), (f"__import__('os').system({command!r})",)),
        "importlib.import_module": Call(G("importlib", "import_module"), ("this",)),
        "builtins.getattr": Call(
            Call(G("builtins", "getattr"), (G("os", "path"), "os.system")), run
        ),
        "attributes": Raw(
            encoded("os") + encoded("path.os.system") + b"\x93" + encoded(run) + b"R"
        ),
        "inst": Raw(b"(" + encoded(command) + b"ios\nsystem\n"),
        "obj": Raw(b"(cos\nsystem\n" + encoded(command) + b"o"),
        "newobj": Raw(b"csubprocess\nPopen\n" + encoded(([command], 0, "sh")) + b"\x81"),
        "newobj_ex": Raw(
            b"csubprocess\nPopen\n" + encoded((command,)) + encoded({"shell": True}) + b"\x92"
        ),
        "in a rebuild": Call(
            G("torch._tensor", "_rebuild_from_type_v2"),
            (G("os", "system"), G("torch", "Tensor"), run, {}),
        ),
        "a factory": {"x": Call(Call(G("functools", "partial"), (G("os", "system"), command)), ())},
        "load within": Call(G("torch.storage", "_load_from_bytes"), (Raw(b"U\x0bcos\nsystem\n"),)),
    }


class TestCalls:
    @pytest.mark.parametrize("way", sentinel_calls(""))
    def test_no_call_is_made(self, tmp_path: Path, way: str) -> None:
        sentinel = tmp_path / "ran"
        call = sentinel_calls(f"touch {sentinel}")[way]
        reason = refused(write_archive(tmp_path / "a.pt", {"w": tensor(), "x": call}))
        assert "which is not on the list" in reason
        assert "nothing was called" in reason
        assert not sentinel.exists()

    def test_the_sentinel_would_catch_a_reader_that_calls(self, tmp_path: Path) -> None:
        command = f"touch {tmp_path / 'ran'}"
        pickle.loads(b"\x80\x02" + encoded(sentinel_calls(command)["os.system"]) + b".")
        assert (tmp_path / "ran").exists()

    def test_real_picklers_find_their_way_out_too(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
                return os.system, (f"touch {tmp_path / 'ran'}",)

        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path = write_archive(tmp_path / "a.pt", pickle.dumps({"w": Evil()}, protocol))
            assert "system'" in refused(path)
        assert not (tmp_path / "ran").exists()

    def test_a_name_that_is_not_called_is_data(self, tmp_path: Path) -> None:
        path = write_archive(tmp_path / "a.pt", {"w": tensor(), "activation": G("os", "system")})
        assert [t.name for t in TorchReader().open(path).listing.tensors] == ["w"]

    def test_random_damage_is_refused_or_harmless(self, tmp_path: Path) -> None:
        generator = random.Random(0)
        parts = {"w": tensor(), "n": {"a": [1, None, "b"]}, "s": Call(G("torch", "Size"), ((1,),))}
        sound = pickled(parts)
        for _ in range(500):
            damaged = bytearray(sound)
            for _ in range(generator.randint(1, 3)):
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            with contextlib.suppress(InputRejected):
                TorchReader().open(write_archive(tmp_path / "a.pt", bytes(damaged))).close()

    @pytest.mark.parametrize(
        ("code", "found"),
        [
            (b"\x82\x01", "EXT1"),
            (b"Pfile\n", "PERSID"),
            (b"\x97", "NEXT_BUFFER"),
            (b"\xff", "damaged"),
            (b"R", "damaged"),
            (b"h\x07", "damaged"),
            (b"N(N", "left over"),
            (b"NN", "left over"),
            (b"N(K\x01Nu", "sets a key of a NoneType"),
            (b"NNa", "appends to a NoneType"),
            (b"NNb", "state of a NoneType"),
            (b"}(K\x01u", "key without a value"),
            (b"N)R", "calls a NoneType"),
            (b"ccollections\nOrderedDict\nNR", "without a tuple"),
            (b"NK\x01\x93", "other than text"),
            (b"\x8b\xff\xff\xff\x7f", "damaged"),
            (b"\x8d" + b"\xff" * 8, "damaged"),
            (b"I" + b"9" * 5000 + b"\n", "damaged"),
        ],
    )
    def test_damaged_pickles(self, tmp_path: Path, code: bytes, found: str) -> None:
        assert found in refused(write_archive(tmp_path / "a.pt", b"\x80\x02" + code + b"."))


class TestTensors:
    @pytest.mark.parametrize(
        ("bad", "found"),
        [
            (tensor(size=(2, 4)), "storage of 6"),
            (tensor(offset=1), "reach element 7"),
            (tensor(stride=(4, 1)), "reach element 7 of a storage of 6"),
            (tensor(offset=-1), "negative"),
            (tensor(stride=(-3, 1), offset=3), "negative"),
            (tensor(size=(-2, 3)), "negative"),
            (tensor(size=(2**40, 2**40), stride=(0, 0)), "more than 1000 times"),
            (tensor(size=(2**62, 3)), "storage of 6"),
            (tensor(size=(2**64, 3), stride=(0, 1)), "64 bits"),
            (tensor(offset=2**70), "64 bits"),
            (tensor(offset=2**3000), "integer of 3001 bits"),
            (tensor(size=(2, 3, 1)), "not matching integers"),
            (tensor(size=("2", 3)), "not matching integers"),
            (tensor(size=(1,) * 65, stride=(0,) * 65), "65 axes"),
            (tensor(size=[2, 3]), "something else"),
            (tensor(held="0"), "something else"),
            (tensor(held=storage(numel=7)), "has 24 bytes, expected 28 for 7 elements"),
            (tensor(held=storage(numel=5)), "has 24 bytes, expected 20 for 5 elements"),
            (tensor(held=storage(numel=-6)), "persistent id"),
            (tensor(held=storage(key="1")), "storage '1' is not in the archive"),
            (tensor(held=storage(key="../data/0")), "not in the archive"),
            (tensor(held=storage(key=0)), "persistent id"),
            (tensor(held=storage(kind="HalfStorage")), "expected 12 for 6 elements of HalfStorage"),
            (tensor(held=Id(("module", "a", "b", "c", 1))), "persistent id"),
            (tensor(held=Id("0")), "persistent id"),
            (Call(G("torch._utils", "_rebuild_tensor_v2"), ()), "something else"),
            (Call(G("torch._utils", "_rebuild_parameter"), (1,)), "something else than a tensor"),
        ],
    )
    def test_claims_that_the_storage_does_not_bear(
        self, tmp_path: Path, bad: object, found: str
    ) -> None:
        assert found in refused(write_archive(tmp_path / "a.pt", {"w": bad}))

    def test_the_same_file_without_the_lie_is_read(self, tmp_path: Path) -> None:
        path = write_archive(tmp_path / "a.pt", {"w": tensor(), "t": tensor((3, 2), (1, 3))})
        assert len(TorchReader().open(path).listing.tensors) == 2

    def test_the_tensor_is_named(self, tmp_path: Path) -> None:
        path = write_archive(tmp_path / "a.pt", {"layer": {"w": tensor(offset=1)}})
        with pytest.raises(InputRejected) as caught:
            TorchReader().open(path)
        assert str(caught.value).startswith(f"{path}: layer.w: size [2, 3]")

    def test_an_unknown_storage_type_is_skipped_by_name(self, tmp_path: Path) -> None:
        bad = tensor(held=storage(kind="Float6Storage"))
        listing = TorchReader().open(write_archive(tmp_path / "a.pt", {"w": bad})).listing
        assert "'Float6Storage' is not known" in listing.skipped[0].reason

    def test_a_meta_storage_of_old_files_is_skipped(self, tmp_path: Path) -> None:
        bad = tensor(held=storage(location="meta"))
        listing = TorchReader().open(write_archive(tmp_path / "a.pt", {"w": bad})).listing
        assert "never stored" in listing.skipped[0].reason

    @pytest.mark.parametrize("entry", ["data.pkl", "data/0", "byteorder"])
    def test_deflated_entries_are_not_inflated(self, tmp_path: Path, entry: str) -> None:
        entries = {"data/0": bytes(24), "byteorder": b"little"}
        path = write_archive(tmp_path / "a.pt", {"w": tensor()}, entries, deflated=(entry,))
        assert "deflate" in refused(path)  # the method, named

    def test_an_unknown_byte_order(self, tmp_path: Path) -> None:
        entries = {"data/0": bytes(24), "byteorder": b"middle"}
        assert "b'middle'" in refused(write_archive(tmp_path / "a.pt", {"w": tensor()}, entries))

    def test_a_key_that_stands_twice(self, tmp_path: Path) -> None:
        pairs = encoded("w") + encoded(tensor())
        path = write_archive(tmp_path / "a.pt", Raw(b"}(" + pairs * 2 + b"u"))
        assert "two tensors have this name" in refused(path)


def laughs(leaf: bytes) -> bytes:
    """A list of ten times a list of ten times ... 30 deep, in a few hundred bytes."""
    code = leaf + b"q\x00"
    for level in range(30):
        code += b"]q" + bytes([level + 1]) + b"(" + (b"h" + bytes([level])) * 10 + b"e"
    return b"(" + code + b"l"


LONG = encoded("k" * 2000)
BOMBS: dict[str, tuple[bytes, str]] = {
    "opcodes": (b"(" + b"}" * 3_000_000 + b"l", "more than 3000000 opcodes"),
    "bytes": (bytes(70_000_000), "bytes, expected stored and at most"),
    "deep lists": (b"]" * 400_000 + b"a" * 399_999, "nested deeper"),
    "deep tuples": (b")" + b"\x85" * 800_000, "nested deeper"),
    "deep objects": (
        b"c__builtin__\nset\nq\x000" + b"h\x00" * 300_000 + b"N" + b"\x85R" * 300_000,
        "nested deeper",
    ),
    "deep dictionaries": (b"}" + b"N}" * 200_000 + b"s" * 200_000, "nested deeper"),
    "contains itself": (b"]q\x00(h\x00h\x00e", "contains itself"),
    "dictionary of itself": (b"}q\x00(X\x01\x00\x00\x00ah\x00u", "contains itself"),
    "laughs": (laughs(b"]"), "counting shared ones"),
    "laughs of tensors": (laughs(encoded(tensor())), "more than 250000 tensors"),
    "wide lists of one wide list": (
        b"(](" + b"N" * 10_000 + b"eq\x00" + b"h\x00" * 10_000 + b"l",
        "counting shared ones",
    ),
    "tuples as keys, doubled 150 times": (
        b"}(" + b")" + b"q\x000h\x00h\x00\x86" * 150 + encoded(tensor()) + b"u",
        "nested deeper",
    ),
    "far memo": (b"]r\xff\xff\xff\xff0j\xff\xff\xff\xff", "[]"),
    "long names": (b"}(" + LONG + encoded(tensor()) + b"u", "name of 2000 characters"),
    "names of one long key": (
        b"}q\x00(" + encoded("k" * 900) + b"q\x01}q\x02(h\x01" + encoded(tensor()) + b"uu",
        "name of 1800 characters",
    ),
    "huge bytearray": (
        encoded({"w": tensor(), "b": Call(G("builtins", "bytearray"), (2**40,))}),
        "['w']",
    ),
    "announced text": (b"\x8d" + (2**40).to_bytes(8, "little"), "damaged"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(tmp_path: Path, name: str) -> None:
    """In a child process with 600 MB and 20 seconds; the reader itself imports nothing large."""
    code, found = BOMBS[name]
    path = write_archive(tmp_path / "a.pt", b"\x80\x02" + code + b".")
    assert found in open_in_child(path, megabytes=600)
