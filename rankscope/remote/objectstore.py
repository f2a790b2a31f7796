"""What object stores and hubs tell of a place, which fsspec asks in one way."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rankscope.places import VERSION, RemotePath
from rankscope.remote.status import Status

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def object_status(fs: AbstractFileSystem, path: RemotePath) -> Status:
    """What a store tells of a place; whatever its library raises is passed on."""
    _check_version(path)
    info = _info(fs, path)
    if info["type"] == "directory":
        if path.query:  # what is in it would be of the newest
            raise IsADirectoryError(errno.EISDIR, "a version of a directory, expected of an object")
        return Status("directory")
    return Status("file", int(info["size"]), _mtime(info), _tag(info))


def object_names(fs: AbstractFileSystem, path: RemotePath) -> list[str]:
    """The names of what is in a directory, sorted; whatever its library raises is passed on."""
    _check_version(path)
    if path.query or _info(fs, path)["type"] != "directory":
        raise NotADirectoryError("a file, expected a directory")
    own = fs._strip_protocol(path.url).rstrip("/")
    listed = [str(entry["name"]).rstrip("/") for entry in fs.ls(path.url, detail=True)]
    last = {name.rpartition("/")[2] for name in listed if name != own}
    return sorted(last - {"", ".", ".."})


def _info(fs: AbstractFileSystem, path: RemotePath) -> Mapping[str, Any]:
    if not path.on_hub:
        return fs.info(path.url)  # type: ignore[no-any-return]
    from rankscope.remote.hub import tag
    from rankscope.remote.hubanswers import asked

    info = asked(lambda: fs.info(path.url))
    return {**info, "ETag": tag(info)}


def _check_version(path: RemotePath) -> None:
    """Refuse what s3fs would take for another object: it cuts every name where a version begins."""
    if path.scheme == "s3" and (path.query == VERSION or VERSION in "/".join(path.parts)):
        raise OSError(errno.EINVAL, f"no version of an object, nor a name to ask for: {VERSION}")


def _mtime(info: Mapping[str, Any]) -> int:
    when = info.get("LastModified") or info.get("mtime")  # s3fs, gcsfs
    if not isinstance(when, datetime):
        return 0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return int(when.timestamp() * 1000) * 10**6  # both tell milliseconds at most


def _tag(info: Mapping[str, Any]) -> str:
    return str(info.get("generation") or info.get("ETag") or "").strip('"')
