"""Directories of torch.distributed.checkpoint for the tests: saved by torch, or chunk by chunk."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

Boxes = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]  # offsets and sizes

# What opens `.metadata` in a child process: prints the reason it was rejected for, or the names.
CHILD = """
import resource, sys
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from rankscope.checkpoints import open_checkpoint
from rankscope.errors import InputRejected
try:
    print([t.name for t in open_checkpoint(sys.argv[1]).listing.tensors])
except InputRejected as error:
    print("rejected:", error.reason)
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""


def save(directory: Path, state: dict[str, Any]) -> Path:
    """What one process saves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is no process group
        dcp_save(state, checkpoint_id=directory)
    return directory


def loaded(directory: Path) -> Any:
    """What torch itself reads there, joined."""
    target = directory.parent / f"{directory.name}-joined.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp_to_torch_save(directory, target)
    return torch.load(target, weights_only=True)


def craft(
    directory: Path,
    tensors: Mapping[str, tuple[torch.Tensor, Boxes]],
    files: int = 2,
    nested: Mapping[str, tuple[str, ...]] | None = None,
) -> Metadata:
    """Write tensors in the chunks that are told, as ranks in turn would; returns the metadata."""
    directory.mkdir(parents=True, exist_ok=True)
    streams = [io.BytesIO() for _ in range(files)]
    metadata = Metadata({}, nested if nested is None else dict(nested), {}, version="1.0.0")
    for name, (tensor, boxes) in tensors.items():
        chunks = []
        for number, (offsets, sizes) in enumerate(boxes):
            chunk = tensor[tuple(slice(o, o + n) for o, n in zip(offsets, sizes, strict=True))]
            stream = streams[number % files]
            start = stream.tell()
            torch.save(chunk.clone(), stream)
            index = MetadataIndex(name, offsets, number)
            place = _StorageInfo(f"__{number % files}_0.distcp", start, stream.tell() - start)
            metadata.storage_data[index] = place
            chunks.append(ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)))
        properties = TensorProperties(dtype=tensor.dtype)
        metadata.state_dict_metadata[name] = TensorStorageMetadata(properties, tensor.shape, chunks)
    for rank, stream in enumerate(streams):
        (directory / f"__{rank}_0.distcp").write_bytes(stream.getvalue())
    write(directory, metadata)
    return metadata


def described(metadata: Metadata, name: str) -> TensorStorageMetadata:
    """What the metadata tell of a tensor, to be changed."""
    found = metadata.state_dict_metadata[name]
    assert isinstance(found, TensorStorageMetadata)
    return found


def write(directory: Path, metadata: object) -> Path:
    """Write `.metadata` of any object, or of bytes as they are."""
    data = metadata if isinstance(metadata, bytes) else pickle.dumps(metadata)
    (directory / ".metadata").write_bytes(data)
    return directory


def open_in_child(directory: Path, megabytes: int = 1200) -> str:
    """What CHILD prints about a directory, under a limit of memory and of time."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(directory), str(megabytes * 2**20)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
