"""One table is of one version of a file, by what servers tell of it, and when that is believed."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import rankscope
from rankscope import How
from rankscope.errors import InputRejected
from rankscope.identities import identity, unchanged
from rankscope.places import RemotePath, WholePath
from rankscope.remote.downloads import downloaded
from rankscope.remote.looking import status
from rankscope.remote.patience import Patience
from rankscope.remote.remotefile import RemoteFile
from rankscope.remote.status import CLOCKS_SECONDS, RACY_SECONDS, Status
from tests.remote.conftest import BUCKET, Bucket, look_anew
from tests.remote.webserver import Site

Web = Callable[..., Site]

OLD, NEW = (np.random.default_rng(seed).bytes(500_000) for seed in (0, 1))
MONDAY, TUESDAY = "Mon, 05 Jan 2026 10:00:00 GMT", "Tue, 06 Jan 2026 10:00:00 GMT"
QUICK = Patience(attempts=3, first_wait=0.01, stall=1.0)


def by_version(
    old: Mapping[str, str], new: Mapping[str, str]
) -> Callable[[str, bytes], dict[str, str]]:
    return lambda _, data: dict(old if data == OLD else new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            {"ETag": 'W/"a"', "Last-Modified": MONDAY},
            {"ETag": 'W/"a"', "Last-Modified": TUESDAY},
        ),
        ({"ETag": '"a"', "Last-Modified": MONDAY}, {"ETag": '"a"', "Last-Modified": TUESDAY}),
        ({"ETag": '"a"'}, {}),
        ({"ETag": '"a"', "Last-Modified": MONDAY}, {"Last-Modified": MONDAY}),
        ({"Last-Modified": MONDAY}, {}),
    ],
)
def test_never_a_mixture(web: Web, old: dict[str, str], new: dict[str, str]) -> None:
    site = web({"m.bin": OLD}, tell=by_version(old, new))
    file = RemoteFile(site.url("m.bin"), QUICK)
    assert file.read(200_000, 8, (200_000, 200_008)) == OLD[200_000:200_008]
    site.files = {"m.bin": NEW}
    with pytest.raises(
        InputRejected, match=r"replaced while it was read|not tell of which version"
    ):
        file.read(400_000, 8, (400_000, 400_008))
    file.close()


def test_a_version_that_ranges_do_not_tell(web: Web) -> None:
    site = web({"m.bin": OLD}, tell=lambda method, _: {"ETag": '"a"'} if method == "HEAD" else {})
    file = RemoteFile(site.url("m.bin"), QUICK)
    with pytest.raises(InputRejected, match=r"not tell of which version .* or give --download"):
        file.read(0, 8, (0, 8))
    file.close()
    assert downloaded(site.url("m.bin"), QUICK).read_bytes() == OLD


def test_a_whole_answer_must_be_of_the_version_too(web: Web) -> None:
    site = web({"m.bin": OLD}, ranges=False)
    site.tell = lambda method, data: {"ETag": f'"{data[0]}"'} if method == "HEAD" else {}
    status(site.url("m.bin"))
    site.files = {"m.bin": NEW}
    with pytest.raises(InputRejected, match="replaced while it was read"):
        downloaded(site.url("m.bin"), QUICK)


class TestAfresh:
    def test_web(self, web: Web) -> None:
        site = web({"m.bin": OLD})
        seen = identity(site.url("m.bin"))
        site.files = {"m.bin": NEW}
        assert unchanged([seen])  # as of up to two seconds ago
        assert not unchanged([seen], afresh=True)

    def test_s3(self, s3: Bucket) -> None:
        path = s3.put("m.bin", OLD)
        from rankscope.remote.looking import names

        names(RemotePath(f"s3://{BUCKET}"))  # the library remembers it, too
        seen = identity(path)
        s3.put("m.bin", NEW)
        assert unchanged([seen])
        assert not unchanged([seen], afresh=True)


class TestDates:
    """A date alone is no version while the file may change within its second."""

    NOW = 1_800_000_000

    def dated(self, age: float, now: float) -> Status:
        return Status("file", 1, int((self.NOW - age) * 1e9), now_ns=int(now * 1e9))

    def test_by_the_servers_clock(self) -> None:
        assert self.dated(RACY_SECONDS + 1, self.NOW).is_known
        assert not self.dated(RACY_SECONDS - 1, self.NOW).is_known
        assert not self.dated(-5, self.NOW).is_known
        assert replace(self.dated(0, self.NOW), tag="a").is_known

    def test_by_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: self.NOW * 10**9)
        assert self.dated(CLOCKS_SECONDS + 1, 0).is_known
        assert not self.dated(CLOCKS_SECONDS - 1, 0).is_known

    def test_one_of_just_now_is_not_remembered(self, web: Web, tmp_path: Path) -> None:
        files = [save({"a.weight": np.full((4, 3), x, "f4")}) for x in (1, 2)]
        date = email.utils.formatdate(time.time() - 1, usegmt=True)
        site = web({"m.safetensors": files[0]}, tell=lambda *_: {"Last-Modified": date})
        how = How(store=tmp_path / "store", workers=1)
        for path in (site.url("m.safetensors"), WholePath(site.url("m.safetensors").url)):
            norms = []
            for data in files:
                site.files = {"m.safetensors": data}
                look_anew()
                found = rankscope.analyze(path, metrics=["frobenius_norm"], how=how)
                norms.append(round(float(str(found.matrices[0]["frobenius_norm"])) ** 2))
            assert norms == [12, 48]


class TestVerify:
    @pytest.mark.parametrize("digest", [True, False])
    def test_a_damaged_download(self, web: Web, tmp_path: Path, digest: bool) -> None:
        from tests.remote.test_downloads import sha256

        data = save({"a.weight": np.full((4, 3), 1, "f4")})
        site = web({"w/m.safetensors": data}, digest=sha256(data) if digest else "")
        path = WholePath(site.url("w").url)

        def norm(*, verify: bool) -> int:
            how = How(store=False, workers=1, verify=verify)
            found = rankscope.analyze(path, metrics=["frobenius_norm"], how=how)
            return round(float(str(found.matrices[0]["frobenius_norm"])) ** 2)

        assert norm(verify=False) == 12
        moved = sum(one.sent for one in site.settled() if one.path.endswith("m.safetensors"))
        assert norm(verify=True) == 12
        again = sum(one.sent for one in site.settled() if one.path.endswith("m.safetensors"))
        assert again == (moved if digest else 2 * moved)
        kept = next((tmp_path / "cache").rglob("m.safetensors"))
        kept.write_bytes(data[:-4] + np.float32(7).tobytes())
        assert norm(verify=False) == 60  # what is kept is believed
        assert norm(verify=True) == 12

    def test_one_that_was_cut_off_is_fetched_anew(self, web: Web) -> None:
        site = web({"m.bin": OLD})
        kept = downloaded(site.url("m.bin"))
        kept.write_bytes(OLD[:-1])
        assert downloaded(site.url("m.bin")).read_bytes() == OLD


class TestOddServers:
    def test_ranges_that_are_cut_to_a_limit(self, web: Web) -> None:
        site = web({"m.bin": OLD * 4}, cap=2**16)
        file = RemoteFile(site.url("m.bin"), Patience(attempts=1))
        assert file.read(0, 2_000_000, (0, 2_000_000)) == OLD * 4
        file.close()

    def test_ranges_that_are_cut_to_nearly_nothing(self, web: Web) -> None:
        file = RemoteFile(web({"m.bin": OLD}, cap=100).url("m.bin"), QUICK)
        with pytest.raises(InputRejected, match="ends at byte 300, expected 500000"):
            file.read(0, 500_000, (0, 500_000))
        file.close()

    @pytest.mark.parametrize("how", [{"head": False, "no_head": 404}, {"empty_head": True}])
    def test_head_that_tells_nothing(self, web: Web, how: dict[str, object]) -> None:
        file = RemoteFile(web({"m.bin": OLD}, **how).url("m.bin"), QUICK)
        assert file.size == len(OLD)
        file.close()

    def test_compressed_though_asked_not_to(self, web: Web) -> None:
        import gzip

        site = web({"m.bin": gzip.compress(OLD)}, coding="gzip")
        with pytest.raises(InputRejected, match=r"compressed \(Content-Encoding: gzip\)"):
            RemoteFile(site.url("m.bin"), QUICK)
        assert downloaded(site.url("m.bin"), QUICK).read_bytes() == OLD
