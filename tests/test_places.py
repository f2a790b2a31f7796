"""Places as text and as paths; what is there is another matter."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rankscope.places import RemotePath, WholePath, masked, place, text_of

NAMES = st.text("abcXYZ019._-@=%?&+ é", min_size=1, max_size=12).filter(lambda s: s not in "..")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/run/", "s3://bucket/run"),
        ("s3://bucket", "s3://bucket"),
        ("hf://org/model@step1000", "hf://org/model@step1000"),
        ("hf://org/model@refs%2Fpr%2F1/x.gguf", "hf://org/model@refs%2Fpr%2F1/x.gguf"),
        ("https://host:8443/a/b@c:d", "https://host:8443/a/b@c:d"),
        ("GS://Bucket//run", "gs://Bucket/run"),
        ("s3://bucket/key?versionId=a", "s3://bucket/key?versionId=a"),
    ],
)
def test_a_url_keeps_its_text(text: str, expected: str) -> None:
    found = place(text)
    assert isinstance(found, RemotePath)
    assert str(found) == found.url == text_of(found) == expected
    assert place(found) is found
    assert not found.is_secret
    assert not found.has_password


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


# What a signature in base64 holds, and what a path would read as something else.
QUERIES = st.text("aZ09/+=.&?%~#:@", min_size=1, max_size=20)


@given(QUERIES)
@example("sig=a//b/./c/../")
@example("/")
def test_a_query_is_left_as_it_is(query: str) -> None:
    url = f"https://host/run/m.safetensors?{query}"
    for path in (RemotePath(url), place(url), RemotePath(RemotePath(url)), WholePath(url)):
        assert isinstance(path, RemotePath)
        assert path.url == url
        assert (path.name, path.stem, path.suffix) == ("m.safetensors", "m", ".safetensors")
        assert path.parts == ("https:", "host", "run", "m.safetensors")
        again = pickle.loads(pickle.dumps(path))
        assert (again, again.url, hash(again)) == (path, url, hash(path))
        assert copy.deepcopy(path).url == url
        assert path != RemotePath(url.partition("?")[0])
        assert path != RemotePath(url + "x")


def test_what_stands_beside_has_no_query() -> None:
    path = RemotePath("https://host/run/m.safetensors?sig=a/b")
    assert path.parent.url == "https://host/run"
    assert path.with_name("config.json").url == "https://host/run/config.json"
    assert path.with_suffix(".json").url == "https://host/run/m.json"
    assert (path / "x").url == "https://host/run/m.safetensors/x"
    assert [one.url for one in path.parents][:2] == ["https://host/run", "https://host"]
    assert path.relative_to(path.parent) == RemotePath("m.safetensors")


def test_a_question_mark_in_a_name_begins_no_query() -> None:
    """A listing, or an index of shards, names a file; what to ask for it is no other's to say."""
    assert (RemotePath("https://host/run") / "a?b").url == "https://host/run/a%3Fb"
    assert RemotePath("s3://bucket/a?b").name == "a?b"
    assert RemotePath("gs://bucket/a?versionId=1#2").name == "a?versionId=1#2"


def test_a_version_of_an_object() -> None:
    path = RemotePath("s3://bucket/run/m.npz?versionId=a/b")
    assert (path.name, path.query) == ("m.npz", "?versionId=a/b")
    assert str(path) == path.url == "s3://bucket/run/m.npz?versionId=a/b"
    assert path.with_name("x").url == "s3://bucket/run/x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://host/m?X-Amz-Signature=abc&b=1", "https://host/m?X-Amz-Signature=***&b=***"),
        ("https://host/m?c2VjcmV0", "https://host/m?***"),
        ("https://host/m?c2VjcmV0==&&x", "https://host/m?***&&***"),
        ("https://host/m?a=b=c?d#e", "https://host/m?a=***"),
        ("nothing://host/m?sig=abc", "nothing://host/m?sig=***"),
        ("--base=HTTPS://host//m?sig=abc", "--base=HTTPS://host//m?sig=***"),
        ("https://me:secret@host:80/m", "https://***@host:80/m"),
        ("https://secret@host", "https://***@host"),
        ("https://me:sec/ret@host/m", "https://***@host/m"),
        ("https://me:sec?ret@host/m?a=b", "https://***@host/m?a=***"),
        ("https://me:secret@[::1]:80/m", "https://***@[::1]:80/m"),
        ("s3://key:secret@bucket/m", "s3://***@bucket/m"),
        ("hf://me:secret@org/model", "hf://***@org/model"),
        ("https://[::1]:80/a@b", "https://[::1]:80/a@b"),
        ("https://host:80?mail=a@b", "https://host:80?mail=***"),
        ("hf://gpt2@main/x?y", "hf://gpt2@main/x?y"),
        ("s3://bucket/what?a=b", "s3://bucket/what?a=b"),
        ("what?a=b", "what?a=b"),
    ],
)
def test_what_is_shown_of_a_text(text: str, expected: str) -> None:
    assert masked(text) == expected
    if not text.startswith("-"):
        assert str(place(text)) == expected
        assert repr(place(text)).endswith(f"Path({expected!r})")


def test_two_signatures_look_the_same_and_are_not() -> None:
    one, other = RemotePath("https://host/m?sig=1"), RemotePath("https://host/m?sig=2")
    assert str(one) == str(other)
    assert one != other
    assert len({one, other, RemotePath("https://host/m?sig=1")}) == 2
    assert one.is_secret


@pytest.mark.parametrize("kind", [RemotePath, WholePath])
def test_stays_what_it_is(kind: type[RemotePath]) -> None:
    path = kind("s3://bucket/run") / "snapshots"
    for one in (path, path.parent, path.with_name("x"), pickle.loads(pickle.dumps(path))):
        assert type(one) is kind
    assert pickle.loads(pickle.dumps(path)) == path


def test_its_scheme() -> None:
    assert RemotePath("S3://bucket/x").scheme == "s3"
    assert RemotePath("run/x").scheme == ""


def test_is_no_file_of_this_machine() -> None:
    """Whoever forgets the difference is told that it is not there, never of another file."""
    with pytest.raises(FileNotFoundError):
        os.stat(RemotePath("s3://bucket/x"))
