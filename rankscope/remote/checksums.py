"""What a service tells of a file's content, to compare what was fetched with."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankscope.places import RemotePath
from rankscope.remote.filesystem import service_of
from rankscope.remote.looking import url_of, web_told

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

BLOCK_BYTES = 2**20

# One of RFC 9530's fields, `sha-256=:...:`, or of RFC 3230's before it, `SHA-256=...`.
DIGEST = re.compile(r"sha-256=:?([A-Za-z0-9+/]{43}=):?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Checksum:
    """A checksum that a service tells.

    Attributes:
        kind: sha256, md5, crc32, or git: SHA-1 of a header and the content, as git names it.
        value: in hexadecimal.
    """

    kind: str
    value: str

    def fits(self, path: Path) -> bool:
        """Whether a file of this machine has it."""
        return _computed(self.kind, path) == self.value


def checksum_of(fs: AbstractFileSystem, path: RemotePath) -> Checksum | None:
    """What the service tells of a file's content; None when it tells nothing that we compute.

    An entity tag is none: S3's is an MD5 sum for some objects only, and does not say of which.
    """
    protocol = service_of(path).protocol
    if protocol == "http":
        found = web_told(fs, path)
        return None if found is None else _of_web(found.digests)
    if protocol == "s3":
        return _of_s3(fs, path)
    info = fs.info(url_of(path))
    if protocol == "gs":
        return _decoded("md5", info.get("md5Hash"))
    large = info.get("lfs")
    if large is not None:
        return Checksum("sha256", str(large.sha256))
    return Checksum("git", str(info["blob_id"])) if info.get("blob_id") else None


def _of_web(headers: Mapping[str, str]) -> Checksum | None:
    for name in ("repr-digest", "digest"):
        found = DIGEST.search(headers.get(name, ""))
        if found:
            return _decoded("sha256", found[1])
    return _decoded("md5", headers.get("content-md5"))


def _of_s3(fs: Any, path: RemotePath) -> Checksum | None:
    bucket, key, version = fs.split_path(path.url)
    named = {} if version is None else {"VersionId": version}
    answer = fs.call_s3("head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED", **named)
    # Of an object in parts, a checksum of checksums: `-3` at its end.
    if answer.get("ChecksumType") == "COMPOSITE":
        return None
    sha256 = _decoded("sha256", answer.get("ChecksumSHA256"))
    return sha256 or _decoded("crc32", answer.get("ChecksumCRC32"))


def _decoded(kind: str, told: str | None) -> Checksum | None:
    try:
        value = base64.b64decode(told or "", validate=True).hex()
    except (binascii.Error, ValueError):
        return None
    return Checksum(kind, value) if value else None


def _computed(kind: str, path: Path) -> str:
    if kind == "crc32":
        value = 0
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                value = zlib.crc32(block, value)
        return f"{value:08x}"
    # Not for security: whether what came is what the service holds, by the name that it uses.
    name = "sha1" if kind == "git" else kind
    digest = hashlib.new(name, usedforsecurity=False)
    if kind == "git":
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
