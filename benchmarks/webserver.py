"""A web server with ranges and entity tags, as fast as the system sends files.

`python -m benchmarks.webserver FOLDER` prints its port and serves until its standard input ends.
What S3 clients ask of single objects is the same protocol, so that it also stands for a bucket:
moto's server takes a whole object into memory for each range of it.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

RANGE = re.compile(r"bytes=(\d+)-(\d+)", re.ASCII)


class Handler(BaseHTTPRequestHandler):
    """Answers for the files of `folder`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    folder = Path()

    def do_HEAD(self) -> None:
        """Headers alone."""
        self.answer(body=False)

    def do_GET(self) -> None:
        """A file or a range of it."""
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        """What the file is, and its bytes."""
        path = self.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            found = RANGE.fullmatch(self.headers.get("Range", ""))
            start = int(found[1]) if found else 0
            stop = min(int(found[2]) + 1, status.st_size) if found else status.st_size
            self.send_response(206 if found else 200)
            self.send_header("Content-Length", str(stop - start))
            self.send_header("ETag", f'"{status.st_mtime_ns:x}-{status.st_size:x}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Last-Modified", self.date_time_string(int(status.st_mtime)))
            if found:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{status.st_size}")
            self.end_headers()
            self.wfile.flush()
            while body and start < stop:
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, stop - start)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        """Nothing."""


def main() -> None:
    """Serve a folder until the standard input ends."""
    Handler.folder = Path(sys.argv[1])
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
