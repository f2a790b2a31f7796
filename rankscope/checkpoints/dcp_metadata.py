"""`.metadata` of a distributed checkpoint: a pickle of dataclasses, read as data.

The classes and their fields: torch/distributed/checkpoint/metadata.py and `_StorageInfo` in
filesystem.py there, as of PyTorch 2.13. torch is not needed, and nothing in the pickle is ever
run: see `inert_pickle`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeGuard

from rankscope.checkpoints.dcp_chunks import Chunk, Place
from rankscope.checkpoints.inert_nodes import (
    BadPickle,
    Builder,
    Dictionary,
    Global,
    Opaque,
    TooLarge,
    shown,
)
from rankscope.checkpoints.inert_pickle import interpret
from rankscope.checkpoints.torch_stubs import MAX_AXES

METADATA = "torch.distributed.checkpoint.metadata"
STORAGE_INFO = "torch.distributed.checkpoint.filesystem._StorageInfo"
SHARDED = "torch.distributed._shard.sharded_tensor.metadata"  # before PyTorch 2.3

# Ours: a chunk takes 70 opcodes, 143 bytes of the file, 1.8 kB of memory and some 50 microseconds
# (docs/performance.md), so that these are 285 000 chunks (1100 tensors on 256 ranks), 0.5 GB and
# a quarter of a minute. Made to harm, they take 1.5 GB: see `inert_machine.MAX_OBJECTS`.
MAX_OPCODES = 20_000_000
JOIN = (
    "where you trust it, join it into one torch file: "
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIRECTORY FILE"
)

ENUMS = (f"{METADATA}._MEM_FORMAT_ENCODING", f"{SHARDED}.MEM_FORMAT_ENCODING")


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor as the metadata describe it.

    Attributes:
        dtype: torch's name of its type.
        layout: torch's name of its layout.
        shape: sizes.
        chunks: what it is stored as; not checked against the shape.
    """

    dtype: str
    layout: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint holds.

    Attributes:
        tensors: by name.
        objects: names of what is stored as pickled objects.
        paths: the keys that lead to a name in the saved dictionary, where they are known.
        files: every file that something is stored in, as the metadata name it.
    """

    tensors: Mapping[str, Described]
    objects: tuple[str, ...]
    paths: Mapping[str, tuple[str, ...]]
    files: tuple[str, ...]


def parse(data: bytes) -> Contents:
    """The contents that `.metadata` describe.

    Raises:
        BadPickle: damaged, too large, or it holds what torch does not write there.
    """
    return _parsed(data, MAX_OPCODES)


@lru_cache(maxsize=1)  # every task of a worker opens the same checkpoint; the bytes are the key
def _parsed(data: bytes, most_opcodes: int) -> Contents:
    try:
        root = interpret(data, BUILDERS, _no_storage, most_opcodes)
    except TooLarge as error:
        raise BadPickle(f"{error}: {JOIN}") from error
    top = _fields(root, f"{METADATA}.Metadata")
    places = _places(top.get("storage_data"))
    tensors: dict[str, Described] = {}
    objects: list[str] = []
    for name, node in _items(top.get("state_dict_metadata"), "state_dict_metadata"):
        if not isinstance(name, str):
            raise BadPickle("state_dict_metadata has a key that is not text")
        if isinstance(node, Opaque) and node.name == f"{METADATA}.BytesStorageMetadata":
            objects.append(name)
        elif name in tensors:
            raise BadPickle(f"two tensors are named {shown(name)}, expected one")
        else:
            tensors[name] = _described(name, node, places)
    files = dict.fromkeys(place.file for place in places.values())
    paths = _paths(top.get("planner_data"))
    return Contents(tensors, tuple(objects), paths, tuple(files))


def _described(name: str, node: object, places: Mapping[tuple[str, object], Place]) -> Described:
    fields = _fields(node, f"{METADATA}.TensorStorageMetadata")
    shape = _whole(fields.get("size"), "size")
    chunks: list[Chunk] = []
    listed = fields.get("chunks")
    if not isinstance(listed, list):
        raise BadPickle(f"chunks of {shown(name)} are no list")
    for item in listed:
        box = _fields(item, f"{METADATA}.ChunkStorageMetadata")
        offsets = _whole(box.get("offsets"), "offsets")
        sizes = _whole(box.get("sizes"), "sizes")
        chunks.append(Chunk(offsets, sizes, places.get((name, offsets))))
    return Described(*_type_and_layout(fields.get("properties")), shape, tuple(chunks))


def _type_and_layout(node: object) -> tuple[str, str]:
    """Of TensorProperties, whose state is a tuple that begins with these two."""
    match node:
        case Opaque(name, [(Global() as dtype, Opaque(_, [str() as layout]), *_)]) if name.endswith(
            ".TensorProperties"
        ):
            return dtype.name.removeprefix("torch."), layout.removeprefix("torch.")
    raise BadPickle("properties of a tensor are not a TensorProperties")


def _places(node: object) -> dict[tuple[str, object], Place]:
    """Where each piece is stored, by its name and the offsets of a chunk, None for an object."""
    places: dict[tuple[str, object], Place] = {}
    for index, info in _items(node, "storage_data"):
        key = _fields(index, f"{METADATA}.MetadataIndex")
        name, offsets = key.get("fqn"), key.get("offset")
        if not isinstance(name, str):
            raise BadPickle("storage_data has a key without a name")
        where = None if offsets is None else _whole(offsets, "offset")
        if (name, where) in places:
            raise BadPickle(f"{shown(name)} at {where} is stored twice, expected once")
        places[name, where] = _place(_fields(info, STORAGE_INFO))
    runs = sorted((place.file, place.offset, place.length) for place in places.values())
    for (file, start, length), (other, begin, _) in itertools.pairwise(runs):
        if file == other and begin < start + length:
            raise BadPickle(f"two pieces overlap at byte {begin} of {shown(file)}")
    return places


def _place(fields: Mapping[object, object]) -> Place:
    file, start, length = fields.get("relative_path"), fields.get("offset"), fields.get("length")
    steps = fields.get("transform_descriptors") or ()
    if isinstance(file, str) and _fits(start) and _fits(length) and isinstance(steps, list | tuple):
        return Place(file, start, length, tuple(str(step)[:100] for step in steps))
    raise BadPickle("a piece is stored at something else than a file, an offset and a length")


def _paths(node: object) -> dict[str, tuple[str, ...]]:
    """The keys to each name. Other planners keep other things here; then none are known."""
    if not isinstance(node, Dictionary):
        return {}
    return {
        name: tuple(map(str, keys))
        for name, keys in node.pairs
        if isinstance(name, str) and isinstance(keys, tuple)
        if all(isinstance(key, str) or (type(key) is int and _fits(key)) for key in keys)
    }


def _items(node: object, what: str) -> Iterator[tuple[object, object]]:
    if not isinstance(node, Dictionary):
        raise BadPickle(f"{what} is no dictionary")
    return node.pairs


def _fields(node: object, kind: str) -> dict[object, object]:
    """The fields of a dataclass, which pickle keeps as one dictionary.

    Its keys are looked at before they are hashed: see `inert_pickle`.
    """
    if isinstance(node, Opaque) and node.name == kind and len(node.parts) == 1:
        (state,) = node.parts
        if isinstance(state, Dictionary) and state.attributes is None:
            if set(map(type, state.items[::2])) <= {str}:
                return dict(state.pairs)
            raise BadPickle(f"holds {kind} with a field whose name is not text")
    found = shown(node.name) if isinstance(node, Opaque) else f"a {type(node).__name__}"
    raise BadPickle(f"holds {found}, expected {kind}")


def _fits(number: object) -> TypeGuard[int]:
    return isinstance(number, int) and 0 <= number < 2**63


def _whole(value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > MAX_AXES:
        raise BadPickle(f"{what} is no torch.Size of at most {MAX_AXES} axes")
    for number in value:
        if type(number) is not int or not _fits(number):
            raise BadPickle(f"{what} holds {shown(str(number))}, expected whole numbers >= 0")
    return value


def _no_storage(_: object) -> object:
    raise BadPickle("holds a storage, which belongs into the .distcp files")


def _opaque(name: str, arguments: tuple[object, ...]) -> object:
    return Opaque(name, list(arguments))


def _size(_: str, arguments: tuple[object, ...]) -> object:
    return arguments[0] if arguments else ()


def _member(name: str, arguments: tuple[object, ...]) -> object:
    """getattr(enum, member), as early releases of Python 3.11 pickle it; of no other object."""
    match arguments:
        case (Global(enum), str(member)) if enum in ENUMS:
            return Opaque(enum, [member])
    raise BadPickle(f"pickle calls {name} on something else than an enumeration; it was not called")


BUILDERS: Mapping[str, Builder] = {
    **{
        f"{METADATA}.{name}": _opaque
        for name in (
            *("Metadata", "MetadataIndex", "StorageMeta", "TensorProperties"),
            *("TensorStorageMetadata", "ChunkStorageMetadata", "BytesStorageMetadata"),
        )
    },
    **dict.fromkeys((STORAGE_INFO, f"{SHARDED}.TensorProperties", *ENUMS), _opaque),
    "torch.Size": _size,
    "torch.serialization._get_layout": _opaque,
    "builtins.getattr": _member,
    # Of the directory that it was saved to.
    **{
        f"{module}.{name}": _opaque
        for module in ("pathlib", "pathlib._local")  # Python 3.13 writes the second
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    },
}
