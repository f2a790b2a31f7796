"""Bytes from servers that send ranges, and from servers that do not behave."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.errors import InputRejected
from rankscope.places import RemotePath
from rankscope.remote import pieces, remotefile
from rankscope.remote.looking import status
from rankscope.remote.patience import Patience
from rankscope.remote.pieces import HEAD_BYTES, PIECE_BYTES
from rankscope.remote.remotefile import RemoteFile
from rankscope.remote.spool import Extents
from tests.remote.conftest import Bucket, look_anew
from tests.remote.webserver import Site, serving

Web = Callable[..., Site]

MIB = 2**20
QUICK = Patience(attempts=4, first_wait=0.01, stall=1.0)


def noise(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(count)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 64 KiB, so that small files have many."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 2**16)


class TestContract:
    """Whatever is asked for in whatever order, the bytes are those of the file."""

    DATA = noise(700_000)
    TENSORS = ((1_000, 300_000), (300_000, 300_001), (300_001, 690_000))

    def check(self, path: RemotePath) -> None:
        offset = st.integers(0, len(self.DATA))
        read = st.tuples(offset, offset, st.sampled_from([*self.TENSORS, None]))

        @given(st.lists(read, max_size=8))
        def same(reads: list[tuple[int, int, tuple[int, int] | None]]) -> None:
            file = RemoteFile(path)
            for one, other, within in reads:
                start, stop = sorted((one, other))
                if within is not None:
                    start, stop = (min(max(at, within[0]), within[1]) for at in (start, stop))
                assert bytes(file.read(start, stop - start, within)) == self.DATA[start:stop]
            file.close()

        same()

    def test_web(self, web: Web, small: None) -> None:
        self.check(web({"m.bin": self.DATA}).url("m.bin"))

    def test_s3(self, s3: Bucket, small: None) -> None:
        self.check(s3.put("m.bin", self.DATA))

    def test_threads(self, web: Web, small: None) -> None:
        site = web({"m.bin": self.DATA})
        file = RemoteFile(site.url("m.bin"))
        spans = [(start, start + 40_000) for start in range(1_000, 260_000, 7_000)] * 3
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(lambda s: file.read(s[0], s[1] - s[0], self.TENSORS[0]), spans))
        file.close()
        assert [bytes(one) for one in read] == [self.DATA[a:b] for a, b in spans]
        begun = -(-259_000 // 2**16)
        assert len(site.bodies()) >= begun
        assert site.moved <= 299_000  # each byte once, and none of another tensor


class TestTraffic:
    def test_one_tensor_of_a_large_file(self, web: Web) -> None:
        site = web({"m.bin": noise(50_000_000)})
        begin, end = 20_000_000, 29_000_000
        file = RemoteFile(site.url("m.bin"))
        file.read(0, 8)
        file.read(8, 5_000)
        assert [one.span for one in site.settled() if one.method == "GET"] == [
            f"bytes=0-{HEAD_BYTES - 1}"
        ]
        for _ in range(2):  # hashed, then decomposed
            for start in range(begin, end, 10_000):
                assert len(file.read(start, 10_000, (begin, end))) == 10_000
        file.close()
        assert site.moved == HEAD_BYTES + end - begin
        assert len(site.bodies()) == 1 + -(-(end - begin) // PIECE_BYTES)

    def test_nothing_is_asked_for_compressed(self, web: Web) -> None:
        site = web({"m.bin": noise(1000)})
        file = RemoteFile(site.url("m.bin"))
        file.read(0, 8, (0, 1000))
        file.close()
        assert [one.coding for one in site.settled() if one.sent] == ["identity"]

    def test_a_few_rows_fetch_no_more_than_stated(self, web: Web) -> None:
        site = web({"m.bin": noise(60_000_000)})
        file = RemoteFile(site.url("m.bin"))
        file.read(0, 100, (0, 60_000_000))
        time.sleep(0.5)  # for what is fetched ahead
        file.close()
        assert site.moved <= (1 + pieces.AHEAD) * PIECE_BYTES

    def test_columns_by_pieces_of_rows(self, web: Web, small: None) -> None:
        matrix = np.frombuffer(noise(1000 * 500), np.uint8).reshape(1000, 500)
        site = web({"m.bin": matrix.tobytes()})
        file = RemoteFile(site.url("m.bin"))
        for columns in (slice(0, 250), slice(250, 500)):
            for row in range(1000):
                piece = file.read(row * 500 + columns.start, 250, (0, matrix.size))
                assert bytes(piece) == matrix[row, columns].tobytes()
        file.close()
        assert site.moved == matrix.size

    def test_the_end_of_a_zip(self, web: Web) -> None:
        data = noise(5 * MIB)
        site = web({"m.pt": data})
        file = RemoteFile(site.url("m.pt"))
        for count in (22, 65_557, 100_000):
            assert bytes(file.read(len(data) - count, count)) == data[-count:]
        assert len(site.bodies()) == 1
        for start in range(MIB, 4 * MIB, MIB):  # entries' own headers
            file.read(start, 60)
        file.close()
        assert site.moved <= HEAD_BYTES + 3 * pieces.LEAST_BYTES

    def test_header_read_bit_by_bit(self, web: Web) -> None:
        data = noise(6 * MIB)
        site = web({"m.gguf": data})
        file = RemoteFile(site.url("m.gguf"))
        read = b"".join(bytes(file.read(at, 1024)) for at in range(0, 4 * MIB, 1024))
        file.close()
        assert read == data[: 4 * MIB]
        assert len(site.bodies()) <= 5

    def test_only_so_many_tensors_are_kept(
        self, web: Web, small: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remotefile, "TENSORS_KEPT", 2)
        site = web({"m.bin": noise(40_000)})
        file = RemoteFile(site.url("m.bin"))
        for tensor in (0, 1, 0, 2, 0):
            file.read(tensor * 10_000, 10_000, (tensor * 10_000, (tensor + 1) * 10_000))
        assert len(site.bodies()) == 3
        file.read(10_000, 10_000, (10_000, 20_000))
        file.close()
        assert len(site.bodies()) == 4

    def test_s3_in_ranges(self, s3: Bucket) -> None:
        data = noise(20 * MIB)
        file = RemoteFile(s3.put("m.bin", data))
        assert bytes(file.read(MIB, 18 * MIB, (MIB, 19 * MIB))) == data[MIB : 19 * MIB]
        file.close()


class TestFaults:
    @pytest.mark.parametrize("fault", ["drop", "short", "lie", "busy", "stall"])
    def test_passes(self, web: Web, small: None, fault: str) -> None:
        data = noise(500_000)
        site = web({"m.bin": data})
        file = RemoteFile(site.url("m.bin"), QUICK)
        setattr(site, fault, 2)
        assert bytes(file.read(0, len(data), (0, len(data)))) == data
        assert getattr(site, fault) == 0
        file.close()

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            ("drop", "cannot be read: the connection was lost"),
            ("short", "ends at byte 2.*, expected 300000"),
            ("busy", "cannot be read: the server answers 503: Service Unavailable"),
            ("stall", "cannot be read: the server did not answer in time"),
        ],
    )
    def test_lasts(self, web: Web, fault: str, said: str) -> None:
        site = web({"m.bin": noise(300_000)})
        quick = Patience(attempts=3, first_wait=0.01, stall=0.2)
        file = RemoteFile(site.url("m.bin"), quick)
        setattr(site, fault, 10**6)
        with pytest.raises(InputRejected, match=f"m.bin: {said}") as caught:
            file.read(0, 300_000, (0, 300_000))
        assert "\n" not in str(caught.value)
        assert sum(one.method == "GET" for one in site.log) <= 3
        site.closing.set()
        file.close()

    def test_goes_on_where_it_broke_off(self, web: Web) -> None:
        site = web({"m.bin": noise(4 * MIB)})
        file = RemoteFile(site.url("m.bin"), QUICK)
        site.drop = 2
        file.read(0, 4 * MIB, (0, 4 * MIB))
        file.close()
        assert site.moved == 4 * MIB
        assert len(site.bodies()) == 3

    def test_slow_but_steady(self, web: Web, small: None) -> None:
        site = web({"m.bin": noise(300_000)}, slow=0.1)
        file = RemoteFile(site.url("m.bin"), Patience(attempts=1, stall=0.5))
        assert len(file.read(0, 300_000, (0, 300_000))) == 300_000
        file.close()

    def test_no_ranges(self, web: Web) -> None:
        site = web({"m.bin": noise(50_000_000)}, ranges=False)
        file = RemoteFile(site.url("m.bin"))
        with pytest.raises(InputRejected, match="sends no ranges: download the file, or give --d"):
            file.read(0, 8)
        file.close()
        assert site.moved < 10_000_000  # what the buffers of two sockets took

    def test_no_ranges_in_the_middle(self, web: Web) -> None:
        file = RemoteFile(web({"m.bin": noise(400_000)}, ranges=False).url("m.bin"))
        for start, stop in ((300_000, 400_000), (200_000, 200_001), (0, 200_000)):
            with pytest.raises(InputRejected, match="sends no ranges"):
                file.read(start, stop - start, (start, stop))
        file.close()

    def test_no_ranges_of_a_small_file(self, web: Web) -> None:
        site = web({"config.json": b'{"a": 1}'}, ranges=False)
        file = RemoteFile(site.url("config.json"))
        assert file.read(0, 8) == b'{"a": 1}'
        file.close()

    def test_size_not_told(self, web: Web) -> None:
        site = web({"m.bin": b"123"}, ranges=False, lengths=False)
        with pytest.raises(InputRejected, match="does not tell its size: download the file, or g"):
            RemoteFile(site.url("m.bin"))

    def test_nothing_there(self, web: Web, s3: Bucket) -> None:
        for path in (web({}).url("m.bin"), s3.url("m.bin")):
            with pytest.raises(InputRejected, match="cannot be opened: No such file or directory"):
                RemoteFile(path)

    def test_a_directory(self, web: Web, s3: Bucket) -> None:
        s3.put("run/m.bin", b"")
        for path in (web({"run/m.bin": b""}).url("run"), s3.url("run")):
            with pytest.raises(InputRejected, match="not a regular file"):
                RemoteFile(path)

    def test_beyond_the_end(self, web: Web) -> None:
        file = RemoteFile(web({"m.bin": b"12345"}).url("m.bin"))
        with pytest.raises(InputRejected, match="ends at byte 5, expected 6: truncated or repl"):
            file.read(2, 4)
        assert file.read(5, 0) == b""
        file.close()
        file.close()
        with pytest.raises(InputRejected, match="closed"):
            file.read(0, 1)

    def test_an_empty_file(self, web: Web) -> None:
        file = RemoteFile(web({"m.bin": b""}).url("m.bin"))
        assert (file.size, file.read(0, 0)) == (0, b"")
        file.close()

    def test_server_that_dies(self) -> None:
        with serving(Site({"m.bin": noise(MIB)})) as site:
            file = RemoteFile(site.url("m.bin"), QUICK)
        with pytest.raises(InputRejected, match="cannot be read: no connection to the server"):
            file.read(0, MIB)
        file.close()

    def test_no_room_for_what_is_fetched(
        self, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*arguments: object) -> int:
            raise OSError(28, "No space left on device")

        file = RemoteFile(web({"m.bin": noise(1000)}).url("m.bin"))
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(
            InputRejected, match=r"cannot be kept in .*: No space left on device; s"
        ):
            file.read(0, 1000)
        file.close()


class TestReplaced:
    """A file that becomes another one while it is read is never a mixture of both."""

    @pytest.mark.parametrize(("tags", "size"), [(True, 500_000), (False, 500_001)])
    def test_web(self, web: Web, small: None, tags: bool, size: int) -> None:
        site = web({"m.bin": noise(500_000)}, tags=tags)
        file = RemoteFile(site.url("m.bin"), QUICK)
        site.then = 3, {"m.bin": noise(size, seed=1)}
        with pytest.raises(InputRejected, match="replaced while it was read"):
            file.read(0, 500_000, (0, 500_000))
        file.close()

    def test_web_in_the_middle_of_a_piece(self, web: Web) -> None:
        site = web({"m.bin": noise(500_000)}, drop=1)
        file = RemoteFile(site.url("m.bin"), QUICK)
        site.then = 1, {"m.bin": noise(500_000, seed=1)}
        with pytest.raises(InputRejected, match="replaced while it was read"):
            file.read(0, 500_000, (0, 500_000))
        file.close()

    @pytest.mark.parametrize("left", [{}, {"m.bin": b"short"}])
    def test_gone_or_shorter(self, web: Web, left: dict[str, bytes]) -> None:
        site = web({"m.bin": noise(500_000)})
        file = RemoteFile(site.url("m.bin"), QUICK)
        file.read(0, 8)
        site.files = left
        with pytest.raises(InputRejected, match="replaced while it was read"):
            file.read(400_000, 8, (400_000, 400_008))
        file.close()

    def test_s3(self, s3: Bucket) -> None:
        path = s3.put("m.bin", noise(500_000))
        file = RemoteFile(path)
        file.read(0, 8)
        s3.put("m.bin", noise(500_000, seed=1))
        with pytest.raises(InputRejected, match="replaced while it was read"):
            file.read(400_000, 8, (400_000, 400_008))
        s3.client.delete_object(Bucket="weights", Key="m.bin")
        with pytest.raises(InputRejected, match="replaced while it was read"):
            file.read(300_000, 8, (300_000, 300_008))
        file.close()

    def test_before_it_is_read(self, web: Web) -> None:
        site = web({"m.bin": noise(1000)})
        assert status(site.url("m.bin"))
        site.files = {"m.bin": noise(1000, seed=1)}
        file = RemoteFile(site.url("m.bin"))  # its status is remembered
        with pytest.raises(InputRejected, match="replaced"):
            file.read(0, 8)
        look_anew()
        file = RemoteFile(site.url("m.bin"))
        assert bytes(file.read(0, 1000)) == noise(1000, seed=1)


class TestS3Faults:
    """Between the client and the real S3 server stands one that breaks connections."""

    def test_no_such_server_any_more(self, s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        file = RemoteFile(s3.put("m.bin", noise(1000)), QUICK)
        s3.client.delete_object(Bucket="weights", Key="m.bin")
        with pytest.raises(InputRejected, match="replaced"):
            file.read(0, 8)

    def test_bodies_that_break(self, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
        data = noise(500_000)
        site = web({"weights/m.bin": data})
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{site.port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        look_anew()
        file = RemoteFile(RemotePath("s3://weights/m.bin"), QUICK)
        for fault in ("drop", "short", "lie", "busy"):
            setattr(site, fault, 1)
        site.log.clear()
        assert bytes(file.read(0, len(data), (0, len(data)))) == data
        assert (site.drop, site.short, site.lie, site.busy) == (0, 0, 0, 0)
        file.close()


class TestNothingLeaks:
    def test_files_and_threads(self, web: Web) -> None:
        descriptors = Path("/proc/self/fd")
        if not descriptors.exists():
            pytest.skip("needs /proc")
        site = web({"m.bin": noise(3 * MIB)})
        RemoteFile(site.url("m.bin")).close()
        threads = threading.active_count()

        def nameless() -> int:
            links = [os.readlink(one) for one in descriptors.iterdir() if one.is_symlink()]
            return sum(link.endswith("(deleted)") for link in links)

        gc.collect()
        before = nameless()
        for _ in range(3):
            file = RemoteFile(site.url("m.bin"))
            file.read(0, 8)
            file.read(MIB, MIB, (MIB, 2 * MIB))
            assert nameless() == before + 2
            del file
        assert nameless() == before
        assert threading.active_count() <= threads + 8  # the server's, one a connection

    def test_closed_while_it_is_fetching(self, web: Web) -> None:
        site = web({"m.bin": noise(60 * MIB)}, slow=0.05)
        file = RemoteFile(site.url("m.bin"))
        file.read(0, 8, (0, 8))
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(file.read, 0, 60 * MIB, (0, 60 * MIB))
            time.sleep(0.1)
            file.close()
            with pytest.raises(InputRejected, match="closed"):
                reading.result(5)


class TestExtents:
    @given(
        st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12))),
        st.tuples(*[st.integers(0, 70)] * 2),
    )
    def test_as_a_set_of_bytes(self, spans: list[tuple[int, int]], asked: tuple[int, int]) -> None:
        extents, held = Extents(), set[int]()
        for start, count in spans:
            extents.add(start, start + count)
            held |= set(range(start, start + count))
        start, stop = sorted(asked)
        missing = {at for a, b in extents.gaps(start, stop) for at in range(a, b)}
        assert missing == set(range(start, stop)) - held
        assert extents.total == len(held)
        end = extents.end_of(start)
        assert (end is not None) == (start in held or start - 1 in held)
        if end is not None:
            assert all(at in held for at in range(start, end))
            assert end not in held
