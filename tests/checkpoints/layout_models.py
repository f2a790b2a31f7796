"""Small random models of transformers, saved as it saves them, and what we read from the files."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rankscope.checkpoints import open_checkpoint
from rankscope.matrices import Selection, select
from rankscope.records import Checkpoint, MatrixSpec
from rankscope.storedmatrix import StoredMatrix

SMALL = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 40}
GROUPED = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 48}
GPT2 = {"n_embd": 32, "n_head": 4, "n_layer": 1, "vocab_size": 40, "n_positions": 16}
TOKENS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}

Rows = dict[str, list[int]]


def build(path: Path, model: str, config: str, settings: Mapping[str, Any]) -> Any:
    """A model with random weights, saved at `path`: config.json and model.safetensors.

    `model` is the name of a class in `transformers`, or in a module of it.
    """
    import torch
    import transformers

    # Of sizes like these it says a lot.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    where, _, name = f"transformers.{model}".rpartition(".")
    kind = getattr(importlib.import_module(where), name)
    made = kind(getattr(transformers, config)(**settings)).eval()
    for parameter in made.parameters():  # some begin as zeros or ones
        torch.nn.init.normal_(parameter)
    made.save_pretrained(path)
    return made


def specs_of(checkpoint: Checkpoint) -> dict[str, MatrixSpec]:
    return {spec.name: spec for spec in select(checkpoint.listing, Selection())[0]}


def specs(path: Path) -> dict[str, MatrixSpec]:
    with open_checkpoint(path) as checkpoint:
        return specs_of(checkpoint)


def matrices(path: Path) -> dict[str, Any]:
    """Every matrix, read as it would be measured."""
    with open_checkpoint(path) as checkpoint:
        return {
            name: np.array(StoredMatrix(checkpoint, spec).read(*(slice(0, n) for n in spec.shape)))
            for name, spec in specs_of(checkpoint).items()
        }


def rows_of(spec: MatrixSpec) -> list[int]:
    """Which rows of the whole matrix a part has."""
    part = spec.part
    assert part is not None
    return [
        group * part.period + row
        for group in range(part.groups)
        for row in range(part.start, part.stop)
    ]


def parts_in(path: Path, layer: str) -> Rows:
    """The rows of a fused layer, by part."""
    return {
        name.partition(":")[2]: rows_of(spec)
        for name, spec in specs(path).items()
        if f"{layer}." in spec.tensor and spec.part is not None
    }


def numbered(module: Any) -> None:
    """Have a layer give the numbers of its rows, whatever its input."""
    import torch

    def give(_: Any, __: Any, output: Any) -> Any:
        return torch.arange(float(output.shape[-1])).expand_as(output)

    module.register_forward_hook(give)


def numbers(tensor: Any) -> list[int]:
    """Which rows arrived, each once: keys of grouped queries may be repeated."""
    return sorted({round(value) for value in tensor.detach().flatten().tolist()})
