"""Tied weights that a file stores once: what it tells of them, and what it may not claim."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from rankscope.checkpoints import open_checkpoint
from rankscope.checkpoints.ties import MAX_NAME, MAX_TIES
from rankscope.records import Listing, Skipped
from tests.checkpoints.safetensors_files import entry, write


class Tied(torch.nn.Module):
    """Two layers with one weight, and one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = torch.nn.Linear(6, 6, bias=False)
        self.dec = torch.nn.Linear(6, 6, bias=False)
        self.own = torch.nn.Linear(6, 4, bias=False)
        self.enc.weight = self.dec.weight


def listing(path: Path) -> Listing:
    with open_checkpoint(path) as checkpoint:
        return checkpoint.listing


def told(path: Path) -> set[tuple[str, str]]:
    return {(item.name, item.same_as) for item in listing(path).skipped if item.same_as}


def claiming(path: Path, metadata: Mapping[str, object]) -> Path:
    """A file of the tensors `a` and `b` with these metadata, which may be anything."""
    header = {"__metadata__": metadata, "a": entry(), "b": entry(offsets=(4, 8))}
    return write(path, header, bytes(8))


def test_what_save_model_writes(tmp_path: Path) -> None:
    safetensors.torch.save_model(Tied(), str(tmp_path / "m.safetensors"), {"format": "pt"})
    found = listing(tmp_path / "m.safetensors")
    assert [tensor.name for tensor in found.tensors] == ["dec.weight", "own.weight"]
    assert found.skipped == (
        Skipped(
            "enc.weight",
            "the same weights as dec.weight, where they are measured",
            same_as="dec.weight",
        ),
    )
    assert found.ties == ()


@pytest.mark.parametrize(("size", "files"), [(10_000, 1), (150, 2)])
def test_what_huggingface_hub_writes(tmp_path: Path, size: int, files: int) -> None:
    """In one file its metadata tell; of shards the index does."""
    huggingface_hub.save_torch_state_dict(Tied().state_dict(), tmp_path, max_shard_size=size)
    assert len(list(tmp_path.glob("*.safetensors"))) == files
    assert told(tmp_path) == {("enc.weight", "dec.weight")}


def sharded(path: Path, metadata: list[dict[str, str]]) -> Path:
    """Tensors `a` and `b`, a shard each with its metadata."""
    files = [f"model-{i + 1:05d}-of-00002.safetensors" for i in range(2)]
    for name, file, told_there in zip("ab", files, metadata, strict=True):
        safetensors.numpy.save_file({name: np.eye(3)}, path / file, told_there)
    index = {"metadata": {}, "weight_map": dict(zip("ab", files, strict=True))}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def test_a_shard_tells_of_itself_and_of_others(tmp_path: Path) -> None:
    path = sharded(tmp_path, [{"c": "a", "d": "b"}, {"a": "b", "e": "nowhere"}])
    assert told(path) == {("c", "a"), ("d", "b")}


def test_what_is_tied_to_a_missing_tensor_is_missing(tmp_path: Path) -> None:
    path = sharded(tmp_path, [{"c": "a", "d": "b"}, {}])
    (path / "model-00002-of-00002.safetensors").unlink()
    assert told(path) == {("c", "a")}
    assert {item.name: item.reason for item in listing(path).missing} == {
        "b": "shard model-00002-of-00002.safetensors is missing",
        "d": "the same weights as b: shard model-00002-of-00002.safetensors is missing",
    }


@pytest.mark.parametrize(
    "metadata",
    [
        {"format": "pt"},
        {"c": "nowhere"},
        {"a": "b"},
        {"a": "a"},
        {"c": "d", "d": "c"},
        {"c": ["a"]},
        {"c": {"a": "a"}},
        {"c": 1},
        {"c": None},
        {"c": "__metadata__"},
        {"c" * (MAX_NAME + 1): "a"},
        [["c", "a"]],
        "a",
        None,
    ],
)
def test_what_is_no_tie(tmp_path: Path, metadata: Mapping[str, object]) -> None:
    found = listing(claiming(tmp_path / "m", metadata))
    assert [tensor.name for tensor in found.tensors] == ["a", "b"]
    assert (found.skipped, found.missing) == ((), ())


def test_there_are_never_too_many(tmp_path: Path) -> None:
    path = claiming(tmp_path / "m", {f"c{i}": "a" for i in range(MAX_TIES + 5)})
    assert len(listing(path).skipped) == MAX_TIES


def test_of_shards_neither(tmp_path: Path) -> None:
    metadata = [{f"{name}{i}": "a" for i in range(MAX_TIES)} for name in "cd"]
    assert len(listing(sharded(tmp_path, metadata)).skipped) == MAX_TIES
