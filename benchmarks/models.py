"""Files to measure, generated: the shapes of real models with Gaussian weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from rankscope.snapshots import (
    Hyperparameters,
    LogRecord,
    MatrixRecord,
    Optimiser,
    RunRecord,
    SnapshotWriter,
)

OLD = 1e9  # a time stamp old enough for the store to remember a file by

SEED = 0
INIT_STD = 0.02  # the usual initialisation of transformers; the scale changes no timing


def llama(path: Path) -> None:
    """Four Llama layers of width 2048 (TinyLlama's shapes) and an embedding, bf16: 242 M."""
    rng = np.random.default_rng(SEED)
    width, hidden, key_value, vocabulary = 2048, 5632, 256, 32000

    def weight(*shape: int) -> Any:
        numbers = rng.standard_normal(shape, dtype=np.float32) * INIT_STD
        return numbers.astype(ml_dtypes.bfloat16)

    tensors = {"model.embed_tokens.weight": weight(vocabulary, width)}
    for i in range(4):
        attention, mlp = f"model.layers.{i}.self_attn", f"model.layers.{i}.mlp"
        for name, rows in (("q", width), ("k", key_value), ("v", key_value), ("o", width)):
            tensors[f"{attention}.{name}_proj.weight"] = weight(rows, width)
        for name in ("gate", "up"):
            tensors[f"{mlp}.{name}_proj.weight"] = weight(hidden, width)
        tensors[f"{mlp}.down_proj.weight"] = weight(width, hidden)
        tensors[f"model.layers.{i}.input_layernorm.weight"] = weight(width)
    save_file(tensors, path)


def minilm(path: Path) -> None:
    """A six-layer transformer of width 384 (MiniLM's shapes), fp32: 23 M in 41 matrices."""
    rng = np.random.default_rng(SEED)

    def weight(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(INIT_STD)

    shapes = {"word": (30522, 384), "position": (512, 384), "token_type": (2, 384)}
    tensors = {f"embeddings.{name}.weight": weight(*shape) for name, shape in shapes.items()}
    for i in range(6):
        layer = f"encoder.layer.{i}"
        for name in ("query", "key", "value", "output"):
            tensors[f"{layer}.attention.{name}.weight"] = weight(384, 384)
        tensors[f"{layer}.intermediate.weight"] = weight(1536, 384)
        tensors[f"{layer}.output.weight"] = weight(384, 1536)
    tensors["pooler.weight"] = weight(384, 384)
    tensors["head.weight"] = weight(384, 384)
    save_file(tensors, path)


def sharded(folder: Path, shards: int, layers: int, width: int) -> None:
    """A Llama-like model in shards, bf16: seven matrices and two vectors a layer."""
    folder.mkdir()
    rng = np.random.default_rng(SEED)
    shapes = {f"self_attn.{name}_proj": (width, width) for name in "qkvo"}
    shapes |= {"mlp.gate_proj": (3 * width, width), "mlp.up_proj": (3 * width, width)}
    shapes |= {"mlp.down_proj": (width, 3 * width)}
    names = [f"model.layers.{layer}" for layer in range(layers)]
    tensors: dict[str, Any] = {}
    for name in names:
        for part, shape in shapes.items():
            numbers = rng.standard_normal(shape, dtype=np.float32) * np.float32(INIT_STD)
            tensors[f"{name}.{part}.weight"] = numbers.astype(ml_dtypes.bfloat16)
        for norm in ("input", "post_attention"):
            tensors[f"{name}.{norm}_layernorm.weight"] = np.ones(width, ml_dtypes.bfloat16)
    order = list(tensors)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        mine = order[shard * len(order) // shards : (shard + 1) * len(order) // shards]
        save_file({name: tensors[name] for name in mine}, folder / file)
        os.utime(folder / file, (OLD, OLD))
        weight_map |= dict.fromkeys(mine, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    os.utime(index, (OLD, OLD))


def headers(folder: Path) -> tuple[Path, Path, Path]:
    """1 000 small tensors three times: in 30 safetensors shards, 30 torch shards, a DCP of 8 ranks.

    Only headers are to be read of them, which are those of a model of any width.
    """
    import torch
    from safetensors.torch import load_file

    from tests.checkpoints.dcp_dirs import craft

    safe, torches, distributed = (folder / name for name in ("safetensors", "torch", "dcp"))
    sharded(safe, 30, 111, 64)
    torches.mkdir()
    whole: dict[str, Any] = {}
    for shard in sorted(safe.glob("*.safetensors")):
        tensors = load_file(shard)
        torch.save(tensors, torches / f"{shard.stem}.bin")
        whole |= tensors
    index = json.loads((safe / "model.safetensors.index.json").read_text())
    index["weight_map"] = {
        name: file.replace(".safetensors", ".bin") for name, file in index["weight_map"].items()
    }
    (torches / "model.bin.index.json").write_text(json.dumps(index))
    pieces = {name: [tuple(piece.shape) for piece in t.chunk(8)] for name, t in whole.items()}
    boxes = {
        name: [
            ((rank * sizes[0][0], *[0] * (len(size) - 1)), size) for rank, size in enumerate(sizes)
        ]
        for name, sizes in pieces.items()
    }
    craft(distributed, {name: (tensor, boxes[name]) for name, tensor in whole.items()}, files=8)
    return safe, torches, distributed


def small_run(folder: Path, snapshots: int) -> None:
    """A run of MLP-BN-4-128's size: five small matrices a snapshot."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    for step in range(snapshots):
        shapes = [(128, 64), (128, 128), (128, 128), (128, 128), (10, 128)]
        tensors = {
            f"layers.{i}.weight": rng.standard_normal(shape, dtype=np.float32)
            for i, shape in enumerate(shapes)
        }
        save_file(tensors, folder / f"step-{step:08d}.safetensors")


def long_run(folder: Path, snapshots: int, matrices: int) -> None:
    """A run with a record: 128 x 128 matrices that drift from snapshot to snapshot."""
    rng = np.random.default_rng(SEED)
    names = [f"layers.{i}.weight" for i in range(matrices)]
    record = RunRecord(
        matrices=tuple(MatrixRecord(name, "linear", (128, 128), 1) for name in names),
        optimiser=Optimiser("sgd"),
        hyperparameters=Hyperparameters(8, 0.1, 0.01, schedule=((10 * snapshots // 2, 0.01),)),
    )
    weights = {name: rng.standard_normal((128, 128), dtype=np.float32) for name in names}
    with SnapshotWriter(folder, record) as writer:
        for count in range(snapshots):
            writer.save(10 * count, weights, LogRecord(epoch=count, train_loss=1.0))
            for name, old in weights.items():
                step = 0.01 * rng.standard_normal((128, 128), dtype=np.float32)
                weights[name] = np.float32(0.99) * old + step
    for path in folder.rglob("*.safetensors"):
        os.utime(path, (OLD, OLD))


def adapter(folder: Path, layers: int) -> None:
    """LoRA of rank 16 on the query projections of layers of width 4096, bf16, as PEFT saves it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    tensors = {}
    for i in range(layers):
        for name, shape in (("A", (16, 4096)), ("B", (4096, 16))):
            numbers = rng.standard_normal(shape, dtype=np.float32) * INIT_STD
            stem = f"base_model.model.model.layers.{i}.self_attn.q_proj"
            tensors[f"{stem}.lora_{name}.weight"] = numbers.astype(ml_dtypes.bfloat16)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 16, "lora_alpha": 32}
    (folder / "adapter_config.json").write_text(json.dumps(config))
