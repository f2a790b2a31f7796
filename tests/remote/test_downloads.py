"""Whole files in the user's cache: once, whole, and of the version that is there."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rankscope.errors import InputRejected
from rankscope.remote import downloads, pieces
from rankscope.remote.downloads import downloaded
from rankscope.remote.patience import Patience
from tests.remote.conftest import BUCKET, Bucket, look_anew
from tests.remote.webserver import Site

Web = Callable[..., Site]

MIB = 2**20
ROOT = Path(__file__).parents[2]
QUICK = Patience(attempts=3, first_wait=0.01, stall=1.0)

COMMAND = "import sys; from rankscope.remote.downloads import downloaded; "
COMMAND += "from rankscope.places import RemotePath; print(downloaded(RemotePath(sys.argv[1])))"


def noise(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(count)


def sha256(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PIECE_BYTES", 2**16)


def test_once(web: Web, tmp_path: Path) -> None:
    data = noise(1_000_000)
    site = web({"run/m.safetensors": data}, digest=sha256(data))
    first = downloaded(site.url("run/m.safetensors?download=true"))
    assert first.read_bytes() == data
    assert first.name == "m.safetensors"
    assert first.is_relative_to(tmp_path / "cache" / "rankscope" / "downloads")
    look_anew()
    assert downloaded(site.url("run/m.safetensors?download=true")) == first
    assert site.moved == len(data)
    assert os.listdir(first.parent) == [first.name]


def test_another_version_lies_elsewhere(web: Web) -> None:
    site = web({"m.bin": noise(1000)})
    first = downloaded(site.url("m.bin"))
    site.files = {"m.bin": noise(1000, seed=1)}
    look_anew()
    second = downloaded(site.url("m.bin"))
    assert (first.read_bytes(), second.read_bytes()) == (noise(1000), noise(1000, seed=1))


def test_version_not_told(web: Web) -> None:
    site = web({"m.bin": noise(1000)}, tags=False)
    assert downloaded(site.url("m.bin")).read_bytes() == noise(1000)
    site.files = {"m.bin": noise(1000, seed=1)}
    assert downloaded(site.url("m.bin")).read_bytes() == noise(1000, seed=1)


@pytest.mark.parametrize("how", [{"ranges": False}, {"ranges": False, "lengths": False}])
def test_server_without_ranges(web: Web, how: dict[str, bool]) -> None:
    data = noise(1_000_000)
    assert downloaded(web({"m.bin": data}, **how).url("m.bin")).read_bytes() == data


def test_faults(web: Web) -> None:
    data = noise(1_000_000)
    site = web({"m.bin": data}, drop=1, short=1, lie=1)
    assert downloaded(site.url("m.bin"), QUICK).read_bytes() == data


def test_killed_and_run_again(web: Web, tmp_path: Path) -> None:
    data = noise(40 * MIB)
    site = web({"m.bin": data}, slow=0.002)
    command = [sys.executable, "-c", COMMAND, str(site.url("m.bin"))]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=dict(os.environ))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        held = list((tmp_path / "cache").rglob("*.part"))
        if held and held[0].stat().st_size >= pieces.PIECE_BYTES:
            break
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    kept = held[0].stat().st_size
    assert 0 < kept < len(data)
    site.slow = 0.0
    site.settled()
    before = site.moved
    assert downloaded(site.url("m.bin")).read_bytes() == data
    assert site.moved - before == len(data) - kept
    assert not held[0].exists()


def test_two_at_once(web: Web) -> None:
    data = noise(3 * MIB)
    site = web({"m.bin": data}, slow=0.001)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: downloaded(site.url("m.bin")), range(4)))
    assert {one.read_bytes() for one in found} == {data}
    assert site.moved == len(data)


def test_other_bytes_than_told(web: Web) -> None:
    data = noise(100_000)
    site = web({"m.bin": data}, digest=sha256(b"other"))
    with pytest.raises(InputRejected, match="what came has another sha256 checksum: try again"):
        downloaded(site.url("m.bin"))
    site.digest = sha256(data)
    assert downloaded(site.url("m.bin")).read_bytes() == data


def test_replaced_meanwhile(web: Web) -> None:
    site = web({"m.bin": noise(1_000_000)})
    site.then = 3, {"m.bin": noise(1_000_000, seed=1)}
    with pytest.raises(InputRejected, match="replaced while it was read"):
        downloaded(site.url("m.bin"))


@pytest.mark.parametrize("algorithm", ["SHA256", "CRC32"])
def test_s3(s3: Bucket, algorithm: str) -> None:
    data = noise(300_000)
    s3.client.put_object(Bucket=BUCKET, Key="m.bin", Body=data, ChecksumAlgorithm=algorithm)
    path = downloaded(s3.url("m.bin"))
    assert path.read_bytes() == data


def test_s3_checksum_is_looked_at(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.client.put_object(Bucket=BUCKET, Key="m.bin", Body=noise(1000), ChecksumAlgorithm="SHA256")
    monkeypatch.setattr("rankscope.remote.downloads.fetch", _fetch_zeros)
    with pytest.raises(InputRejected, match="another sha256 checksum"):
        downloaded(s3.url("m.bin"))


async def _fetch_zeros(
    source: object, start: int, stop: int, keep: Callable[[int, bytes], None], patience: object
) -> None:
    keep(start, bytes(stop - start))


def test_nothing_to_fetch(web: Web) -> None:
    site = web({"run/m.bin": b""})
    with pytest.raises(InputRejected, match="No such file"):
        downloaded(site.url("m.bin"))
    with pytest.raises(InputRejected, match="not a regular file"):
        downloaded(site.url("run"))


def test_no_room(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the cache would be")
    with pytest.raises(InputRejected, match=r"cannot be kept in .*: "):
        downloaded(web({"m.bin": b"1"}).url("m.bin"))
