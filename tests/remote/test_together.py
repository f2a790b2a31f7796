"""Headers that lie all over an archive, asked for together and once."""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankscope import analyze, open_checkpoint
from rankscope.errors import InputRejected
from rankscope.how import How
from rankscope.remote import together
from rankscope.remote.patience import Patience
from rankscope.remote.pieces import HEAD_BYTES
from rankscope.remote.remotefile import RemoteFile
from rankscope.remote.together import GAP_BYTES, merged
from tests.remote.conftest import Bucket
from tests.remote.webserver import Site

Web = Callable[..., Site]

LAYERS, SIDE = 40, 64  # 16 KiB a matrix: headers lie too far from each other to be read at once


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    together._kept.cache_clear()


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        f"layers.{i}.weight": rng.standard_normal((SIDE, SIDE)).astype(np.float32)
        for i in range(LAYERS)
    }


def torch_file(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, buffer)
    return buffer.getvalue()


def npz_file(arrays: dict[str, np.ndarray], *, save: Callable[..., None] = np.savez) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[dict[str, np.ndarray]], bytes]] = {
    "pt": torch_file,
    "npz": npz_file,
    "packed.npz": partial(npz_file, save=np.savez_compressed),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_archive_is_opened_in_a_few_round_trips(
    web: Web, arrays: dict[str, np.ndarray], suffix: str
) -> None:
    data = FORMATS[suffix](arrays)
    site = web({f"m.{suffix}": data}, slow=0.02)
    checkpoint = open_checkpoint(site.url(f"m.{suffix}"))
    checkpoint.close()
    assert len(checkpoint.listing.tensors) == LAYERS
    bodies = site.bodies()
    assert len(bodies) <= LAYERS + 3
    assert site.most_active > 4
    if suffix == "pt":  # only what is needed of an archive whose directory has the rest
        assert site.moved <= 2 * HEAD_BYTES + LAYERS * 200

    open_checkpoint(site.url(f"m.{suffix}")).close()  # by another task of the same process
    assert len(site.bodies()) - len(bodies) <= 2


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("tags", [True, False])
def test_the_numbers_are_the_same(
    web: Web, tmp_path: Path, arrays: dict[str, np.ndarray], suffix: str, tags: bool
) -> None:
    data = FORMATS[suffix](arrays)
    (tmp_path / f"m.{suffix}").write_bytes(data)
    site = web({f"m.{suffix}": data}, tags=tags, dates=True)
    here = analyze(tmp_path / f"m.{suffix}", how=How(store=False))
    there = analyze(site.url(f"m.{suffix}"), how=How(store=False))
    assert [row["effective_rank"] for row in there.matrices] == [
        row["effective_rank"] for row in here.matrices
    ]
    assert {row["status"] for row in there.matrices} == {"ok"}


def test_s3(s3: Bucket, arrays: dict[str, np.ndarray]) -> None:
    path = s3.put("m.pt", torch_file(arrays))
    checkpoint = open_checkpoint(path)
    checkpoint.close()
    assert len(checkpoint.listing.tensors) == LAYERS


def test_an_extra_field_longer_than_expected(web: Web, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            member.extra = b"\xfe\xca" + (5000).to_bytes(2, "little") + bytes(5000)
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(member, content.getvalue())
    site = web({"m.npz": buffer.getvalue()})
    table = analyze(site.url("m.npz"), how=How(store=False))
    assert [row["status"] for row in table.matrices] == ["ok"] * LAYERS


def test_a_version_that_comes_in_between_is_noticed(
    web: Web, arrays: dict[str, np.ndarray]
) -> None:
    old = torch_file(arrays)
    new = torch_file({name: array + 1 for name, array in arrays.items()})
    site = web({"m.pt": old}, then=(10, {"m.pt": new}))
    with pytest.raises(InputRejected, match="replaced while it was read"):
        open_checkpoint(site.url("m.pt"))


def test_faults_in_between_are_overcome_and_lasting_ones_told(web: Web) -> None:
    data = np.random.default_rng(0).bytes(1_000_000)
    spans = [(start, start + 50) for start in range(200_000, 800_000, 10_000)]
    quick = Patience(attempts=4, first_wait=0.01, stall=1.0)
    site = web({"m.bin": data}, drop=3, short=2)
    file = RemoteFile(site.url("m.bin"), quick)
    file.prepare(spans)
    before = len(site.bodies())
    assert all(bytes(file.read(start, stop - start)) == data[start:stop] for start, stop in spans)
    assert len(site.bodies()) == before
    file.close()
    with pytest.raises(InputRejected, match="closed"):
        file.prepare(spans)

    broken = web({"m.bin": data}, drop=10_000)
    file = RemoteFile(broken.url("m.bin"), quick)
    with pytest.raises(InputRejected, match=r"cannot be read|ends at byte"):
        file.prepare(spans)
    file.close()


def test_what_is_large_is_not_remembered(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "KEPT_BYTES", 1000)
    monkeypatch.setattr(together, "BATCH", 7)
    site = web({"m.bin": np.random.default_rng(0).bytes(400_000)})
    for spans, further in (([(200_000, 202_000)], 1), ([(300_000, 300_900)], 0)):
        counts = []
        for _ in range(2):
            file = RemoteFile(site.url("m.bin"))
            file.prepare(spans)
            file.close()
            counts.append(len(site.bodies()))
        assert counts[1] - counts[0] == further
    file = RemoteFile(site.url("m.bin"))
    many = [(start, start + 10) for start in range(HEAD_BYTES, 400_000, 2 * GAP_BYTES)]
    file.prepare(many)
    expected = len(site.bodies())
    for start, stop in many:
        file.read(start, stop - start)
    file.close()
    assert len(site.bodies()) == expected


@given(st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 9_000)), max_size=30))
def test_merged(spans: list[tuple[int, int]]) -> None:
    spans = [(start, start + length) for start, length in spans]
    found = merged(spans)
    assert all(any(a <= start and stop <= b for a, b in found) for start, stop in spans)
    assert all(b + GAP_BYTES <= c for (_, b), (c, _) in itertools.pairwise(found))
    edges = {edge for span in spans for edge in span}
    assert all(a in edges and b in edges for a, b in found)
