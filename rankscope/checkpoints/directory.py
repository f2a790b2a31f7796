"""A directory that is one model: shards with an index, or a model file among others.

The Hugging Face layout: `X.index.json` holds `weight_map`, from tensor name to the shard's
file name, beside the shards. Which reader a shard needs is decided by its content.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from rankscope.checkpoints.closing import Closing
from rankscope.checkpoints.folders import trainers_model
from rankscope.checkpoints.strictjson import parse_strict
from rankscope.checkpoints.ties import among, claimed
from rankscope.errors import InputRejected
from rankscope.jsonobject import read_limited
from rankscope.places import RemotePath, text_of
from rankscope.presence import exists, names
from rankscope.records import Checkpoint, Listing, MatrixSpec, Skipped
from rankscope.text import natural

if TYPE_CHECKING:
    from rankscope.records import Stored

INDEX_SUFFIX = ".index.json"

# 1 000 000 tensors of 100 bytes a name and shard; the largest published index is under 10 MB.
MAX_INDEX_BYTES = 100_000_000

# The largest published models have a few hundred; file systems allow 255 bytes a name.
MAX_SHARDS = 10_000
MAX_SHARD_NAME = 1000

# The weights of a model directory, best first: safe and headed formats before pickles.
MODEL_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "model.weights.h5",
    "tf_model.h5",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
SHARD = re.compile(r"-(\d{5,})-of-(\d{5,})(?=\.)")

# What makes a server look elsewhere than a name says.
URL_SYNTAX = "%?#\\"

OpenFile = Callable[[PurePath], Checkpoint]


def find_model(directory: PurePath) -> PurePath | None:
    """The file by which to open the model of a directory, or None when it holds none."""
    listed = names(directory)
    # Behind a URL one listing spares a request for each; not every web server makes one.
    told = bool(listed) and isinstance(directory, RemotePath)
    for name in MODEL_FILES:
        if name in listed if told else exists(directory / name):
            return directory / name
    found = trainers_model(directory)
    if found is not None:
        return found
    there = [name for name in listed if not name.startswith(".")]
    index = next((name for name in there if name.endswith(INDEX_SUFFIX)), None)
    chosen = index or _first_part(there)
    return None if chosen is None else directory / chosen


def _first_part(there: Sequence[str]) -> str | None:
    """The first part of the one GGUF model in parts: they have no index, and find each other."""
    parts = [name for name in there if name.endswith(".gguf") and SHARD.search(name)]
    models = {SHARD.sub(r"-of-\2", name) for name in parts}
    return parts[0] if len(models) == 1 else None


class ShardedCheckpoint(Closing):
    """A `Checkpoint` over the shards of an index."""

    def __init__(
        self, index: PurePath, open_file: OpenFile, wanted: Collection[str] | None = None
    ) -> None:
        """Open the shards.

        Args:
            index: the index file.
            open_file: opens a file, and no directory and no other index.
            wanted: names of tensors; shards that are not needed for them stay closed.
        """
        self._index = index
        self._shards: dict[str, Checkpoint] = {}
        self._home: dict[str, str] = {}
        self._skipped: list[Skipped] = []
        self._missing: list[Skipped] = []
        weight_map, metadata = _read(index)
        self._ties = claimed(metadata, weight_map)
        asked: dict[str, list[str]] = defaultdict(list)
        for name, shard in weight_map.items():
            asked[shard].append(name)
        # The shards that hold what is wanted come first; an index that errs makes it all of them.
        needed = {shard for shard, names in asked.items() if not _disjoint(wanted, names)}
        try:
            for shard in sorted(asked, key=lambda shard: shard not in needed):
                if shard in needed or wanted is None or not self._home.keys() >= set(wanted):
                    self._open(shard, asked[shard], open_file)
            self._listing = self._combined(set(asked), weight_map.keys())
        except BaseException:
            self.close()
            raise

    def _open(self, shard: str, names: Sequence[str], open_file: OpenFile) -> None:
        path = shard_path(self._index, shard)
        if exists(path):
            self._shards[shard] = open_file(path)
            self._take(shard, names)
        else:
            self._missing += [Skipped(name, f"shard {shard} is missing") for name in names]

    def _take(self, shard: str, asked: Sequence[str]) -> None:
        """Add a shard's tensors, and what the index expects of it and it has not got."""
        found = self._shards[shard].listing
        for tensor in found.tensors:
            other = self._home.setdefault(tensor.name, shard)
            if other != shard:
                raise InputRejected(
                    self._index, f"stands in two shards, {other} and {shard}", tensor=tensor.name
                )
        self._skipped += found.skipped
        self._missing += found.missing
        there = {tensor.name for tensor in found.tensors}
        there |= {item.name for item in (*found.skipped, *found.missing)}
        self._missing += [
            Skipped(name, f"the index places it in {shard}, which does not hold it")
            for name in asked
            if name not in there
        ]

    def _combined(self, named: set[str], placed: Collection[str]) -> Listing:
        """What the shards hold together, of shards and tensors that the index names."""
        listings = [checkpoint.listing for checkpoint in self._shards.values()]
        formats = sorted({listing.format for listing in listings})
        if len(formats) > 1:
            raise InputRejected(
                self._index, f"shards of {' and '.join(formats)}, expected one format"
            )
        tensors = [tensor for listing in listings for tensor in listing.tensors]
        ties = chain(self._ties, *(listing.ties for listing in listings))
        return Listing(
            str(self._index.parent),
            f"sharded {formats[0] if formats else 'checkpoint'}",
            tuple(sorted(tensors, key=lambda tensor: natural(tensor.name))),
            (*self._skipped, *_strays(self._index, named)),
            tuple(sorted(self._missing, key=lambda item: item.name)),
            (text_of(self._index), *(file for listing in listings for file in listing.files)),
            ties=among(ties, self._home.keys() | placed),
        )

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


def _disjoint(wanted: Collection[str] | None, names: Sequence[str]) -> bool:
    return wanted is not None and not any(name in wanted for name in names)


def read_index(index: PurePath) -> Mapping[str, str]:
    """The checked weight map of an index file.

    Raises:
        InputRejected: not JSON, without a `weight_map` of names to names, or absurdly large.
    """
    return _read(index)[0]


def _read(index: PurePath) -> tuple[Mapping[str, str], object]:
    """The checked weight map of an index file, and whatever it says beside."""
    document = parse_strict(index, read_limited(index, MAX_INDEX_BYTES), "index")
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputRejected(index, "has no weight_map, expected an object of tensor to shard")
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        raise InputRejected(index, "weight_map holds a shard that is not a file name")
    shards = set(weight_map.values())
    if len(shards) > MAX_SHARDS:
        raise InputRejected(index, f"names {len(shards)} shards, expected at most {MAX_SHARDS}")
    longest = max(map(len, shards))
    if longest > MAX_SHARD_NAME:
        raise InputRejected(
            index, f"a shard's name of {longest} characters, expected at most {MAX_SHARD_NAME}"
        )
    return weight_map, document.get("metadata")


def shards_of(index: PurePath) -> list[PurePath]:
    """The shards of an index that are there."""
    shards = dict.fromkeys(read_index(index).values())
    return [path for path in (shard_path(index, shard) for shard in shards) if exists(path)]


def shard_path(index: PurePath, shard: str) -> PurePath:
    """Where a shard lies; refuses to leave the index's directory.

    Hugging Face's cache keeps `snapshots/REVISION/FILE` as links to `../../blobs/HASH`, and
    `snapshots/REVISION/FOLDER/FILE` to `../../../blobs/HASH`: links that stay within the cached
    repository are followed, any other way out is refused.
    """
    if not shard or PurePath(shard).is_absolute() or ".." in PurePath(shard).parts:
        raise InputRejected(index, f"shard {shard!r} leaves the directory, expected a plain name")
    path = index.parent / shard
    if isinstance(path, RemotePath):
        if any(letter in shard for letter in URL_SYNTAX):
            raise InputRejected(index, f"shard {shard!r} is no plain name in a URL")
        return path
    try:
        home, target = Path(index.parent).resolve(), Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        # A link to itself is a RuntimeError before Python 3.13; a NUL is a ValueError.
        raise InputRejected(index, f"shard {shard!r} is no file's name: {error}") from error
    cache = [parent.parent / "blobs" for parent in home.parents if parent.name == "snapshots"]
    if not any(target.is_relative_to(root) for root in (home, *cache[:1])):
        raise InputRejected(index, f"shard {shard!r} is a link out of the directory to {target}")
    return path


def _strays(index: PurePath, known: set[str]) -> list[Skipped]:
    """Shards beside the index that it does not name."""
    family = index.name.removesuffix(INDEX_SUFFIX)
    stem, dot, suffix = family.partition(".")
    return [
        Skipped(name, "a shard that the index does not name")
        for name in names(index.parent)
        if name.startswith(f"{stem}-") and name.endswith(f"{dot}{suffix}")
        if SHARD.search(name) and name not in known
    ]
