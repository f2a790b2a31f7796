"""Places as text and as paths; what is there is another matter."""

from __future__ import annotations

import os
import pickle
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.places import RemotePath, WholePath, place

NAMES = st.text("abcXYZ019._-@=%?&+ é", min_size=1, max_size=12).filter(lambda s: s not in "..")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/run/", "s3://bucket/run"),
        ("s3://bucket", "s3://bucket"),
        ("hf://org/model@step1000", "hf://org/model@step1000"),
        ("hf://org/model@refs%2Fpr%2F1/x.gguf", "hf://org/model@refs%2Fpr%2F1/x.gguf"),
        ("https://host:8443/a/b?download=true", "https://host:8443/a/b?download=true"),
        ("GS://bucket//run", "GS://bucket/run"),
    ],
)
def test_a_url_keeps_its_text(text: str, expected: str) -> None:
    found = place(text)
    assert isinstance(found, RemotePath)
    assert str(found) == expected
    assert place(found) is found


@pytest.mark.parametrize(
    "text", ["run", "/a/b.npz", "C:\\x", "a:b", "://x", "1s3://x", "s3:/b", ""]
)
def test_what_is_no_url_is_a_path_of_this_machine(text: str) -> None:
    assert place(text) == Path(text)
    assert isinstance(place(text), Path)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_takes_apart_and_joins_as_a_posix_path(names: list[str]) -> None:
    remote, oracle = RemotePath("s3://bucket"), PurePosixPath("/bucket")
    for name in names:
        remote, oracle = remote / name, oracle / name
    assert str(remote) == f"s3:/{oracle}"
    assert (remote.name, remote.stem, remote.suffix) == (oracle.name, oracle.stem, oracle.suffix)
    assert str(remote.parent) == f"s3:/{oracle.parent}"
    assert remote.relative_to(RemotePath("s3://bucket")) == RemotePath(*names)
    assert str(remote.with_name("x.npz")) == f"s3:/{oracle.with_name('x.npz')}"
    assert RemotePath(str(remote)) == remote
    assert hash(RemotePath(str(remote))) == hash(remote)


@pytest.mark.parametrize("kind", [RemotePath, WholePath])
def test_stays_what_it_is(kind: type[RemotePath]) -> None:
    path = kind("s3://bucket/run") / "snapshots"
    for one in (path, path.parent, path.with_name("x"), pickle.loads(pickle.dumps(path))):
        assert type(one) is kind
    assert pickle.loads(pickle.dumps(path)) == path


def test_its_scheme_and_its_root() -> None:
    assert RemotePath("S3://bucket/x").scheme == "s3"
    assert RemotePath("run/x").scheme == ""
    assert RemotePath("s3://bucket").is_root
    assert not RemotePath("s3://bucket/x").is_root


def test_is_no_file_of_this_machine() -> None:
    """Whoever forgets the difference is told that it is not there, never of another file."""
    with pytest.raises(FileNotFoundError):
        os.stat(RemotePath("s3://bucket/x"))
