"""A directory that is one model: shards with an index, or a model file among others.

The Hugging Face layout: `X.index.json` holds `weight_map`, from tensor name to the shard's
file name, beside the shards. Which reader a shard needs is decided by its content.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankscope.errors import InputRejected
from rankscope.files import RandomAccessFile
from rankscope.records import Checkpoint, Listing, MatrixSpec, Skipped, TensorInfo

if TYPE_CHECKING:
    from rankscope.records import Stored

INDEX_SUFFIX = ".index.json"

# 1 000 000 tensors of 100 bytes a name and shard; the largest published index is under 10 MB.
MAX_INDEX_BYTES = 100_000_000

# The weights of a model directory, best first: safe and headed formats before pickles.
MODEL_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "model.weights.h5",
    "tf_model.h5",
    "adapter_model.safetensors",
)
SHARD = re.compile(r"-(\d{5,})-of-(\d{5,})(?=\.)")

OpenFile = Callable[[Path], Checkpoint]


def find_model(directory: Path) -> Path | None:
    """The index or file that holds the model of a directory, or None when it is no model."""
    for name in MODEL_FILES:
        if (directory / name).exists():
            return directory / name
    indices = sorted(directory.glob(f"*{INDEX_SUFFIX}"))
    return indices[0] if indices else None


class ShardedCheckpoint:
    """A `Checkpoint` over the shards of an index."""

    def __init__(self, index: Path, open_file: OpenFile) -> None:
        self._shards: dict[str, Checkpoint] = {}
        self._home: dict[str, str] = {}
        tensors: list[TensorInfo] = []
        skipped: list[Skipped] = []
        missing: list[Skipped] = []
        weight_map = read_index(index)
        files = [str(index)]
        try:
            for shard in dict.fromkeys(weight_map.values()):
                asked = {name for name, home in weight_map.items() if home == shard}
                path = shard_path(index, shard)
                if not os.path.lexists(path):
                    missing += [Skipped(name, f"shard {shard} is missing") for name in asked]
                    continue
                checkpoint = self._shards[shard] = open_file(path)
                found = checkpoint.listing
                files += found.files
                skipped += found.skipped
                missing += found.missing
                tensors += self._claim(index, shard, found.tensors)
                there = {tensor.name for tensor in found.tensors}
                there |= {item.name for item in (*found.skipped, *found.missing)}
                missing += [
                    Skipped(name, f"the index places it in {shard}, which does not hold it")
                    for name in sorted(asked - there)
                ]
        except BaseException:
            self.close()
            raise
        skipped += _strays(index, set(weight_map.values()))
        self._listing = Listing(
            str(index.parent),
            f"sharded {next((c.listing.format for c in self._shards.values()), 'checkpoint')}",
            tuple(tensors),
            tuple(skipped),
            tuple(sorted(missing, key=lambda item: item.name)),
            tuple(files),
        )

    def _claim(
        self, index: Path, shard: str, tensors: tuple[TensorInfo, ...]
    ) -> tuple[TensorInfo, ...]:
        for tensor in tensors:
            other = self._home.setdefault(tensor.name, shard)
            if other != shard:
                raise InputRejected(
                    index, f"stands in two shards, {other} and {shard}", tensor=tensor.name
                )
        return tensors

    @property
    def listing(self) -> Listing:
        """What all shards hold together."""
        return self._listing

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        return self._shards[self._home[spec.tensor]].read(spec, rows, columns)

    def close(self) -> None:
        """Close all shards."""
        for checkpoint in self._shards.values():
            checkpoint.close()


def read_index(index: Path) -> Mapping[str, str]:
    """The checked weight map of an index file.

    Raises:
        InputRejected: not JSON, without a `weight_map` of names to names, or absurdly large.
    """
    file = RandomAccessFile(index)
    try:
        if file.size > MAX_INDEX_BYTES:
            raise InputRejected(index, f"{file.size} bytes, expected at most {MAX_INDEX_BYTES}")
        document: Any = json.loads(bytes(file.read(0, file.size)))
    except (ValueError, RecursionError) as error:
        raise InputRejected(index, f"is not JSON: {error}") from error
    finally:
        file.close()
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputRejected(index, "has no weight_map, expected an object of tensor to shard")
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        raise InputRejected(index, "weight_map holds a shard that is not a file name")
    return weight_map


def shard_path(index: Path, shard: str) -> Path:
    """Where a shard lies; refuses to leave the index's directory.

    Hugging Face's cache keeps `snapshots/REVISION/FILE` as links to `../../blobs/HASH`: links
    that stay within the cached repository are followed, any other way out is refused.
    """
    if not shard or Path(shard).is_absolute() or ".." in Path(shard).parts or "\0" in shard:
        raise InputRejected(index, f"shard {shard!r} leaves the directory, expected a plain name")
    path = index.parent / shard
    home = index.parent.resolve()
    target = path.resolve()
    allowed = [home]
    if home.parent.name == "snapshots":
        allowed.append(home.parent.parent / "blobs")
    if not any(target.is_relative_to(root) for root in allowed):
        raise InputRejected(index, f"shard {shard!r} is a link out of the directory to {target}")
    return path


def _strays(index: Path, known: set[str]) -> list[Skipped]:
    """Shards beside the index that it does not name."""
    family = index.name.removesuffix(INDEX_SUFFIX)
    stem, dot, suffix = family.partition(".")
    return [
        Skipped(path.name, "a shard that the index does not name")
        for path in sorted(index.parent.glob(f"{stem}-*{dot}{suffix}"))
        if SHARD.search(path.name) and path.name not in known
    ]
