"""Which file system of fsspec a URL belongs to, and which library that takes.

Credentials are found by the libraries' own means: environment variables, their configuration
files, fsspec's configuration (https://filesystem-spec.readthedocs.io, "Configuration").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from rankscope.errors import UsageError
from rankscope.extras import needs
from rankscope.places import HUB, RemotePath
from rankscope.remote.quiet import quiet
from rankscope.text import printable

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# A listing is believed for so long: one look at a run's snapshots asks for each of them, while
# `watch` looks again after two seconds and must see what came.
FRESH_SECONDS = 2.0

ONE_AT_A_TIME = Lock()


@dataclass(frozen=True, slots=True)
class Service:
    """What stands behind a scheme.

    Attributes:
        protocol: what fsspec calls it.
        library: that speaks it, as it is imported.
    """

    protocol: str
    library: str


SERVICES = {
    "s3": Service("s3", "s3fs"),
    "gs": Service("gs", "gcsfs"),
    "gcs": Service("gs", "gcsfs"),
    "http": Service("http", "aiohttp"),
    "https": Service("http", "aiohttp"),
    HUB: Service(HUB, "huggingface_hub"),
}


def service_of(path: RemotePath) -> Service:
    """What stands behind a URL.

    Raises:
        UsageError: nothing that is known, or its library is not installed; or the URL holds a
            password.
    """
    if path.has_password:
        where = "~/.netrc" if path.scheme in ("http", "https") else "where its own tools look"
        raise UsageError(
            f"{printable(str(path))}: no credentials are taken from a URL, where they would be "
            f"seen: put them into {where}"
        )
    service = SERVICES.get(path.scheme)
    if service is None:
        known = ", ".join(f"{scheme}://" for scheme in SERVICES)
        raise UsageError(f"{printable(str(path))}: unknown kind of URL, expected {known}")
    for library in ("fsspec", service.library):
        needs(f"reading {path.scheme}://", library, "remote")
    return service


def filesystem_of(path: RemotePath) -> AbstractFileSystem:
    """The file system of a URL; fsspec keeps it, and the connections it has.

    Raises:
        UsageError: of no known kind, or its library is not installed.
    """
    service = service_of(path)
    import fsspec

    quiet()
    if service.protocol == HUB:
        from huggingface_hub.constants import ENDPOINT

        with ONE_AT_A_TIME:  # threads that ask first at once would each make their own
            return _hub(ENDPOINT)
    return fsspec.filesystem(service.protocol, **_options(service.protocol, path))


@lru_cache(maxsize=1)  # the library makes one a thread, each with listings of its own
def _hub(endpoint: str) -> AbstractFileSystem:
    import fsspec

    # No time after which listings are asked anew: everything is read at a commit.
    return fsspec.filesystem(HUB, endpoint=endpoint)


def _options(protocol: str, path: RemotePath) -> dict[str, Any]:
    """What is asked of a file system beside what the user's own configuration says."""
    from fsspec.config import conf

    if protocol == "http":
        # Proxies of the environment and passwords of ~/.netrc, as curl and pip use them; signed
        # URLs that a server redirects to, as they were signed. It keeps no listings by itself.
        ours = {"trust_env": True, "requote_redirect_url": False}
        return {"client_kwargs": {**ours, **conf.get("http", {}).get("client_kwargs", {})}}
    if protocol == "s3" and path.query:
        # Only then does it look at versions; its listings are then those of all versions.
        return {"listings_expiry_time": FRESH_SECONDS, "version_aware": True}
    return {"listings_expiry_time": FRESH_SECONDS}
