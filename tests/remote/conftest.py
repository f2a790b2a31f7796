"""Servers on this machine, and nothing of its user's configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import fsspec.config
import pytest
from moto.server import ThreadedMotoServer

from rankscope.places import RemotePath
from rankscope.remote import looking
from tests.cli.conftest import run  # noqa: F401 - a fixture
from tests.remote.webserver import Site, serving

BUCKET = "weights"


def look_anew() -> None:
    """Forget what was seen in the last seconds."""
    from s3fs import S3FileSystem

    looking._status.cache_clear()
    looking._names.cache_clear()
    S3FileSystem.clear_instance_cache()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No credentials, proxies or settings of whoever runs the tests."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fsspec.config, "conf", {})
    look_anew()
    yield
    look_anew()


@pytest.fixture
def web() -> Iterator[Callable[..., Site]]:
    """Makes web servers; the arguments are those of `Site`."""
    with ExitStack() as stack:

        def start(files: dict[str, bytes], **how: Any) -> Site:
            return stack.enter_context(serving(Site(files, **how)))

        yield start


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The URL of an S3 server of this machine."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def s3(moto: str, alone: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket that the environment leads to."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    try:
        yield Bucket(client)
    finally:
        for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=one["Key"])
        client.delete_bucket(Bucket=BUCKET)
        client.close()


class Bucket:
    """What a test puts into S3."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def put(self, key: str, data: bytes) -> RemotePath:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)
        return self.url(key)

    def url(self, key: str) -> RemotePath:
        return RemotePath(f"s3://{BUCKET}/{key}")
