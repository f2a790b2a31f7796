"""What a service tells of a place behind a URL."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

# A file that was changed so recently may change again and tell the same date: HTTP's have seconds,
# and the clock that dates the file may be another machine's than the one that answers.
RACY_SECONDS = 10
# The same by our clock, of a server that does not tell its own: as much as Kerberos lets two clocks
# differ (RFC 4120, 1.6), and Amazon's signatures.
CLOCKS_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Status:
    """What a service tells of a place.

    Attributes:
        kind: what is there.
        size: bytes; -1 of a file whose size a web server does not tell (`webserver.UNKNOWN`).
        mtime_ns: when it was changed, in nanoseconds since 1970; 0 when it is not told.
        tag: what changes with the content: ETag, generation, SHA-256; "" when there is none.
        is_page: whether a web server shows it as an HTML page.
        now_ns: what the service's clock showed then; 0 when it is not told.
        coding: how a web server has compressed it, though it was asked not to; "" when not.
    """

    kind: Literal["file", "directory"]
    size: int = 0
    mtime_ns: int = 0
    tag: str = ""
    is_page: bool = False
    now_ns: int = field(default=0, compare=False)
    coding: str = ""

    @property
    def is_known(self) -> bool:
        """Whether another version would look different: a date alone must not be too recent."""
        if self.tag or not self.mtime_ns:
            return bool(self.tag)
        if self.now_ns:
            return self.now_ns - self.mtime_ns > RACY_SECONDS * 10**9
        return time.time_ns() - self.mtime_ns > CLOCKS_SECONDS * 10**9
