"""A small model, what it was, and the same with one matrix that lost a third of its rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from rankscope.release import baseline, write_baseline

LOST = "model.layers.2.v_proj.weight"


def save_models(folder: Path) -> None:
    """Write good.safetensors, bad.safetensors and ranks.json, the baseline of the good one."""
    rng = np.random.default_rng(0)
    names = [f"model.layers.{i}.{part}.weight" for i in range(4) for part in ("q_proj", "v_proj")]
    weights = {name: rng.standard_normal((32, 24)).astype(np.float32) for name in names}
    save_file(weights, folder / "good.safetensors")
    left, sigma, right = np.linalg.svd(weights[LOST], full_matrices=False)
    sigma[16:] = 0
    weights[LOST] = ((left * sigma) @ right).astype(np.float32)
    save_file(weights, folder / "bad.safetensors")
    write_baseline(baseline(folder / "good.safetensors"), folder / "ranks.json")
