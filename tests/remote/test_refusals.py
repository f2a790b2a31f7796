"""What stands beside weights, where a server refuses it or answers with something else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from safetensors.numpy import save

import rankscope
from rankscope import How
from rankscope.errors import InputRejected
from rankscope.places import RemotePath
from rankscope.remote.looking import handed_out
from tests.remote.conftest import look_anew
from tests.remote.webserver import Site

Web = Callable[..., Site]

MATRIX = np.random.default_rng(0).standard_normal((20, 30)).astype("f4")
WEIGHTS = save({"a.weight": MATRIX})
# Three matrices in one, which only config.json tells.
GPT2 = save(
    {"h.0.attn.c_attn.weight": np.random.default_rng(1).standard_normal((16, 48)).astype("f4")}
)
GPT2_CONFIG = b'{"model_type": "gpt2", "n_embd": 16, "n_head": 2}'

HERE = How(store=False, workers=1)


def ranks(path: RemotePath) -> list[object]:
    return [row["rank"] for row in rankscope.analyze(path, metrics=["rank"], how=HERE).matrices]


def count(path: RemotePath) -> int:
    return len(rankscope.analyze(path, metrics=["rank"], how=HERE).matrices)


@pytest.mark.parametrize("absent", [400, 401, 403, 404, 405])
def test_what_is_refused_beside_weights_is_not_there(web: Web, absent: int) -> None:
    site = web({"m.safetensors": WEIGHTS}, listing=False, absent=absent)
    assert ranks(site.url("m.safetensors")) == [20]


def test_a_page_for_whatever_is_not_there(web: Web) -> None:
    site = web({"m.safetensors": WEIGHTS}, listing=False, absent=200)
    assert handed_out(site.url("config.json")) is None
    assert ranks(site.url("m.safetensors")) == [20]


def test_a_page_is_no_record_of_a_run(web: Web) -> None:
    files = {f"w/step-{step}.safetensors": WEIGHTS for step in (1, 2)}
    found = rankscope.analyze(web(files, absent=200).url("w"), metrics=["rank"], how=HERE)
    assert [row["step"] for row in found.matrices] == [1, 2]


def test_a_server_that_fails_is_no_refusal(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rankscope.remote.looking.time.sleep", lambda _: None)
    site = web({"m.safetensors": WEIGHTS}, listing=False, absent=500)
    with pytest.raises(InputRejected, match=r"config\.json: .*the server answers 500"):
        ranks(site.url("m.safetensors"))


def test_what_is_handed_out_is_read(web: Web) -> None:
    files = {"m.safetensors": GPT2, "config.json": GPT2_CONFIG}
    site = web(files, listing=False, absent=403)
    assert count(site.url("m.safetensors")) == 3
    del site.files["config.json"]
    look_anew()
    assert count(site.url("m.safetensors")) == 1


def test_nothing_is_looked_for_beside_a_signed_url(web: Web) -> None:
    files = {"m.safetensors": GPT2, "config.json": GPT2_CONFIG}
    site = web(files, listing=False, absent=500)
    assert count(site.url("m.safetensors?sig=a%2Fb/c&x=1")) == 1
    assert {one.path for one in site.settled()} == {"/m.safetensors?sig=a%2Fb/c&x=1"}


class _Guarded(BaseHTTPRequestHandler):
    """S3 that hands out one object and lists nothing: what is not there is forbidden."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(found[1]), int(found[2]) + 1) if found else (0, len(WEIGHTS))
        body = WEIGHTS[start:stop]
        status = 206 if found else 200
        if self.path.partition("?")[0] != "/weights/m.safetensors":
            status, body = 403, b"<Error><Code>AccessDenied</Code></Error>"
        self.send_response(status)
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Mon, 05 Jan 2026 10:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(WEIGHTS)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Guarded) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        look_anew()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("guarded")
def test_a_bucket_that_may_not_be_listed() -> None:
    assert ranks(RemotePath("s3://weights/m.safetensors")) == [20]
    with pytest.raises(InputRejected, match="no permission: the server answers 403"):
        ranks(RemotePath("s3://weights/other.safetensors"))
