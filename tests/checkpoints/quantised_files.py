"""Quantised checkpoints for the tests, and what RankScope reads from them."""

from __future__ import annotations

import importlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from rankscope.checkpoints import open_checkpoint
from rankscope.matrices import Selection, select
from rankscope.records import Skipped
from rankscope.storedmatrix import StoredMatrix

Floats = NDArray[np.float32]


def library(name: str) -> Any:
    """A library that owns a format, without the types that it has not got."""
    return importlib.import_module(name)


def model(
    directory: Path, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any] | None = None
) -> Path:
    """A model directory with these tensors and this quantization_config."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(whole, directory / "model.safetensors")
    if config is not None:
        text = json.dumps({"quantization_config": config})
        (directory / "config.json").write_text(text, "utf-8")
    return directory


def cuts(length: int) -> list[slice]:
    """Windows of every kind of alignment."""
    ends = {0, 1, length // 3, length // 2 + 1, max(0, length - 1), length}
    return [slice(*pair) for pair in itertools.combinations(sorted(ends), 2)]


def weights(path: Path) -> dict[str, Floats]:
    """Every decoded matrix, read as a whole; windows of it must hold the same numbers."""
    found = {}
    with open_checkpoint(path) as checkpoint:
        for spec in select(checkpoint.listing, Selection())[0]:
            if not spec.encoding:
                continue
            assert spec.dtype == "float32"
            matrix = StoredMatrix(checkpoint, spec)
            whole = matrix.read(*(slice(0, size) for size in spec.shape))
            assert whole.shape == spec.shape
            assert whole.dtype == np.float32
            for rows, columns in itertools.product(*map(cuts, spec.shape)):
                window = matrix.read(rows, columns)
                np.testing.assert_array_equal(window, whole[rows, columns])
            found[spec.name] = whole
    return found


def encodings(path: Path) -> dict[str, str]:
    """What each decoded tensor is stored as."""
    with open_checkpoint(path) as checkpoint:
        infos = checkpoint.listing.tensors
        assert all(info.sources for info in infos if info.encoding)
        return {info.name: info.encoding for info in infos if info.encoding}


def skipped(path: Path) -> dict[str, str]:
    """Why the others are not."""
    with open_checkpoint(path) as checkpoint:
        items: tuple[Skipped, ...] = checkpoint.listing.skipped
        assert len({item.name for item in items}) == len(items)
        return {item.name: item.reason for item in items}
