"""What a web server tells of a URL, and the bytes that it sends.

Not through fsspec's `cat_file`: that returns whatever a server sends, which is all of a 10 GB file
where the server knows no ranges, and does not tell of which version of the file it was. The
session, its options and its loop are fsspec's.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from rankscope.remote.patience import Patience

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from fsspec import AbstractFileSystem

UNKNOWN = -1  # the size of a file whose size nobody tells

CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", re.ASCII)

# Methods and conditions that servers refuse although they would send the file: a signed URL is
# signed for one method, a script knows no HEAD, an object store asks for a length.
NOT_OF_HEAD = frozenset({400, 401, 403, 405, 406, 411, 500, 501})

# What a URL may hold as it is (RFC 3986), a percent sign because it was written by then.
LEGAL = "%:/?#[]@!$&'()*+,;=~"

PAGE_BYTES = 16 * 2**20  # of a listing; that of 100,000 files has about 10 MB


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer's headers tell of a file.

    Attributes:
        size: bytes of the whole file; `UNKNOWN` when it is not told.
        tag: the entity tag without quotes and without the mark of a weak one; "" without one.
        modified: nanoseconds since 1970; 0 when it is not told.
        coding: how it is compressed, though it was asked for as it is; "" when it is not.
        now: when the server answered, by its own clock, in nanoseconds since 1970; 0 when it is
            not told.
        is_page: whether it is an HTML page, as listings are.
        digests: the headers that tell a checksum, by their names in lower case.
    """

    size: int
    tag: str
    modified: int
    is_page: bool
    digests: Mapping[str, str]
    coding: str = ""
    now: int = 0

    def differs(self, other: Told) -> bool:
        """Whether it is for sure another version of the file."""
        if UNKNOWN not in (self.size, other.size) and self.size != other.size:
            return True
        if self.tag and other.tag and self.tag != other.tag:
            return True
        # The same tag does not say the same file: a weak one by its meaning, others by mistake.
        return 0 not in (self.modified, other.modified) and self.modified != other.modified

    def lacks(self, other: Told) -> bool:
        """Whether it does not tell by what another answer's version would be known again."""
        if other.tag:
            return not self.tag
        return other.modified != 0 and self.modified == 0


def told(response: ClientResponse) -> Told:
    """What the headers of an answer with a status code of 200, 206 or 416 tell."""
    headers = response.headers
    tag = headers.get("ETag", "").removeprefix("W/").strip('"')
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    attached = headers.get("Content-Disposition", "").lower().startswith("attachment")
    names = ("Repr-Digest", "Digest", "Content-MD5")
    return Told(
        size=_size(response),
        tag=tag,
        modified=_nanoseconds(headers.get("Last-Modified", "")),
        is_page=kind == "text/html" and not attached,
        digests={name.lower(): headers[name] for name in names if name in headers},
        coding=_coding(response),
        now=_nanoseconds(headers.get("Date", "")),
    )


def _size(response: ClientResponse) -> int:
    headers = response.headers
    if _coding(response):
        return UNKNOWN  # what is told is what the compressed one has
    found = CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if response.status in (206, 416):
        return int(found[3]) if found and found[3] != "*" else UNKNOWN
    length = headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdecimal() else UNKNOWN


def _coding(response: ClientResponse) -> str:
    told = response.headers.get("Content-Encoding", "").strip().lower()
    return "" if told == "identity" else told


def _nanoseconds(date: str) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(date).timestamp()) * 10**9
    except (ValueError, OverflowError, OSError):
        return 0


def first_byte(response: ClientResponse) -> int | None:
    """Where the range begins that an answer holds; None when it does not tell."""
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return int(found[1]) if found and found[1] else None


def range_end(response: ClientResponse) -> int | None:
    """The byte behind the range that an answer holds; None when it does not tell."""
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return int(found[2]) + 1 if found and found[2] else None


def _as_written(fs: AbstractFileSystem, url: str) -> Any:
    """A URL for aiohttp, which would write a signed one in another way than it was signed."""
    from yarl import URL

    if not urlsplit(url).netloc.isascii():
        return fs.encode_url(url)
    return URL(quote(url, safe=LEGAL), encoded=True)


@asynccontextmanager
async def asked(
    fs: AbstractFileSystem,
    method: str,
    url: str,
    patience: Patience,
    span: tuple[int, int] | None = None,
) -> AsyncIterator[ClientResponse]:
    """The answer to a request; what nobody has read of it when the block ends stays unread.

    Args:
        fs: fsspec's `HTTPFileSystem`.
        method: GET or HEAD.
        url: whole, with its query.
        patience: how long to wait for a byte.
        span: the first byte that is asked for, and the one behind the last; None for all.
    """
    import aiohttp

    options: dict[str, Any] = {"allow_redirects": True, **fs.kwargs}
    # Compressed on its way, a file would have another size, and other ranges.
    headers = {**options.pop("headers", {}), "Accept-Encoding": "identity"}
    if span is not None:
        headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
    limits = aiohttp.ClientTimeout(
        total=None, sock_connect=patience.stall, sock_read=patience.stall
    )
    options.setdefault("timeout", limits)
    session = await fs.set_session()
    response = await session.request(method, _as_written(fs, url), headers=headers, **options)
    try:
        yield response
    finally:
        if response.content.at_eof():
            await response.release()
        else:
            response.close()


async def look(
    fs: AbstractFileSystem, url: str, patience: Patience, *, doubted: bool = True
) -> Told | None:
    """What is at a URL, by its headers alone; None when nothing is there.

    Args:
        fs: fsspec's `HTTPFileSystem`.
        url: whole, with its query.
        patience: how long to wait for a byte.
        doubted: whether a server that has nothing for HEAD may have it for GET, as scripts do.
    """
    async with asked(fs, "HEAD", url, patience) as response:
        absent = response.status in (404, 410)
        if absent and not doubted:
            return None
        if not absent and response.status not in NOT_OF_HEAD:
            response.raise_for_status()
            found = told(response)
            # Some servers tell nothing of a body that they do not send: of no bytes.
            if found.is_page or found.size not in (UNKNOWN, 0):
                return found
    async with asked(fs, "GET", url, patience, span=(0, 1)) as response:
        if response.status in (404, 410):
            return None
        if response.status != 416:  # of an empty file
            response.raise_for_status()
        return told(response)


async def page(fs: AbstractFileSystem, url: str, patience: Patience) -> tuple[str, str] | None:
    """An HTML page and the URL that it came from; None of what is no page.

    Raises:
        FileNotFoundError: nothing is there.
        OSError: it is larger than any listing.
    """
    async with asked(fs, "GET", url, patience) as response:
        if response.status in (404, 410):
            raise FileNotFoundError(url)
        response.raise_for_status()
        if not told(response).is_page:
            return None
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > PAGE_BYTES:
                raise OSError(f"a page of more than {PAGE_BYTES} bytes, expected a listing")
        return data.decode("utf-8", "replace"), str(response.url)
