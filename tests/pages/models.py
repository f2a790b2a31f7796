"""Models and runs whose reports are opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from rankscope import How
from rankscope.reporting import report

Arrays = Mapping[str, NDArray[Any]]

LAYERS = 4

# What would act if any of it were taken for HTML, a script, a URL or a style.
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    "</script><script>alert(3)</script>",
    "<b>%{y}</b><a href='javascript:alert(4)'>a</a>",
    '"><svg onload=alert(5)>',
    "x' onmouseover='alert(6)",
    "\x1b[31mred\x1b[0m\u202edekcah\u2066",
    "line\nbreak\u2028\u2029",
    "__proto__",
    "constructor.prototype.weight",
    "long." + "x" * 900 + ".weight",
    "=1+1",
    "{{7*7}} ${alert(7)}",
)


def transformer(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Some layers whose ranks differ, with what stands outside of layers."""

    def weight(rows: int, columns: int, decay: float) -> NDArray[Any]:
        left = np.linalg.qr(rng.standard_normal((rows, min(rows, columns))))[0]
        right = np.linalg.qr(rng.standard_normal((columns, min(rows, columns))))[0]
        sigma = np.arange(1, min(rows, columns) + 1.0) ** -decay
        found: NDArray[Any] = (left * sigma @ right.T).astype(np.float32)
        return found

    tensors = {"model.embed_tokens.weight": weight(90, 32, 0.3)}
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        for part, rows, columns in (
            ("self_attn.q_proj", 32, 32),
            ("self_attn.v_proj", 16, 32),
            ("mlp.up_proj", 64, 32),
        ):
            tensors[f"{layer}.{part}.weight"] = weight(rows, columns, 1.0 + i).astype(
                ml_dtypes.bfloat16
            )
        tensors[f"{layer}.input_layernorm.weight"] = np.ones(32, np.float32)
    return tensors | {"lm_head.weight": weight(90, 32, 0.4)}


def saved(path: Path, tensors: Arrays) -> Path:
    """A checkpoint of these tensors."""
    safetensors.numpy.save_file(dict(tensors), path)
    return path


def reported(target: Path, *sources: Path, **options: Any) -> Path:
    """A page of these sources, nothing kept but the page."""
    how = options.pop("how", How(store=False, workers=1))
    report(*sources, path=target, how=how, **options)
    return target
