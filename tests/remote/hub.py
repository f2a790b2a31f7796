"""A stand-in for the Hugging Face hub on this machine, as far as its own client asks.

Endpoints, headers and error codes are those that huggingface_hub 2.4 sends and reads (`hf_api.py`,
`file_download.py`, `hf_file_system.py`, `utils/_http.py`); what each of them answers is taken from
the hub's documentation of its API and of git-LFS. Large files lie on a second server, as the hub's
do on a CDN, and a request that brings the hub's token there is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

Files = dict[str, bytes]

TOKEN = "hf_a_token_that_is_good"  # of somebody who sees the private repositories
STRANGER = "hf_a_token_of_somebody_else"

LFS = (".safetensors", ".bin", ".h5", ".npz", ".pt")  # as the hub's own .gitattributes has it
PAGE = 1000  # entries of one answer to `tree`


def git_id(kind: str, content: bytes) -> str:
    """The name that git gives to a blob, a tree or a commit."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()


def pointer(content: bytes) -> bytes:
    """What git itself stores of a large file: https://github.com/git-lfs/git-lfs, docs/spec.md."""
    oid = hashlib.sha256(content).hexdigest()
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    return text.encode()


@dataclass
class Repository:
    """A repository: what each commit holds, and what names stand for which."""

    access: Literal["open", "private", "gated"] = "open"
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)  # refs/pr/1

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Add a commit that holds these files and nothing else, and move a branch to it."""
        told = json.dumps([branch, sorted((name, git_id("blob", files[name])) for name in files)])
        sha = git_id("commit", told.encode())
        self.commits[sha] = dict(files)
        refs = self.pulls if branch.startswith("refs/") else self.branches
        refs[branch] = sha
        return sha

    def sha(self, revision: str) -> str | None:
        """The commit that a branch, a tag, a pull request or itself stands for."""
        for refs in (self.branches, self.tags, self.pulls):
            if revision in refs:
                return refs[revision]
        return revision if revision in self.commits else None


class Request(NamedTuple):
    """One request as it was answered."""

    method: str
    target: str
    range: str | None
    status: int
    sent: int  # bytes of the body

    @property
    def path(self) -> str:
        """What it asks for, decoded, without its query."""
        return unquote(urlsplit(self.target).path)


class Refused(Exception):
    """An error as the hub tells it: a status, a code in a header, a message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code, self.message = status, code, message
        super().__init__(message)


class Hub:
    """The stand-in: repositories, what was asked of it, and what shall go wrong."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[Request] = []
        self.busy = 0  # how many of the next requests are one too many
        self.told_to_wait = 0  # seconds, with each such answer
        self.before: Callable[[str, str], None] | None = None  # called with method and path
        self.page = PAGE
        self._api = _serve(self, _Api)
        self._cdn = _serve(self, _Cdn)

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._api.server_address[1]}"

    @property
    def cdn(self) -> str:
        """Where large files are redirected to."""
        return f"http://127.0.0.1:{self._cdn.server_address[1]}"

    def repository(
        self, name: str, access: Literal["open", "private", "gated"] = "open"
    ) -> Repository:
        """A new, empty repository."""
        made = self.repositories[name] = Repository(access)
        return made

    def requests(self, start: str) -> list[Request]:
        """Those of the requests so far whose path begins like this."""
        return [one for one in self.asked if one.path.startswith(start)]

    @property
    def weight_bytes(self) -> int:
        """Bytes of large files that were sent."""
        return sum(one.sent for one in self.asked if one.path.startswith("/blob/"))

    def close(self) -> None:
        """Stop both servers and close their connections."""
        for server in (self._api, self._cdn):
            server.stop()


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub while it is needed."""
    hub = Hub()
    try:
        yield hub
    finally:
        hub.close()


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """What makes a child process ask this hub, without a token, and keep to a folder of its own."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
    }


OURS = ("HF_", "HUGGING", "TRANSFORMERS_", "DO_NOT_TRACK")


@contextmanager
def client_of(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Point the client in this process and in its children at a hub.

    It reads its environment when it is imported, into `constants`, but for the token.
    """
    from huggingface_hub import HfFileSystem, close_session, constants

    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    for name, value in environment(hub, home).items():
        monkeypatch.setenv(name, value)
    changed = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "AGENT_HARNESSES_PATH": str(home / ".agent_harnesses.json"),
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_HUB_OFFLINE": False,
    }
    for name, constant in changed.items():
        monkeypatch.setattr(constants, name, constant)
    HfFileSystem.clear_instance_cache()
    try:
        yield
    finally:
        close_session()
        HfFileSystem.clear_instance_cache()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub

    def __init__(self, handler: type[_Handler]) -> None:
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        super().__init__(("127.0.0.1", 0), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    def stop(self) -> None:
        self.shutdown()
        for connection in list(self._open):  # those that a client keeps
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join()


def _serve(hub: Hub, handler: type[_Handler]) -> _Server:
    server = _Server(handler)
    server.hub = hub
    server._thread.start()
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *words: Any) -> None:
        """Nothing on the screen."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.form = parse_qs(self.rfile.read(length).decode())
        hub = self.server.hub
        try:
            if hub.before is not None:
                hub.before(self.command, unquote(urlsplit(self.path).path))
            if hub.busy:
                hub.busy -= 1
                raise Refused(429, "", "We had to rate limit you")
            self.route(hub)
        except Refused as error:
            headers = {"X-Error-Message": error.message}
            if error.code:
                headers["X-Error-Code"] = error.code
            if error.status == 429:
                headers["RateLimit"] = f'"api";r=0;t={hub.told_to_wait}'
            self.json({"error": error.message}, error.status, headers)

    def route(self, hub: Hub) -> None:
        raise NotImplementedError

    def json(self, value: object, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        self.send(
            json.dumps(value).encode(), status, {"Content-Type": "application/json", **headers}
        )

    def content(self, body: bytes, headers: Mapping[str, str]) -> None:
        """A file, or the range of it that is asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        headers = {"Accept-Ranges": "bytes", **headers}
        if asked is None:
            self.send(body, 200, headers)
            return
        first = int(asked[1])
        last = min(int(asked[2] or len(body)), len(body) - 1)
        if first > last:
            self.send(b"", 416, {**headers, "Content-Range": f"bytes */{len(body)}"})
            return
        whole = f"bytes {first}-{last}/{len(body)}"
        self.send(body[first : last + 1], 206, {**headers, "Content-Range": whole})

    def send(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        sent = 0 if self.command == "HEAD" else len(body)
        told = self.headers.get("Range")
        self.server.hub.asked.append(Request(self.command, self.path, told, status, sent))
        self.send_response(status, HTTPStatus(status).phrase)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Cdn(_Handler):
    """Large files by their digest; whoever has the URL may read."""

    def route(self, hub: Hub) -> None:
        if self.headers.get("Authorization"):
            raise Refused(400, "", "Only one auth mechanism allowed")  # as S3 says it
        digest = self.path.removeprefix("/blob/")
        for repository in hub.repositories.values():
            for files in repository.commits.values():
                for body in files.values():
                    if hashlib.sha256(body).hexdigest() == digest:
                        self.content(body, {"ETag": f'"{digest}"'})
                        return
        raise Refused(404, "", "Not Found")


API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)(?:/(?P<what>[a-z-]+)(?:/(?P<rest>.+))?)?")
RESOLVE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
CACHED = re.compile(r"/api/resolve-cache/models/(?P<name>[^/]+/[^/]+)/(?P<sha>\w+)/(?P<path>.+)")


class _Api(_Handler):
    """The hub itself."""

    def route(self, hub: Hub) -> None:
        # Not decoded yet: a slash in a revision or in a path is %2F.
        path = urlsplit(self.path).path
        if path == "/api/agent-harnesses":
            self.json({"standardEnvVars": [], "harnesses": {}})
        elif found := CACHED.fullmatch(path):
            repository = self.repository(hub, found["name"], content=True)
            self.small(repository.commits[found["sha"]][unquote(found["path"])], found["sha"])
        elif found := RESOLVE.fullmatch(path):
            repository = self.repository(hub, found["name"], content=True)
            revision, name = unquote(found["revision"]), unquote(found["path"])
            self.resolve(hub, found["name"], repository, revision, name)
        elif found := API.fullmatch(path):
            repository = self.repository(hub, found["name"], content=False)
            self.api(hub, found["name"], repository, found["what"], found["rest"] or "")
        else:
            raise Refused(404, "", f"Cannot {self.command} {path}")

    def repository(self, hub: Hub, name: str, *, content: bool) -> Repository:
        """A repository, for whom it is there; of a gated one everybody sees the names."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in (TOKEN, STRANGER):
            raise Refused(401, "", "Invalid credentials in Authorization header")
        repository = hub.repositories.get(name)
        if repository is None or (repository.access == "private" and token != TOKEN):
            if not token:  # who is not logged in is not told whether it is there
                raise Refused(401, "RepoNotFound", "Invalid username or password.")
            raise Refused(404, "RepoNotFound", "Repository not found")
        if repository.access == "gated" and content and token != TOKEN:
            if not token:
                raise Refused(
                    401, "GatedRepo", f"Access to model {name} is restricted. Please log in."
                )
            raise Refused(
                403,
                "GatedRepo",
                f"Access to model {name} is restricted and you are not in the authorized list. "
                f"Visit {hub.endpoint}/{name} to ask for access.",
            )
        return repository

    def at(self, repository: Repository, revision: str) -> tuple[str, Files]:
        sha = repository.sha(revision)
        if sha is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha, repository.commits[sha]

    def api(self, hub: Hub, name: str, repository: Repository, what: str | None, rest: str) -> None:
        revision, _, path = rest.partition("/")
        revision, path = unquote(revision), unquote(path)
        if what is None or what == "revision":
            sha, files = self.at(repository, revision or "main")
            self.info(name, repository, sha, files)
        elif what == "refs":
            self.refs(repository)
        elif what == "tree":
            self.tree(hub, self.at(repository, revision)[1], path)
        elif what == "paths-info":
            entries = entries_of(self.at(repository, revision)[1])
            wanted = [one.strip("/") for one in self.form.get("paths", [])]
            self.json([entries[one] for one in wanted if one in entries])
        else:
            raise Refused(404, "", f"no such thing: {what}")

    def info(self, name: str, repository: Repository, sha: str, files: Files) -> None:
        self.json(
            {
                "_id": "0",
                "id": name,
                "modelId": name,
                "sha": sha,
                "private": repository.access == "private",
                "gated": "manual" if repository.access == "gated" else False,
                "disabled": False,
                "tags": [],
                "siblings": [{"rfilename": one} for one in files],
            }
        )

    def refs(self, repository: Repository) -> None:
        def told(refs: Mapping[str, str], folder: str) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"{folder}{name}", "targetCommit": sha}
                for name, sha in refs.items()
            ]

        found: dict[str, object] = {
            "branches": told(repository.branches, "refs/heads/"),
            "converts": [],
            "tags": told(repository.tags, "refs/tags/"),
        }
        if "include_prs=1" in urlsplit(self.path).query:
            found["pullRequests"] = told(repository.pulls, "")
        self.json(found)

    def tree(self, hub: Hub, files: Files, path: str) -> None:
        """What is in a folder, in pages that the header `Link` chains."""
        entries = entries_of(files)
        query = parse_qs(urlsplit(self.path).query)
        recursive = query.get("recursive", ["false"])[0].lower() == "true"
        prefix = f"{path}/" if path else ""
        found = [one for name, one in sorted(entries.items()) if name.startswith(prefix)]
        if not recursive:
            found = [one for one in found if "/" not in one["path"].removeprefix(prefix)]
        if path and not found:
            raise Refused(404, "EntryNotFound", f"{path} does not exist")
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + hub.page < len(found):
            base = f"{hub.endpoint}{urlsplit(self.path).path}?recursive={recursive}"
            headers["Link"] = f'<{base}&cursor={start + hub.page}>; rel="next"'
        self.json(found[start : start + hub.page], 200, headers)

    def resolve(
        self, hub: Hub, name: str, repository: Repository, revision: str, path: str
    ) -> None:
        """A file: a small one is redirected within the hub, a large one to the CDN."""
        sha, files = self.at(repository, revision)
        body = files.get(path)
        if body is None:
            raise Refused(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": sha}
        if not path.endswith(LFS):
            if self.command == "HEAD":
                self.small(body, sha)
            else:
                location = f"/api/resolve-cache/models/{name}/{sha}/{path}"
                self.send(b"", 307, {**headers, "Location": location})
            return
        digest = hashlib.sha256(body).hexdigest()
        headers |= {"X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{digest}"'}
        self.send(b"", 302, {**headers, "Location": f"{hub.cdn}/blob/{digest}"})

    def small(self, body: bytes, sha: str) -> None:
        self.content(body, {"X-Repo-Commit": sha, "ETag": f'"{git_id("blob", body)}"'})


def entries_of(files: Files) -> dict[str, dict[str, Any]]:
    """Every file and every folder of a commit, as `tree` and `paths-info` tell them."""
    entries: dict[str, dict[str, Any]] = {}
    for name, body in files.items():
        told = {"type": "file", "path": name, "size": len(body), "oid": git_id("blob", body)}
        if name.endswith(LFS):
            stored, oid = pointer(body), hashlib.sha256(body).hexdigest()
            told["oid"] = git_id("blob", stored)
            told["lfs"] = {"oid": oid, "size": len(body), "pointerSize": len(stored)}
        entries[name] = told
        for folder in _folders(name):
            below = sorted(one for one in files if one.startswith(f"{folder}/"))
            oid = git_id(
                "tree", json.dumps([(one, git_id("blob", files[one])) for one in below]).encode()
            )
            entries[folder] = {"type": "directory", "path": folder, "size": 0, "oid": oid}
    return entries


def _folders(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
