"""The GGUF reader against the gguf package: what it writes, lists and decodes."""

from __future__ import annotations

import os
import shutil
import struct
import sys
import tracemalloc
from pathlib import Path

import gguf.quants
import ml_dtypes
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGUFEndian, GGUFReader, GGUFWriter
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize, quantize

from rankscope import analyze
from rankscope.checkpoints import gguf_blocks, open_checkpoint
from rankscope.checkpoints.ggml_types import TYPES
from rankscope.checkpoints.gguf import GgufReader
from rankscope.errors import InputRejected
from rankscope.how import How
from rankscope.matrices import Selection, select
from rankscope.records import MatrixSpec, TensorInfo
from tests.checkpoints.gguf_files import (
    ARRAY,
    STRING,
    Tensor,
    blocks,
    by_hand,
    entry,
    finished,
    key,
    strings,
    whole,
    write,
)
from tests.contracts.reader import Arrays, ReaderContract

NO_STORE = How(store=False)
PACKED = [Kind[kind.name] for kind in TYPES.values() if not kind.dtype and kind.decoded]
packed = pytest.mark.parametrize("kind", PACKED, ids=lambda kind: kind.name)


class TestContract(ReaderContract):
    reader = GgufReader()
    suffix = ".gguf"
    dtypes = ("float64", "float32", "float16", "bfloat16")
    endian = GGUFEndian.LITTLE

    def write(self, path: Path, arrays: Arrays) -> None:
        tensors: dict[str, Tensor] = {}
        for name, array in arrays.items():
            if array.dtype == ml_dtypes.bfloat16:
                raw = array.view(np.uint16)
                raw = raw.byteswap() if self.endian is GGUFEndian.BIG else raw
                tensors[name] = (raw.view(np.uint8), Kind.BF16)
            else:
                tensors[name] = (array, None)
        write(path, tensors, self.endian)


class TestContractBigEndian(TestContract):
    endian = GGUFEndian.BIG


class TestTypes:
    def test_sizes_are_those_of_the_package(self) -> None:
        ours = {code: (kind.name, kind.block, kind.size) for code, kind in TYPES.items()}
        theirs = {int(kind): (kind.name, *size) for kind, size in GGML_QUANT_SIZES.items()}
        assert ours == theirs

    @pytest.mark.parametrize("code", [code for code, kind in TYPES.items() if not kind.dtype])
    def test_decoded_are_those_that_the_package_decodes(self, code: int) -> None:
        raw = np.zeros((1, TYPES[code].size), np.uint8)
        try:
            dequantize(raw, Kind(code))
            decoded = True
        except NotImplementedError:
            decoded = False
        assert TYPES[code].decoded is decoded


class TestPacked:
    @packed
    def test_listed_as_the_package_lists_it(self, tmp_path: Path, kind: Kind) -> None:
        raw = blocks(kind, (3, 8, 512))
        path = write(tmp_path / "m", {"blk.0.ffn_up_exps.weight": (raw, kind)})
        (info,) = open_checkpoint(path).listing.tensors
        (theirs,) = GGUFReader(path).tensors
        assert (info.name, info.encoding) == (theirs.name, theirs.tensor_type.name)
        assert info.shape == tuple(reversed(theirs.shape.tolist())) == (3, 8, 512)
        assert info.dtype == "float32"

    @packed
    def test_windows_are_those_of_the_decoded_tensor(self, tmp_path: Path, kind: Kind) -> None:
        raw = blocks(kind, (24, 1024))
        expected = dequantize(raw, kind)
        path = write(tmp_path / "m", {"other": (np.ones(5), None), "w": (raw, kind)})
        spec = MatrixSpec("w", "w", (), 1, (24, 1024), "float32", "linear", encoding=kind.name)
        with open_checkpoint(path) as checkpoint:
            for top, bottom, left, right in (
                (0, 24, 0, 1024),
                (3, 20, 0, 1024),
                (0, 24, 255, 257),
                (5, 6, 100, 101),
                (1, 24, 300, 1000),
                (23, 24, 1023, 1024),
                (4, 4, 0, 1024),
                (4, 9, 7, 7),
            ):
                window = checkpoint.read(spec, slice(top, bottom), slice(left, right))
                assert window.dtype == np.float32
                np.testing.assert_array_equal(window, expected[top:bottom, left:right])

    @packed
    def test_experts_one_by_one(self, tmp_path: Path, kind: Kind) -> None:
        raw = blocks(kind, (3, 20, 256))
        expected = dequantize(raw, kind)
        path = write(tmp_path / "m", {"blk.0.ffn_gate_exps.weight": (raw, kind)})
        for i in range(3):
            got = whole(path, f"blk.0.ffn_gate_exps.weight[{i}]")
            np.testing.assert_array_equal(got, expected[i])

    def test_a_window_in_many_tiles(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        raw = blocks(Kind.Q4_K, (50, 2048))
        path = write(tmp_path / "m", {"w": (raw, Kind.Q4_K)})
        for elements in (1, 512, 2048 + 256, 5 * 2048):
            monkeypatch.setattr(gguf_blocks, "DECODED_ELEMENTS", elements)
            np.testing.assert_array_equal(whole(path, "w"), dequantize(raw, Kind.Q4_K))

    def test_a_folded_convolution(self, tmp_path: Path) -> None:
        raw = blocks(Kind.Q8_0, (6, 5, 3, 32))
        path = write(tmp_path / "m", {"conv.weight": (raw, Kind.Q8_0)})
        expected = dequantize(raw, Kind.Q8_0).reshape(6, -1)
        np.testing.assert_array_equal(whole(path, "conv.weight"), expected)

    def test_a_column_of_a_large_tensor_takes_little_memory(self, tmp_path: Path) -> None:
        raw = np.tile(blocks(Kind.Q2_K, (64, 256)), (640, 1))
        path = write(tmp_path / "m", {"w": (raw, Kind.Q2_K)})
        rows = len(raw)
        spec = MatrixSpec("w", "w", (), 1, (rows, 256), "float32", "linear", encoding="Q2_K")
        with open_checkpoint(path) as checkpoint:
            checkpoint.read(spec, slice(0, 1), slice(0, 1))
            tracemalloc.start()
            window = checkpoint.read(spec, slice(0, rows), slice(7, 8))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        np.testing.assert_array_equal(window[:64], dequantize(raw[:64], Kind.Q2_K)[:, 7:8])
        assert peak < rows * 256 * 4 / 2  # half of the decoded tensor

    def test_a_scale_that_is_no_number(self, tmp_path: Path) -> None:
        raw = blocks(Kind.Q8_0, (16, 64))
        raw[3, :2] = np.array([np.inf], np.float16).view(np.uint8)
        result = analyze(write(tmp_path / "m", {"w": (raw, Kind.Q8_0)}), how=NO_STORE)
        assert [row["status"] for row in result.matrices] == ["nonfinite"]

    @pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_K, Kind.IQ3_S], ids=lambda k: k.name)
    def test_measured_as_what_it_decodes_to(self, tmp_path: Path, kind: Kind) -> None:
        raw = blocks(kind, (40, 256))
        sigma = np.linalg.svd(dequantize(raw, kind).astype(np.float64), compute_uv=False)
        path = write(tmp_path / "m.gguf", {"blk.0.ffn_up.weight": (raw, kind)})
        result = analyze(path, metrics=["spectral_norm", "nuclear_norm"], how=NO_STORE)
        (row,) = result.matrices
        assert row["spectral_norm"] == pytest.approx(sigma[0], rel=1e-12)
        assert row["nuclear_norm"] == pytest.approx(sigma.sum(), rel=1e-9)
        assert row["dtype"] == kind.name

    def test_planted_rank_survives_quantisation(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        planted = rng.standard_normal((64, 3)) @ rng.standard_normal((3, 256))
        raw = quantize(planted.astype(np.float32), Kind.Q8_0)
        path = write(tmp_path / "m.gguf", {"w": (raw, Kind.Q8_0)})
        (row,) = analyze(path, metrics=["rank"], eps=0.05, how=NO_STORE).matrices
        assert row["rank"] == 3


class TestNotDecoded:
    def test_without_the_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tensors = {
            "f16": (np.ones((2, 32), np.float16), None),
            "bf16": (np.ones((2, 32), ml_dtypes.bfloat16).view(np.uint8), Kind.BF16),
            "q": (blocks(Kind.Q8_0, (2, 32)), Kind.Q8_0),
        }
        path = write(tmp_path / "m", tensors)
        monkeypatch.setitem(sys.modules, "gguf", None)
        result = analyze(path, how=NO_STORE)
        assert [row["name"] for row in result.matrices] == ["f16", "bf16"]
        assert [(row["name"], row["reason"]) for row in result.skipped] == [
            ("q", "Q8_0 is decoded by the gguf package: pip install 'rankscope[gguf]'")
        ]

    def test_a_remembered_listing_changes_when_the_package_comes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path / "m.gguf", {"q": (blocks(Kind.Q8_0, (16, 32)), Kind.Q8_0)})
        os.utime(path, (1, 1))  # old enough to be remembered
        site = tmp_path / "site"
        site.mkdir()
        monkeypatch.setattr(sys, "path", [str(site), ""])
        how = How(store=tmp_path / "store.sqlite3")
        with monkeypatch.context() as without:
            without.setitem(sys.modules, "gguf", None)
            assert not analyze(path, how=how).matrices
            assert not analyze(path, how=how).matrices
        (site / "gguf").mkdir()
        (site / "gguf" / "__init__.py").touch()
        assert [row["name"] for row in analyze(path, how=how).matrices] == ["q"]

    def test_the_package_gone_since_it_was_listed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path / "m", {"q": (blocks(Kind.Q8_0, (2, 32)), Kind.Q8_0)})
        spec = MatrixSpec("q", "q", (), 1, (2, 32), "float32", "linear", encoding="Q8_0")
        with open_checkpoint(path) as checkpoint:
            for module in [name for name in sys.modules if name.partition(".")[0] == "gguf"]:
                monkeypatch.setitem(sys.modules, module, None)
            with pytest.raises(InputRejected, match="q: Q8_0 is decoded by the gguf package"):
                checkpoint.read(spec, slice(0, 2), slice(0, 32))

    def test_a_package_that_does_not_know_the_type(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path / "m", {"q": (blocks(Kind.MXFP4, (16, 32)), Kind.MXFP4)})
        monkeypatch.delitem(gguf.quants._type_traits, Kind.MXFP4)
        (row,) = analyze(path, how=NO_STORE).matrices
        assert row["status"] == "unreadable"
        with pytest.raises(InputRejected, match="q: MXFP4 is not known to this gguf package"):
            whole(path, "q")

    def test_plain_integers(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m", {"i": (np.ones((2, 2), np.int32), None)})
        (item,) = analyze(path, how=NO_STORE).skipped
        assert item["reason"] == "int32: quantised or an index, no scales"

    @pytest.mark.parametrize("kind", [Kind.Q8_1, Kind.Q8_K, Kind.Q1_0], ids=lambda k: k.name)
    def test_types_that_the_package_knows_by_size_only(self, tmp_path: Path, kind: Kind) -> None:
        _, size = GGML_QUANT_SIZES[kind]
        tensors = {
            "w": (np.zeros((3, size), np.uint8), kind),
            "next": (np.ones((2, 2), np.float32), None),
        }
        listing = open_checkpoint(write(tmp_path / "m", tensors)).listing
        assert listing.tensors == (TensorInfo("next", (2, 2), "float32"),)
        (item,) = listing.skipped
        assert item.reason == f"{kind.name}: the gguf package does not decode it"

    def test_a_type_that_nobody_knows(self, tmp_path: Path) -> None:
        entries = [
            entry(b"a"),
            entry(b"new", (64, 2), code=99, offset=32),
            entry(b"z", offset=64 + 32 * 5),
        ]
        ones = np.ones(4, np.float32).tobytes()
        data = ones + bytes(16 + 32 * 6) + 2 * ones
        listing = open_checkpoint(by_hand(tmp_path / "m", entries, data=data)).listing
        assert [tensor.name for tensor in listing.tensors] == ["a", "z"]
        assert [(item.name, item.reason) for item in listing.skipped] == [
            ("new", "ggml type 99 is not known")
        ]

    def test_packed_in_the_other_byte_order(self, tmp_path: Path) -> None:
        other = GGUFEndian.BIG if sys.byteorder == "little" else GGUFEndian.LITTLE
        tensors = {
            "q": (blocks(Kind.Q8_0, (2, 32)), Kind.Q8_0),
            "w": (np.eye(2, dtype=np.float32), None),
        }
        listing = open_checkpoint(write(tmp_path / "m", tensors, other)).listing
        assert [tensor.name for tensor in listing.tensors] == ["w"]
        (item,) = listing.skipped
        assert item.reason == "Q8_0 in big-endian order: convert it with gguf-convert-endian"

    def test_a_factor_of_the_whole_tensor_stored_beside_it(self, tmp_path: Path) -> None:
        tensors = {
            "blk.0.ffn_up.weight": (blocks(Kind.NVFP4, (4, 64)), Kind.NVFP4),
            "blk.0.ffn_up.scale": (np.ones(1, np.float32), None),
            "blk.0.ffn_down.weight": (blocks(Kind.NVFP4, (4, 64)), Kind.NVFP4),
            "blk.0.ffn_gate.weight": (blocks(Kind.Q8_0, (4, 64)), Kind.Q8_0),
            "blk.0.ffn_gate.scale": (np.ones(1, np.float32), None),
        }
        result = analyze(write(tmp_path / "m", tensors), how=NO_STORE)
        assert [row["name"] for row in result.matrices] == [
            "blk.0.ffn_down.weight",
            "blk.0.ffn_gate.weight",
        ]
        reasons = {row["name"]: row["reason"] for row in result.skipped}
        assert reasons["blk.0.ffn_up.weight"] == "NVFP4 to be scaled by blk.0.ffn_up.scale"


class TestHeader:
    def test_values_of_every_type_are_passed_over(self, tmp_path: Path) -> None:
        writer = GGUFWriter(tmp_path / "m", "llama")
        for width in (8, 16, 32, 64):
            getattr(writer, f"add_uint{width}")(f"u{width}", 7)
            getattr(writer, f"add_int{width}")(f"i{width}", -7)
        writer.add_float32("f32", 1.5)
        writer.add_float64("f64", 1.5)
        writer.add_bool("yes", val=True)
        writer.add_string("template", "x" * 300_000)  # longer than what is read at once
        writer.add_array("floats", [1.0] * 10_000)
        writer.add_array("flags", [True, False])
        writer.add_array("words", ["", "a", "b" * 300_000, "c"] * 3)
        writer.add_array("pairs", [["a", "b"], ["c", "d"]])
        writer.add_tensor("w", np.eye(3, dtype=np.float32))
        path = finished(writer, tmp_path / "m")
        assert [tensor.name for tensor in GGUFReader(path).tensors] == ["w"]
        np.testing.assert_array_equal(whole(path, "w"), np.eye(3))

    def test_strings_across_what_is_read_at_once(self, tmp_path: Path) -> None:
        # Lengths of 0 to 40 bytes: the ends of chunks fall everywhere within a string.
        words = [bytes([65 + i % 26]) * (i % 41) for i in range(60_000)]
        keys = [key(b"tokens", ARRAY, strings(words)), key(b"after", STRING, struct.pack("<Q", 0))]
        path = by_hand(tmp_path / "m", [entry()], keys, np.eye(2, dtype=np.float32).tobytes())
        np.testing.assert_array_equal(whole(path, "w"), np.eye(2))

    @pytest.mark.parametrize("version", [2, 3])
    def test_versions(self, tmp_path: Path, version: int) -> None:
        path = by_hand(tmp_path / "m", [entry()], data=bytes(16), claims={"version": version})
        assert open_checkpoint(path).listing.tensors == (TensorInfo("w", (2, 2), "float32"),)

    @pytest.mark.parametrize("alignment", [8, 64, 4096])
    def test_another_alignment(self, tmp_path: Path, alignment: int) -> None:
        writer = GGUFWriter(tmp_path / "m", "llama")
        writer.add_custom_alignment(alignment)
        writer.add_tensor("v", np.ones(3, np.float32))
        writer.add_tensor("w", np.eye(3, dtype=np.float32))
        path = finished(writer, tmp_path / "m")
        np.testing.assert_array_equal(whole(path, "w"), np.eye(3))

    def test_the_last_tensor_need_not_be_padded(self, tmp_path: Path) -> None:
        path = by_hand(tmp_path / "m", [entry()], data=np.eye(2, dtype=np.float32).tobytes())
        np.testing.assert_array_equal(whole(path, "w"), np.eye(2))

    def test_a_vocabulary_without_a_model(self, tmp_path: Path) -> None:
        keys = [key(b"tokenizer.ggml.tokens", ARRAY, strings([b"a", b"b"]))]
        path = by_hand(tmp_path / "m", keys=keys)
        assert open_checkpoint(path).listing.tensors == ()

    def test_scalars_vectors_and_tensors_without_elements(self, tmp_path: Path) -> None:
        entries = [
            entry(b"s", ()),
            entry(b"v", (3,), offset=32),
            entry(b"e", (0, 3), offset=64),
            entry(b"f", (3, 0), offset=64),
        ]
        path = by_hand(tmp_path / "m", entries, data=bytes(64))
        shapes = [tensor.shape for tensor in open_checkpoint(path).listing.tensors]
        assert shapes == [(), (3,), (3, 0), (0, 3)]


class TestNames:
    @pytest.mark.parametrize(
        ("name", "shape", "kind"),
        [
            ("token_embd.weight", (32, 16), "embedding"),
            ("position_embd.weight", (32, 16), "embedding"),
            ("token_types.weight", (2, 16), "embedding"),
            ("v.patch_embd.weight", (8, 3, 2, 2), "convolution"),
            ("output.weight", (32, 16), "linear"),
            ("blk.0.attn_q.weight", (16, 16), "linear"),
            ("blk.0.ffn_gate_shexp.weight", (16, 16), "linear"),
            ("blk.0.ffn_gate_exps.weight", (16, 8, 8), "stacked"),
            ("blk.0.ffn_up_chexps.weight", (16, 8, 8), "stacked"),
            ("blk.0.attn_k_b.weight", (16, 32, 16), "stacked"),
        ],
    )
    def test_kinds(self, tmp_path: Path, name: str, shape: tuple[int, ...], kind: str) -> None:
        path = write(tmp_path / "m", {name: (np.ones(shape, np.float32), None)})
        with open_checkpoint(path) as checkpoint:
            specs, _ = select(checkpoint.listing, Selection())
        assert {spec.kind for spec in specs} == {kind}


class TestSplit:
    @pytest.fixture
    def parts(self, tmp_path: Path) -> list[Path]:
        writer = GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=2)
        for i in range(5):
            writer.add_tensor(f"blk.{i}.w", np.full((3, 4), i, np.float32))
        finished(writer, tmp_path / "m.gguf")
        paths = sorted(tmp_path.iterdir())
        assert [path.name for path in paths] == [f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
        return paths

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_any_part_leads_to_all(self, parts: list[Path], which: int) -> None:
        with open_checkpoint(parts[which]) as checkpoint:
            listing = checkpoint.listing
        assert [tensor.name for tensor in listing.tensors] == [f"blk.{i}.w" for i in range(5)]
        assert listing.files == tuple(map(str, parts))
        assert listing.format == "gguf"
        assert not listing.missing
        for i in range(5):
            np.testing.assert_array_equal(whole(parts[which], f"blk.{i}.w"), np.full((3, 4), i))

    def test_the_directory(self, parts: list[Path]) -> None:
        result = analyze(parts[0].parent, how=NO_STORE)
        assert [row["name"] for row in result.matrices] == [f"blk.{i}.w" for i in range(5)]

    def test_two_models_in_a_directory(self, parts: list[Path]) -> None:
        for part in parts:
            shutil.copy(part, part.with_name(f"other-{part.name}"))
        with pytest.raises(InputRejected, match="holds no model"):
            open_checkpoint(parts[0].parent)

    def test_one_part_missing(self, parts: list[Path]) -> None:
        parts[1].unlink()
        listing = open_checkpoint(parts[2]).listing
        assert [tensor.name for tensor in listing.tensors] == ["blk.0.w", "blk.1.w", "blk.4.w"]
        assert [(item.name, item.reason) for item in listing.missing] == [
            (parts[1].name, "is not there (parts missing: 1 of 3)")
        ]

    def test_only_one_part(self, parts: list[Path]) -> None:
        parts[0].unlink()
        parts[1].unlink()
        listing = open_checkpoint(parts[2]).listing
        assert [tensor.name for tensor in listing.tensors] == ["blk.4.w"]
        assert [(item.name, item.reason) for item in listing.missing] == [
            (parts[0].name, "is not there (parts missing: 2 of 3)")
        ]

    def test_a_part_renamed(self, parts: list[Path], tmp_path: Path) -> None:
        listing = open_checkpoint(parts[1].rename(tmp_path / "part.gguf")).listing
        assert [tensor.name for tensor in listing.tensors] == ["blk.2.w", "blk.3.w"]
        (item,) = listing.missing
        assert item.reason == (
            "is part 2 of 3; the others are found by names that end in -00002-of-00003.gguf"
        )

    def test_a_whole_model_named_as_a_part(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m-00001-of-00002.gguf", {"w": (np.eye(2), None)})
        listing = open_checkpoint(path).listing
        assert [tensor.name for tensor in listing.tensors] == ["w"]
        assert [item.reason for item in listing.missing] == [
            "is named as a part of a model, and does not say of which"
        ]

    def test_one_of_one(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m-00001-of-00001.gguf", {"w": (np.eye(2), None)})
        assert not open_checkpoint(path).listing.missing

    def test_parts_swapped(self, parts: list[Path], tmp_path: Path) -> None:
        shutil.copy(parts[1], parts[2])
        with pytest.raises(InputRejected) as caught:
            open_checkpoint(parts[0])
        assert caught.value.reason == (
            "says that it is part 2 of 3 of a model of 5 tensors, "
            "expected part 3 of 3 of a model of 5 tensors"
        )

    def test_a_damaged_sibling(self, parts: list[Path]) -> None:
        parts[1].write_bytes(parts[1].read_bytes()[:100])
        with pytest.raises(InputRejected) as caught:
            open_checkpoint(parts[0])
        assert caught.value.path == str(parts[1])

    def test_a_sibling_that_is_a_link_out(self, parts: list[Path], tmp_path: Path) -> None:
        outside = tmp_path.parent / f"{tmp_path.name}-outside.gguf"
        parts[1].rename(outside)
        parts[1].symlink_to(outside)
        with pytest.raises(InputRejected, match="link out of the directory"):
            open_checkpoint(parts[0])
        outside.unlink()

    def test_a_hugging_face_cache(self, parts: list[Path], tmp_path: Path) -> None:
        for folder in ("blobs", "snapshots/abc"):
            (tmp_path / folder).mkdir(parents=True)
        for i, part in enumerate(parts):
            part.rename(tmp_path / "blobs" / f"{i}")
            (tmp_path / "snapshots/abc" / part.name).symlink_to(f"../../blobs/{i}")
        path = tmp_path / "snapshots/abc" / parts[0].name
        assert len(open_checkpoint(path).listing.tensors) == 5
