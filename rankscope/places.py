"""Where a checkpoint is: a `Path` on this machine, or a `RemotePath` behind a URL.

Both are a `pathlib.PurePath`, which is what the flow passes on: it takes names apart and joins
them. What is there is asked in `presence`, read through `files` and recognised again by
`identities`, which know the difference.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path, PurePath, PurePosixPath
from typing import Self, TypeVar

Where = TypeVar("Where", bound=PurePath)

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)

# Schemes whose names may hold a question mark: what follows it is no query (RFC 3986, 3.4).
HUB = "hf"  # of Hugging Face, or one that speaks its protocol: huggingface_hub's scheme

OBJECTS = frozenset({"s3", "gs", "gcs", HUB})

VERSION = "?versionId="  # behind the name of an S3 object, as s3fs writes it

# `user:password@` or `token@` before a host. A password may hold a slash or a question mark that
# nobody quoted; `host:8443/x@y` and `[::1]:80/x@y` hold none.
PASSWORD = re.compile(r"[^/?#@\[]*:(?!\d*(?:[/?#]|$))[^@]*@|[^/?#@]*@")

# A parameter that is shown by its name: what looks otherwise may be nothing but a secret.
PARAMETER = re.compile(r"([A-Za-z][\w.-]{0,63})=[^=]", re.ASCII)

HIDDEN = "***"


class RemotePath(PurePosixPath):
    """A place behind a URL: `s3://bucket/run/step-1.safetensors`.

    Two slashes in a row are one, and none stands at the end. The query of a web server's URL, and
    the version of an S3 object, belong to this place alone: `name`, `suffix` and `parts` are those
    without, and what is joined to the path, or stands beside or above it, has none.

    `str` is the URL as it may be shown, `url` the one to ask with.

    >>> RemotePath("s3://bucket/run/") / "run.json"
    RemotePath('s3://bucket/run/run.json')
    >>> str(RemotePath("https://host/m.npz?signature=aZ/4=")), RemotePath("https://h/m.npz?x").name
    ('https://host/m.npz?signature=***', 'm.npz')
    """

    __slots__ = ("_query",)
    _query: str

    if sys.version_info >= (3, 12):

        def __init__(self, *segments: str | PurePath) -> None:
            plain, self._query = _without_query(segments)
            super().__init__(*plain)
    else:

        def __new__(cls, *segments: str | PurePath) -> Self:  # noqa: D102 - as of the class
            plain, query = _without_query(segments)
            self = super().__new__(cls, *plain)
            self._query = query
            return self

    def __reduce__(self) -> tuple[type[Self], tuple[str, ...]]:
        return type(self), (self.url,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __str__(self) -> str:
        return masked(self.url)

    @property
    def url(self) -> str:
        """The whole URL, with what is secret of it: to ask with, not to show or to keep."""
        scheme, colon, rest = super().__str__().partition(":/")
        if not colon:
            return scheme
        if scheme not in OBJECTS:
            rest = rest.replace("?", "%3F")  # of a name: a query would stand in `query`
        return f"{scheme}://{rest}{self.query}"

    @property
    def query(self) -> str:
        """The query from its question mark on, untouched; of an S3 object, its version; or ""."""
        return getattr(self, "_query", "")  # Python 3.11 makes parents without `__new__`

    @property
    def is_secret(self) -> bool:
        """Whether its URL is not to be kept: it has a query, or a password."""
        return masked(self.url) != self.url

    @property
    def has_password(self) -> bool:
        """Whether its URL holds a name or a password for the server."""
        return _password(self.url) is not None

    @property
    def scheme(self) -> str:
        """What stands before `://`, in lower case; empty of a relative path."""
        first = self.parts[0] if self.parts else ""
        return first[:-1].lower() if first.endswith(":") else ""

    @property
    def on_hub(self) -> bool:
        """Whether it is in a repository of a model hub: at a revision, which can be moved."""
        return self.scheme == HUB


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


def text_of(path: PurePath) -> str:
    """The text that `place` makes the same path of: not to be shown, where it is a URL."""
    return path.url if isinstance(path, RemotePath) else str(path)


def masked(text: str) -> str:
    """A text that ends in a URL as it may be shown and kept: no password, no values of a query.

    >>> masked("--base=https://me:pw@host/m.npz?sig=1&x=2"), masked("s3://bucket/what?")
    ('--base=https://***@host/m.npz?sig=***&x=***', 's3://bucket/what?')
    """
    found = URL.search(text)
    if found is None:
        return text
    start, rest = text[: found.end()], text[found.end() :]
    password = _password(text[found.start() :])
    if password is not None:
        rest = f"{HIDDEN}@{rest[len(password) :]}"
    if found[1].lower() in OBJECTS:
        return start + rest
    path, mark, query = rest.partition("?")
    return start + path + mark + "&".join(map(_hidden, query.split("&")))


def _hidden(parameter: str) -> str:
    found = PARAMETER.match(parameter)
    return f"{found[1]}={HIDDEN}" if found else HIDDEN if parameter else ""


def _password(url: str) -> str | None:
    """What stands before the host of a URL, with its `@`."""
    scheme, _, rest = url.partition("://")
    found = PASSWORD.match(rest)
    # A repository without an owner, at a revision: hf://gpt2@main.
    if found is None or (scheme.lower() == HUB and ":" not in found[0]):
        return None
    return found[0]


def _without_query(segments: tuple[str | PurePath, ...]) -> tuple[tuple[str | PurePath, ...], str]:
    """What a path is made of, its scheme in lower case, and the query if that ends it."""
    if not segments:
        return (), ""
    first, *others = segments
    if isinstance(first, RemotePath):
        return segments, "" if others else first.query
    found = URL.match(first) if isinstance(first, str) else None
    if found is None:
        return segments, ""
    scheme = found[1].lower()
    mark = VERSION if scheme == "s3" else "" if scheme in OBJECTS else "?"
    rest, query = str(first)[found.end() :], ""
    if mark and mark in rest:
        rest, _, query = rest.partition(mark)
        query = mark + query
    return (f"{scheme}://{rest}", *others), "" if others else query


def seen_from_here(path: Where) -> Where:
    """The path as a person in the working directory writes it, where the file is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
