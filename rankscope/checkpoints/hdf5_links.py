"""What a HDF5 file holds: its datasets, found by hard links alone.

Links are read, never followed by the library: an external link would open a file that someone
else named.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from rankscope.errors import InputRejected
from rankscope.records import Skipped

# Ours: Keras nests a group per layer and block, some ten deep.
MAX_DEPTH = 100

# Bytes of a soft link's target: PATH_MAX of Linux.
MAX_TARGET = 4096


@contextmanager
def library_errors(path: PurePath, tensor: str | None = None) -> Iterator[None]:
    """Turn whatever h5py raises into `InputRejected`."""
    try:
        yield
    except InputRejected:
        raise
    except Exception as error:
        # It depends on what the library tripped over: OSError, RuntimeError, KeyError,
        # ValueError, TypeError and MemoryError were all seen.
        text = " ".join(str(error.args[0] if error.args else error).split())
        raise InputRejected(path, f"not sound HDF5: {text}", tensor=tensor) from error


@dataclass(slots=True)
class Contents:
    """The objects of a file.

    Attributes:
        datasets: (path, open `DatasetID`), each object once, in the order of their names.
        skipped: links to what is listed already, and objects that are no data.
        missing: soft links to nothing.
        objects: address of a group or dataset -> the first path that led to it.
        soft: path of a soft link -> the absolute path that it means.
    """

    datasets: list[tuple[str, Any]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    missing: list[Skipped] = field(default_factory=list)
    objects: dict[tuple[int, int], str] = field(default_factory=dict)
    soft: dict[str, str] = field(default_factory=dict)


def walk(path: PurePath, root: Any) -> Contents:
    """Every dataset under an open `h5py.h5g.GroupID`.

    An object that several hard links lead to (tied weights) is listed under the first of its
    names and skipped under the others, so that it is measured once; cycles end for the same
    reason. A soft link is skipped in favour of its target.

    Raises:
        InputRejected: an external or user-defined link, a name that is not UTF-8, groups
            nested deeper than any model's.
    """
    contents = Contents()
    contents.objects[_address(root, b".")] = ""
    _group(path, root, "", 0, contents)
    _resolve(root, contents)
    return contents


def _resolve(root: Any, contents: Contents) -> None:
    """Name the targets of soft links; only where the file has no link that leads out of it."""
    for link, target in contents.soft.items():
        try:
            address = _address(root, f"/{target}".encode())
        except (KeyError, OSError, RuntimeError, ValueError):  # nothing there, or a cycle
            contents.missing.append(
                Skipped(link, f"a soft link to {target}, which is not in the file")
            )
        else:
            found = contents.objects[address]
            contents.skipped.append(Skipped(link, f"a soft link to {found or '/'}"))


def _group(path: PurePath, group: Any, prefix: str, depth: int, contents: Contents) -> None:
    from h5py import h5l

    if depth > MAX_DEPTH:
        raise InputRejected(
            path, f"groups are nested deeper than {MAX_DEPTH}", tensor=prefix.rstrip("/")
        )
    for raw in group:
        try:
            name = prefix + raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputRejected(path, f"link name is not UTF-8: {prefix}{raw!r}") from error
        kind = group.links.get_info(raw).type
        if kind == h5l.TYPE_HARD:
            _object(path, group, raw, name, depth, contents)
        elif kind == h5l.TYPE_SOFT:
            target = group.links.get_val(raw)
            if len(target) > MAX_TARGET:
                raise InputRejected(path, f"soft link of {len(target)} bytes", tensor=name)
            contents.soft[name] = _absolute(prefix, target.decode("utf-8", "replace"))
        elif kind == h5l.TYPE_EXTERNAL:
            file, target = group.links.get_val(raw)
            raise InputRejected(
                path,
                f"external link to {target!r} in {file!r}: links out of the file are not followed",
                tensor=name,
            )
        else:
            raise InputRejected(path, f"link of user-defined type {kind}", tensor=name)


def _object(
    path: PurePath, group: Any, raw: bytes, name: str, depth: int, contents: Contents
) -> None:
    from h5py import h5d, h5g, h5o

    first = contents.objects.setdefault(_address(group, raw), name)
    if first != name:
        contents.skipped.append(Skipped(name, f"the same object as {first or '/'} (hard link)"))
        return
    with library_errors(path, name):
        opened = h5o.open(group, raw)
    if isinstance(opened, h5d.DatasetID):
        contents.datasets.append((name, opened))
    elif isinstance(opened, h5g.GroupID):
        _group(path, opened, f"{name}/", depth + 1, contents)
    else:
        contents.skipped.append(Skipped(name, "a named data type, not a dataset"))


def _address(group: Any, raw: bytes) -> tuple[int, int]:
    """What tells an object of the file from the others.

    Not by `h5o.get_info`, which walks the index of a dataset's chunks to add up its size, and
    crashes where that is damaged.
    """
    from h5py import h5g

    low, high = h5g.get_objinfo(group, raw).objno
    return low, high


def _absolute(prefix: str, target: str) -> str:
    """What a link in the group `prefix` means, without leading slash; HDF5 has no `..`."""
    whole = target if target.startswith("/") else f"{prefix}{target}"
    return "/".join(part for part in whole.split("/") if part not in ("", "."))
