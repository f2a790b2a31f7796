"""Files to measure, generated: the shapes of real models with Gaussian weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

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
