"""What tells that a file is still the one that was read, without reading it again."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import PurePath
from typing import NamedTuple

from rankscope.places import RemotePath, place

ABSENT = -1  # the size of a file that is not there


class Identity(NamedTuple):
    """What tells that a file is still the same one without reading it.

    Attributes:
        path: absolute, or a URL.
        size: bytes.
        mtime_ns: when it was changed, in nanoseconds since 1970; 0 where a service does not tell.
        inode: its number in the file system; of a remote one, a digest of what the service calls
            its content: ETag, SHA-256.
    """

    path: str
    size: int
    mtime_ns: int
    inode: int


def identity(path: PurePath | str, *, afresh: bool = False) -> Identity:
    """The identity of a file now. Raises OSError when it is gone.

    Args:
        path: the file.
        afresh: do not believe what was seen of a remote one in the last seconds.
    """
    where = place(path)
    if isinstance(where, RemotePath):
        return _remote_identity(where, afresh=afresh)
    status = os.stat(where)
    return Identity(os.path.abspath(where), status.st_size, status.st_mtime_ns, status.st_ino)


def _remote_identity(path: RemotePath, *, afresh: bool) -> Identity:
    from rankscope.remote.looking import status

    found = status(path, afresh=afresh)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such file or directory", str(path))
    if not found.is_known:
        # Nothing would tell another file of the same size: for all that is known, it changes now.
        return Identity(path.url, found.size, time.time_ns(), 0)
    # 63 bits, which an SQLite integer holds.
    digest = hashlib.sha256(found.tag.encode()).digest()
    return Identity(path.url, found.size, found.mtime_ns, int.from_bytes(digest[:8], "big") >> 1)


def identity_or_absence(path: PurePath | str) -> Identity:
    """The identity of a file that need not be there; its absence is an identity too."""
    where = place(path)
    try:
        return identity(where)
    except FileNotFoundError:
        return _absence(where)


def identity_of_hint(path: PurePath | str) -> Identity:
    """The same of a file that says how to read others: absent where it is not handed out."""
    where = place(path)
    if isinstance(where, RemotePath):
        from rankscope.remote.looking import handed_out

        return _absence(where) if handed_out(where) is None else identity(where)
    return identity_or_absence(where)


def identity_again(seen: Identity, *, afresh: bool = False) -> Identity:
    """What the identity of a file is by now. Raises OSError when it is gone."""
    if seen.size == ABSENT:
        return identity_of_hint(seen.path)
    return identity(seen.path, afresh=afresh)


def _absence(where: PurePath) -> Identity:
    name = where.url if isinstance(where, RemotePath) else os.path.abspath(where)
    return Identity(name, ABSENT, 0, 0)


def unchanged(seen: Iterable[Identity], *, afresh: bool = False) -> bool:
    """Whether files still are what they were, and what was absent still is."""
    try:
        return all(identity_again(one, afresh=afresh) == one for one in seen)
    except (OSError, ValueError, TypeError):
        return False  # one is gone, or is no path at all
