"""What is behind a URL, as real servers tell it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from rankscope.errors import UsageError
from rankscope.places import RemotePath
from rankscope.remote.filesystem import FRESH_SECONDS, filesystem_of
from rankscope.remote.links import names_on
from rankscope.remote.looking import names, status
from rankscope.remote.status import Status
from tests.remote.conftest import BUCKET, Bucket, look_anew
from tests.remote.webserver import Site

Web = Callable[..., Site]


@pytest.fixture
def ages(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes as much time pass as what was seen is believed for."""
    import time

    late = [0.0]
    now, tick = time.time, time.monotonic
    monkeypatch.setattr("fsspec.dircache.time.time", lambda: now() + late[0])
    monkeypatch.setattr("rankscope.remote.looking.time.monotonic", lambda: tick() + late[0])

    def later() -> None:
        late[0] += FRESH_SECONDS + 0.01

    return later


class TestWeb:
    def test_a_file(self, web: Web) -> None:
        site = web({"run/m.bin": b"12345"}, dates=True)
        found = status(site.url("run/m.bin"))
        seconds = datetime(2026, 1, 5, 10, tzinfo=UTC).timestamp()
        tag = "827ccb0eea8a706c4c34a16891f84e7b"
        assert found == Status("file", 5, int(seconds * 10**9), tag)
        assert [one.method for one in site.settled()] == ["HEAD"]

    def test_nothing(self, web: Web) -> None:
        assert status(web({}).url("m.bin")) is None

    def test_a_directory(self, web: Web) -> None:
        site = web({"run/step 1.bin": b"1", "run/épo=2.bin": b"2", "run/deep/x": b"3", "x": b""})
        found = status(site.url("run"))
        assert found is not None
        assert found.kind == "directory"
        assert names(site.url("run")) == ["deep", "step 1.bin", "épo=2.bin"]
        assert names(site.url("")) == ["run", "x"]
        for name in names(site.url("run")):
            assert status(site.url("run") / name) is not None, name

    def test_no_directory_is_shown(self, web: Web) -> None:
        site = web({"run/m.bin": b""}, listing=False)
        assert status(site.url("run")) is None
        with pytest.raises(FileNotFoundError):
            names(site.url("run"))

    def test_a_file_has_no_names(self, web: Web) -> None:
        site = web({"m.bin": bytes(2**20)})
        with pytest.raises(NotADirectoryError):
            names(site.url("m.bin"))

    def test_asking_what_a_large_file_is_moves_nothing(self, web: Web) -> None:
        site = web({"m.bin": bytes(50_000_000)}, head=False, ranges=False)
        found = status(site.url("m.bin"))
        assert found is not None
        assert (found.kind, found.size) == ("file", 50_000_000)
        # What lies in the buffers of two sockets; the body is never read.
        assert site.moved < 10_000_000

    def test_a_query_survives(self, web: Web) -> None:
        site = web({"m.bin": b"123"})
        assert status(site.url("m.bin?download=true&name=a%2Fb")) == status(site.url("m.bin"))
        assert site.settled()[0].path == "/m.bin?download=true&name=a%2Fb"

    def test_busy_at_first(self, web: Web) -> None:
        assert status(web({"m.bin": b"123"}, busy=2).url("m.bin")) is not None

    def test_without_head(self, web: Web) -> None:
        assert status(web({"m.bin": b"123"}, head=False).url("m.bin")) is not None
        empty = status(web({"m.bin": b""}, head=False).url("m.bin"))
        assert empty is not None
        assert empty.size == 0

    def test_size_not_told(self, web: Web) -> None:
        found = status(web({"m.bin": b"123"}, lengths=False).url("m.bin"))
        assert found is not None
        assert found.size == 3  # a range of one byte tells it
        found = status(web({"m.bin": b"123"}, lengths=False, ranges=False).url("m.bin"))
        assert found is not None
        assert found.size == -1

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        with pytest.raises(ConnectionRefusedError) as caught:
            status(RemotePath(f"http://127.0.0.1:{port}/m.bin"))
        assert caught.value.strerror == "no connection to the server"

    def test_a_second_look_sees_what_came(self, web: Web, ages: Callable[[], None]) -> None:
        site = web({"run/1": b"1"})
        assert names(site.url("run")) == ["1"]
        assert status(site.url("run/2")) is None
        site.files["run/2"] = b"22"
        ages()
        assert names(site.url("run")) == ["1", "2"]
        assert status(site.url("run/2")) is not None


class TestS3:
    def test_a_file(self, s3: Bucket) -> None:
        before = datetime.now(UTC).timestamp()
        found = status(s3.put("run/m.bin", b"12345"))
        assert found is not None
        assert (found.kind, found.size, found.tag) == (
            "file",
            5,
            "827ccb0eea8a706c4c34a16891f84e7b",
        )
        assert abs(found.mtime_ns / 1e9 - before) < 5

    def test_nothing(self, s3: Bucket) -> None:
        assert status(s3.url("m.bin")) is None
        assert status(RemotePath("s3://no-such-bucket/m.bin")) is None
        with pytest.raises(FileNotFoundError):
            names(s3.url("run"))

    def test_a_directory(self, s3: Bucket) -> None:
        for key in ("run/", "run/step-2", "run/step-10", "run/deep/x", "run/../x", "other"):
            s3.put(key, b"1")
        for path in (s3.url("run"), s3.url(""), RemotePath(f"s3://{BUCKET}")):
            found = status(path)
            assert found is not None
            assert found.kind == "directory"
        assert names(s3.url("run")) == ["deep", "step-10", "step-2"]
        assert names(s3.url("")) == ["other", "run"]
        with pytest.raises(NotADirectoryError):
            names(s3.url("other"))

    def test_a_listing_answers_for_what_it_lists(self, s3: Bucket) -> None:
        path = s3.put("run/m.bin", b"12345")
        asked = status(path)
        look_anew()
        names(s3.url("run"))
        fs = filesystem_of(path)
        calls = []
        call = fs._call_s3

        async def counted(method: str, *rest: object, **named: object) -> object:
            calls.append(method)
            return await call(method, *rest, **named)

        fs._call_s3 = counted
        listed = status(path)
        assert not calls
        assert listed is not None
        assert asked is not None
        assert (listed.tag, listed.size) == (asked.tag, asked.size)

    def test_a_second_look_sees_what_came(self, s3: Bucket, ages: Callable[[], None]) -> None:
        s3.put("run/1", b"1")
        assert names(s3.url("run")) == ["1"]
        assert status(s3.url("run/2")) is None
        s3.put("run/2", b"22")
        s3.put("run/1", b"111")
        ages()
        assert names(s3.url("run")) == ["1", "2"]
        second, first = status(s3.url("run/2")), status(s3.url("run/1"))
        assert second is not None
        assert first is not None
        assert (second.size, first.size) == (2, 3)

    def test_no_credentials(self, s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        path = s3.put("m.bin", b"1")
        s3.client.put_object_acl(Bucket=BUCKET, Key="m.bin", ACL="public-read")
        secret = s3.put("secret.bin", b"1")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(PermissionError) as caught:
            status(path)
        assert str(caught.value.strerror).startswith("no AWS credentials found")
        monkeypatch.setitem(__import__("fsspec").config.conf, "s3", {"anon": True})
        look_anew()
        assert status(path) is not None
        with pytest.raises(PermissionError, match="no permission: the server answers 403"):
            status(secret)

    def test_nobody_there(self, s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        look_anew()
        with pytest.raises(ConnectionRefusedError) as caught:
            status(s3.url("m.bin"))
        assert caught.value.strerror == "no connection to the server"

    def test_a_name_that_no_bucket_has(self, s3: Bucket) -> None:
        with pytest.raises(OSError, match="URL") as caught:
            status(RemotePath("s3://No Bucket/m.bin"))
        assert "\n" not in str(caught.value.strerror)


class TestScheme:
    def test_unknown(self) -> None:
        with pytest.raises(
            UsageError, match=r"^ftp://host/m: unknown kind of URL, expected s3://, "
        ):
            status(RemotePath("ftp://host/m"))

    def test_extra_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import importlib.util

        find = importlib.util.find_spec
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name: None if name == "gcsfs" else find(name)
        )
        with pytest.raises(UsageError, match=r"reading gs:// needs gcsfs.*'rankscope\[remote\]'"):
            status(RemotePath("gs://bucket/m"))


class TestLinks:
    @pytest.mark.parametrize(
        ("link", "expected"),
        [
            ("a.bin", ["a.bin"]),
            ("./a.bin", ["a.bin"]),
            ("/run/a.bin", ["a.bin"]),
            ("http://h/run/a.bin#part", ["a.bin"]),
            ("http://other/run/a.bin", []),
            ("https://h/run/a.bin", []),
            ("../a.bin", []),
            ("..%2fa.bin", []),
            ("%2e%2e", []),
            ("a/b.bin", []),
            ("/running/a.bin", []),
            ("?C=N", []),
            ("", []),
            ("a%3Fb", ["a%3Fb"]),
            ("a%00b", []),
            ("http://[", []),
            ("javascript:void(0)", []),
        ],
    )
    def test_only_what_is_directly_below(self, link: str, expected: list[str]) -> None:
        page = f"<A HREF='{link}'>x</A>"
        assert names_on(page, "http://h/run/") == expected
        assert names_on(page, "http://h/run") == [
            n for n in expected if link.startswith(("/", "h"))
        ]

    @pytest.mark.parametrize(
        ("url", "link"),
        [
            ("http://h/%C3%BC/", "/%c3%bc/a.bin"),
            ("http://h/%C3%BC/", "/ü/a.bin"),
            ("http://h/a%20b/", "/a b/a.bin"),
            ("http://h/~u/a=b/", "/%7Eu/a%3Db/a.bin"),
        ],
    )
    def test_quoted_otherwise(self, url: str, link: str) -> None:
        assert names_on(f"<a href='{link}'>x</a>", url) == ["a.bin"]

    @pytest.mark.parametrize(
        ("base", "expected"), [("/run/", ["a"]), ("./", ["a"]), ("/other/", []), ("http://[", [])]
    )
    def test_a_base(self, base: str, expected: list[str]) -> None:
        page = f"<base href='{base}'><base href='/none/'><a href='a'>x</a>"
        assert names_on(page, "http://h/run/") == expected

    def test_a_quoted_slash_is_no_way(self) -> None:
        assert names_on("<a href='/a%2Fb/c'>x</a>", "http://h/a/b/") == []
