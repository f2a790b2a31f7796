"""Released models to be checked: a small one, and what goes wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Weights = dict[str, NDArray[Any]]

VALUE = "model.layers.1.self_attn.v_proj.weight"
QUERY = "model.layers.0.self_attn.q_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"
GATE = "model.layers.1.mlp.gate_proj.weight"
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


def matrix(rows: int, columns: int, seed: int, decay: float = 0.5) -> NDArray[np.float32]:
    """Singular values falling as i^-decay, as training leaves them; random directions."""
    rng = np.random.default_rng(seed)
    count = min(rows, columns)
    left, _ = np.linalg.qr(rng.standard_normal((rows, count)))
    right, _ = np.linalg.qr(rng.standard_normal((columns, count)))
    sigma = np.arange(1, count + 1) ** -decay
    return np.asarray(left * sigma @ right.T, np.float32)


def model() -> Weights:
    """Two layers, an embedding and a head of its own."""
    weights: Weights = {EMBEDDING: matrix(300, 64, 1), HEAD: matrix(300, 64, 2)}
    for layer in range(2):
        prefix = f"model.layers.{layer}"
        for i, name in enumerate("qkvo"):
            weights[f"{prefix}.self_attn.{name}_proj.weight"] = matrix(64, 64, 10 * layer + i + 3)
        for i, name in enumerate(("gate", "up")):
            weights[f"{prefix}.mlp.{name}_proj.weight"] = matrix(160, 64, 10 * layer + i + 40)
        weights[f"{prefix}.mlp.down_proj.weight"] = matrix(64, 160, 10 * layer + 50, decay=2.0)
        weights[f"{prefix}.input_layernorm.weight"] = np.ones(64, np.float32)
    return weights


def projected(weights: NDArray[Any], share: float) -> NDArray[Any]:
    """What is left in the strongest directions: the best approximation of so much of the rank."""
    left, sigma, right = np.linalg.svd(weights.astype(np.float64), full_matrices=False)
    kept = round(share * len(sigma))
    return np.asarray((left[:, :kept] * sigma[:kept]) @ right[:kept], weights.dtype)


def planted() -> tuple[Weights, dict[str, str]]:
    """A model with every regression there is, and by name the metric that must tell of it."""
    weights = model()
    weights[VALUE] = projected(weights[VALUE], 0.7)
    weights[UP] = 2 * weights[UP]
    weights[QUERY][3, 5] = np.nan
    weights[GATE] = np.ascontiguousarray(weights[GATE][:128])
    weights["model.layers.0.mlp.down.weight"] = weights.pop(DOWN)
    found = {VALUE: "", UP: "spectral_norm", QUERY: "status", GATE: "reshaped", DOWN: "renamed"}
    return weights, found


def save(directory: Path, weights: Mapping[str, Any], shards: int = 1) -> Path:
    """A Hugging Face model directory, in one file or several."""
    directory.mkdir()
    if shards == 1:
        save_file(dict(weights), directory / "model.safetensors")
        return directory
    names = sorted(weights)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: weights[name] for name in names[shard::shards]}
        save_file(part, directory / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory
