"""What all schemes share: where the tensors lie, what nobody decodes, and how much memory it takes.

The schemes themselves: test_dequantised_bitsandbytes.py, _integers.py and _scaled.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch

import rankscope
from rankscope.checkpoints.dequantisation import READ_WITH_IT, dequantised
from rankscope.checkpoints.memory import MemoryCheckpoint
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.how import How
from rankscope.matrices import Selection, select
from tests.checkpoints.quantised_files import Floats, encodings, model, skipped, weights

Arrays = dict[str, Any]

ALONE = How(store=False, workers=1)


def arrays() -> tuple[Arrays, Floats]:
    """LLM.int8 with a scale for each of 24 rows, and the weight."""
    rng = np.random.default_rng(1)
    codes = rng.integers(-127, 128, (24, 40)).astype(np.int8)
    scales = rng.uniform(1, 2, 24).astype(np.float32)
    return {"q.weight": codes, "q.SCB": scales}, codes * (scales / np.float32(127))[:, None]


def reasons(arrays: Arrays) -> dict[str, str]:
    checkpoint = dequantised(MemoryCheckpoint(arrays), ModelFiles(None))
    return {item.name: item.reason for item in select(checkpoint.listing, Selection())[1]}


def of_type(shape: tuple[int, ...], dtype: str) -> Any:
    return np.ones(shape, getattr(ml_dtypes, dtype, dtype))


class TestUndecoded:
    """Codes without a scheme mean nothing, and scales are no weights."""

    @pytest.mark.parametrize(
        ("weight", "table", "dtype"),
        [
            ("q.weight_packed", "q.weight_scale", "uint8"),  # NVFP4
            ("q.weight", "q.weight_scale", "uint8"),  # ModelOpt's NVFP4, BitNet
            ("q.weight", "q.weight_scale_2", "uint8"),
            ("q.weight", "q.scales", "uint32"),  # MLX
            ("q.weight", "q.biases", "uint32"),
            ("weight", "scales", "int8"),
            ("q.weight", "q.scales", "float8_e4m3fn"),
        ],
    )
    def test_are_skipped_with_their_scales(self, weight: str, table: str, dtype: str) -> None:
        model = {table: of_type((2, 2), "float32"), weight: of_type((8, 8), dtype)}
        found = reasons({**model, "other": np.eye(8)})
        assert found.keys() == {weight, table}
        assert found[table] == f"scales of {weight}, no weights"
        if not weight.endswith("_packed"):
            assert found[weight] == f"{dtype} to be scaled by {table}: dequantise it first"

    def test_scales_that_are_fp8_themselves(self) -> None:  # NVFP4
        model = {
            "q.weight_packed": of_type((8, 4), "uint8"),
            "q.weight_scale": of_type((8, 2), "float8_e4m3fn"),
        }
        assert reasons(model) == {
            "q.weight_packed": "q.weight_packed is of type uint8, expected int32",
            "q.weight_scale": "scales of q.weight_packed, no weights",
        }

    def test_fp8_without_scales_is_measured(self) -> None:
        array = np.eye(4).astype(ml_dtypes.float8_e4m3fn)
        result = rankscope.analyze({"q.weight": array}, metrics=["rank"])
        assert [(row["rank"], row["dtype"]) for row in result.matrices] == [(4, "float8_e4m3fn")]

    def test_what_only_sounds_like_scales(self) -> None:
        model = {"q.weight": np.eye(8), "q.weight_scale": np.eye(8), "q.scales": np.eye(3)}
        assert reasons(model) == {}

    def test_integers_without_scales(self) -> None:
        model = {"packed": of_type((8, 8), "int8"), "q.qweight": of_type((8, 8), "int32")}
        found = reasons(model)
        assert found["packed"] == "int8: quantised or an index, no scales"
        assert found["q.qweight"].startswith("packed by an unknown tool")

    def test_a_checkpoint_without_any_is_left_alone(self) -> None:
        checkpoint = MemoryCheckpoint({"q.weight": np.eye(8), "ids": np.ones((4, 4), np.int64)})
        assert dequantised(checkpoint, ModelFiles(None)) is checkpoint


class TestPlaces:
    """In whatever the tensors lie: a file of any format, several of them, memory."""

    def test_in_memory(self) -> None:
        parts, weight = arrays()
        tensors = {name: torch.from_numpy(array) for name, array in parts.items()}
        expected = rankscope.spectrum(weight).sigma
        for source in (parts, tensors):
            result = rankscope.analyze(source, metrics=["spectral_norm"])
            (row,) = result.matrices
            assert row["dtype"] == "bnb int8"
            assert row["spectral_norm"] == pytest.approx(expected[0], rel=1e-12)

    @pytest.mark.parametrize("suffix", ["npz", "h5", "pt"])
    @pytest.mark.parametrize("chunks", [None, (5, 7)])
    def test_in_other_formats(
        self, tmp_path: Path, suffix: str, chunks: tuple[int, int] | None
    ) -> None:
        parts, weight = arrays()
        path = tmp_path / f"m.{suffix}"
        if suffix == "npz":
            np.savez(path, **parts)
        elif suffix == "pt":
            # Stored the other way round where chunks are asked for.
            tensors = {name: torch.from_numpy(array) for name, array in parts.items()}
            if chunks:
                tensors["q.weight"] = tensors["q.weight"].T.contiguous().T
            torch.save(tensors, path)
        else:
            with h5py.File(path, "w") as file:
                file.create_dataset("q.weight", data=parts["q.weight"], chunks=chunks)
                file.create_dataset("q.SCB", data=parts["q.SCB"], chunks=chunks and (5,))
        np.testing.assert_allclose(weights(path)["q.weight"], weight, rtol=1e-7)

    def sharded(self, directory: Path) -> Path:
        """The codes and the scales of several weights in files of their own."""
        places = {}
        for layer in range(3):
            parts, _ = arrays()
            for shard, (name, array) in enumerate(parts.items()):
                file = f"model-{2 * layer + shard:05}-of-00006.safetensors"
                places[f"{layer}.{name}"] = file
                safetensors.numpy.save_file({f"{layer}.{name}": array}, directory / file)
        index = json.dumps({"weight_map": places})
        (directory / "model.safetensors.index.json").write_text(index)
        return directory

    @pytest.mark.parametrize("workers", [1, 2])
    def test_codes_and_scales_in_two_shards(self, tmp_path: Path, workers: int) -> None:
        path = self.sharded(tmp_path)
        how = How(store=False, workers=workers)
        result = rankscope.analyze(path, metrics=["rank"], how=how)
        assert [(row["name"], row["rank"]) for row in result.matrices] == [
            (f"{layer}.q.weight", 24) for layer in range(3)
        ]

    def test_only_the_shards_of_a_weight_are_opened(self, tmp_path: Path) -> None:
        path = self.sharded(tmp_path)
        listed = rankscope.open_checkpoint(path)
        spec = select(listed.listing, Selection(("1.*",)))[0][0]
        listed.close()
        assert spec.sources == ("1.q.weight", "1.q.SCB")
        with rankscope.open_checkpoint(path, set(spec.sources)) as checkpoint:
            assert [tensor.name for tensor in checkpoint.listing.tensors] == ["1.q.weight"]
            assert checkpoint.read(spec, slice(0, 24), slice(0, 40)).dtype == np.float32

    def test_scales_in_a_shard_that_is_missing(self, tmp_path: Path) -> None:
        path = self.sharded(tmp_path)
        (path / "model-00003-of-00006.safetensors").unlink()
        result = rankscope.analyze(path, metrics=["rank"], how=ALONE)
        assert [row["name"] for row in result.matrices] == ["0.q.weight", "2.q.weight"]
        assert {row["name"]: row["reason"] for row in result.skipped}["1.q.weight"] == (
            "needs 1.q.SCB: shard model-00003-of-00006.safetensors is missing"
        )
        assert result.incomplete

    def test_with_a_store(self, tmp_path: Path) -> None:
        parts, _ = arrays()
        safetensors.numpy.save_file(parts, tmp_path / "m.safetensors")
        how = How(store=tmp_path / "store.sqlite")
        first, again = (
            rankscope.analyze(tmp_path / "m.safetensors", how=how).matrices for _ in range(2)
        )
        assert first == again
        assert [row["dtype"] for row in again] == ["bnb int8"]

    def test_tables_are_listed_once(self, tmp_path: Path) -> None:
        parts, _ = arrays()
        path = model(tmp_path, {name: torch.from_numpy(one) for name, one in parts.items()})
        assert encodings(path) == {"q.weight": "bnb int8"}
        assert skipped(path) == {"q.SCB": READ_WITH_IT}


# Reads a 4-bit weight of 2^26 numbers block by block, as a solver does, in little memory.
CHILD = """
import resource, sys
import numpy, ml_dtypes, scipy.linalg
from rankscope.checkpoints import open_checkpoint
from rankscope.matrices import Selection, select
from rankscope.storedmatrix import StoredMatrix
from rankscope.solvers.entries import BLOCK_ELEMENTS
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = in_use + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with open_checkpoint(sys.argv[1]) as checkpoint:
    (spec,) = select(checkpoint.listing, Selection())[0]
    axis = 0 if spec.shape[0] > spec.shape[1] else 1
    for block in StoredMatrix(checkpoint, spec).blocks(axis, BLOCK_ELEMENTS):
        assert not block.any()
print(spec.encoding, *spec.shape)
"""


def sparse(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> Path:
    """A safetensors file whose bytes behind those given are holes, which read as zeros."""
    sizes = {"U8": 1, "I32": 4, "F16": 2, "F32": 4}
    header, offset, places = {}, 0, []
    for name, (dtype, shape, content) in tensors.items():
        end = offset + int(np.prod(shape)) * sizes[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        places.append((offset, content))
        offset = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for place, content in places:
            file.seek(8 + len(text) + place)
            file.write(content)
        file.truncate(8 + len(text) + offset)
    return path


@pytest.mark.parametrize("shape", [(2**16, 2**10), (2**10, 2**16)])
@pytest.mark.parametrize("kind", ["GPTQ int4", "bnb nf4"])
def test_memory_is_that_of_a_block(tmp_path: Path, kind: str, shape: tuple[int, int]) -> None:
    outputs, inputs = shape
    tensors: dict[str, tuple[str, list[int], bytes]]
    if kind == "bnb nf4":
        state = json.dumps({"shape": shape, "blocksize": 64}).encode()
        tensors = {
            "q.weight": ("U8", [outputs * inputs // 2, 1], b""),
            "q.weight.absmax": ("F32", [outputs * inputs // 64], b""),
            "q.weight.quant_map": ("F32", [16], b""),
            "q.weight.quant_state.bitsandbytes__nf4": ("U8", [len(state)], state),
        }
    else:
        tensors = {
            "q.qweight": ("I32", [inputs // 8, outputs], b""),
            "q.qzeros": ("I32", [inputs // 128, outputs // 8], b""),
            "q.scales": ("F16", [inputs // 128, outputs], b""),
        }
        config = {"quant_method": "gptq", "bits": 4, "group_size": 128}
        (tmp_path / "config.json").write_text(json.dumps({"quantization_config": config}))
    path = sparse(tmp_path / "model.safetensors", tensors)
    # A block of 2^22 float32 numbers is 16 MiB, the weight would be 256.
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(160 * 2**20)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == [*kind.split(), *map(str, shape)], done.stderr[-600:]
