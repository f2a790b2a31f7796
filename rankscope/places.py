"""Where a checkpoint is: a `Path` on this machine, or a `RemotePath` behind a URL.

Both are a `pathlib.PurePath`, which is what the flow passes on: it takes names apart and joins
them. What is there is asked in `presence` and read through `files`, which know the difference.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath, PurePosixPath

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)


class RemotePath(PurePosixPath):
    """A place behind a URL: `s3://bucket/run/step-1.safetensors`.

    Its text is the URL without a slash at the end; two slashes in a row are one.

    >>> RemotePath("s3://bucket/run/") / "run.json"
    RemotePath('s3://bucket/run/run.json')
    """

    __slots__ = ()

    def __str__(self) -> str:
        scheme, colon, rest = super().__str__().partition(":/")
        return f"{scheme}://{rest}" if colon else scheme

    @property
    def scheme(self) -> str:
        """What stands before `://`, in lower case; empty of a relative path."""
        first = self.parts[0] if self.parts else ""
        return first[:-1].lower() if first.endswith(":") else ""

    @property
    def is_root(self) -> bool:
        """Whether nothing stands above it that could be listed: a bucket, a host."""
        return len(self.parts) <= 2


class WholePath(RemotePath):
    """A remote place whose files are fetched whole before they are read.

    For servers that send no ranges, and for who wants to keep a copy.
    """

    __slots__ = ()


def place(text: str | PurePath) -> PurePath:
    """The place that a text stands for.

    >>> place("s3://bucket/run"), place("runs/digits") == Path("runs/digits")
    (RemotePath('s3://bucket/run'), True)
    """
    if isinstance(text, PurePath):
        return text
    return RemotePath(text) if URL.match(text) else Path(text)
