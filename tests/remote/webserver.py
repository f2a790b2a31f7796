"""A web server on this machine that misbehaves when it is told to, and counts what it does."""

from __future__ import annotations

import hashlib
import html
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from rankscope.places import RemotePath

RANGE = re.compile(r"bytes=(\d+)-(\d+)")
CHUNK = 2**16


@lru_cache(maxsize=8)
def tag_of(data: bytes) -> str:
    """An entity tag, the same as S3's."""
    return hashlib.md5(data).hexdigest()


class Request(NamedTuple):
    """One request, and how many bytes of a body went out for it."""

    method: str
    path: str
    span: str
    status: int
    sent: int
    coding: str


@dataclass
class Site:
    """What a server serves, and how.

    Attributes:
        files: by path without the first slash.
        listing: whether directories are shown.
        ranges, head, tags, dates, lengths: whether the server knows them.
        drop: how many further bodies of ranges end in the middle, their connection closed.
        short: how many end in the middle although everything else is in order.
        lie: how many are announced longer than they are.
        busy: how many requests are answered 503 with `Retry-After: 0`.
        stall: how many bodies never come.
        slow: seconds before each chunk of a body.
        absent: what is answered for what is not there; 200 for a page that says so.
        no_head: what is answered for HEAD by a server that does not know it.
        empty_head: whether HEAD tells of no bytes.
        cap: how many bytes of a range are sent at most.
        coding: what is told of how files are compressed.
        tell: headers of a file's version, by method and content, instead of `tags` and `dates`.
        digest: a checksum that is told of every file, as of `Repr-Digest`.
        then: what `files` becomes after so many bodies of ranges.
        log: what was asked.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    listing: bool = True
    ranges: bool = True
    head: bool = True
    tags: bool = True
    dates: bool = False
    lengths: bool = True
    drop: int = 0
    short: int = 0
    lie: int = 0
    busy: int = 0
    stall: int = 0
    slow: float = 0.0
    absent: int = 404
    no_head: int = 405
    empty_head: bool = False
    cap: int = 0
    coding: str = ""
    tell: Callable[[str, bytes], dict[str, str]] | None = None
    digest: str = ""
    then: tuple[int, dict[str, bytes]] | None = None
    log: list[Request] = field(default_factory=list)
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)
    active: int = 0
    most_active: int = 0

    def url(self, name: str) -> RemotePath:
        return RemotePath(f"http://127.0.0.1:{self.port}/{name}")

    def spend(self, name: str) -> bool:
        """Whether a fault is due; one fewer afterwards."""
        with self.lock:
            left: int = getattr(self, name)
            setattr(self, name, max(0, left - 1))
            return left > 0

    def settled(self) -> list[Request]:
        """What was asked, as soon as nothing is being answered."""
        deadline = time.monotonic() + 5
        while self.active and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.log

    def bodies(self) -> list[Request]:
        return [one for one in self.settled() if one.method == "GET" and one.sent]

    @property
    def moved(self) -> int:
        """Bytes of bodies that were sent."""
        return sum(one.sent for one in self.settled())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_HEAD(self) -> None:
        if self.site.head:
            self.answer(body=False)
        else:
            self.refuse(self.site.no_head)

    def do_GET(self) -> None:
        self.answer(body=True)

    def refuse(self, status: int) -> None:
        self.note(status, 0)
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def note(self, status: int, sent: int) -> None:
        span, coding = self.headers.get("Range", ""), self.headers.get("Accept-Encoding", "")
        with self.site.lock:
            self.site.log.append(Request(self.command, self.path, span, status, sent, coding))

    def answer(self, *, body: bool) -> None:
        with self.site.lock:
            self.site.active += 1
            self.site.most_active = max(self.site.most_active, self.site.active)
        try:
            self.choose(body=body)
        finally:
            with self.site.lock:
                self.site.active -= 1

    def choose(self, *, body: bool) -> None:
        site = self.site
        path = unquote(urlsplit(self.path).path).lstrip("/")
        if site.spend("busy"):
            self.refuse(503)
        elif path in site.files:
            self.file(site.files[path], body=body)
        elif site.listing and any(name.startswith(path.rstrip("/") + "/") for name in site.files):
            self.directory(path, body=body)
        elif site.listing and path == "":
            self.directory("", body=body)
        elif site.absent == 200:
            self.page(b'<html><body>not found <a href="/">home</a></body></html>', body=body)
        else:
            self.refuse(site.absent)

    def directory(self, path: str, *, body: bool) -> None:
        if path and not path.endswith("/"):
            self.note(301, 0)
            self.send_response(301)
            self.send_header("Location", quote("/" + path + "/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        below = [name.removeprefix(path) for name in self.site.files if name.startswith(path)]
        shown = {name.partition("/")[0] + ("/" if "/" in name else "") for name in below}
        rows = [f'<li><a href="{quote(name)}">{html.escape(name)}</a>' for name in sorted(shown)]
        links = '<a href="?C=M;O=A">by date</a> <a href="../">up</a> <a href="/">home</a>'
        self.page(f"<html><body>{links}<ul>{''.join(rows)}</ul></body></html>".encode(), body=body)

    def page(self, page: bytes, *, body: bool) -> None:
        self.note(200, len(page) if body else 0)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if body:
            self.wfile.write(page)

    def file(self, data: bytes, *, body: bool) -> None:
        site = self.site
        found = RANGE.fullmatch(self.headers.get("Range", "")) if site.ranges else None
        start, stop = 0, len(data)
        if found:
            start, stop = int(found[1]), min(int(found[2]) + 1, len(data))
            stop = min(stop, start + site.cap) if site.cap else stop
        if found and start >= len(data):
            self.note(416, 0)
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        end = start + (stop - start) // 2 if found and site.spend("short") else stop
        self.send_response(206 if found else 200)
        more = 1000 if found and site.spend("lie") else 0
        if site.lengths:
            none = site.empty_head and not body
            self.send_header("Content-Length", "0" if none else str(end - start + more))
        else:
            self.close_connection = True
        if found:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.version(data)
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        cut = bool(found and site.spend("drop"))
        end = start + (end - start) // 2 if cut else end
        self.body(data[start:end] if body else b"")
        if more or cut:
            self.close_connection = True

    def version(self, data: bytes) -> None:
        site = self.site
        told = site.tell(self.command, data) if site.tell else {}
        if site.coding:
            told["Content-Encoding"] = site.coding
        if site.tags and not site.tell:
            told["ETag"] = f'"{tag_of(data)}"'
        if site.digest:
            told["Repr-Digest"] = site.digest
        if site.dates:
            told["Last-Modified"] = "Mon, 05 Jan 2026 10:00:00 GMT"
        for name, value in told.items():
            self.send_header(name, value)

    def body(self, data: bytes) -> None:
        site = self.site
        if data and site.spend("stall"):
            site.closing.wait(20)
            self.close_connection = True
            return
        sent = 0
        try:
            for start in range(0, len(data), CHUNK):
                if site.slow:
                    time.sleep(site.slow)
                self.wfile.write(data[start : start + CHUNK])
                sent += len(data[start : start + CHUNK])
        except OSError:  # the client went away: what it does when it wants no more
            self.close_connection = True
        self.note(206 if "Range" in self.headers else 200, sent)
        with site.lock:
            ranges = [one for one in site.log if one.span and one.sent]
            if site.then and len(ranges) >= site.then[0]:
                site.files, site.then = site.then[1], None

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that they are waited for

    def __init__(self, handler: type[_Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.clients: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.clients.append(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        for client in self.clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error here."""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """The site on a free port of this machine."""
    handler = type("Handler", (_Handler,), {"site": site})
    with _Server(handler) as server:
        site.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield site
        finally:
            site.closing.set()
            server.shutdown()
            thread.join()
            server.hang_up()
