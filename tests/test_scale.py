"""The scale study's work by hand, and its simulation against bounds that hold for any order."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scaleconstants
from benchmarks.scalemodel import CHECKPOINTS, Kind, Site, simulate, specs_70b, totals
from rankscope.matrices import Selection, select
from rankscope.worker import list_checkpoint


def test_the_work_of_70b_by_hand() -> None:
    found = totals()
    n, hidden, keys, words = 8192, 28672, 1024, 128256
    layer = 2 * n * n + 2 * keys * n + 3 * hidden * n
    assert found.parameters == 80 * layer + 2 * words * n == 70_552_387_584
    assert found.bytes == 2 * found.parameters
    assert found.matrices == 80 * 7 + 2
    cube = 4 / 3
    attention = 2 * (1 + cube) * n**3 + 2 * (n * keys**2 + cube * keys**3)
    mlp = 3 * (hidden * n**2 + cube * n**3)
    heads = 2 * (words * n**2 + cube * n**3)
    assert found.flops == pytest.approx(80 * (attention + mlp) + heads, rel=1e-12)
    assert found.flops == pytest.approx(8.63e14, rel=1e-3)
    assert 8 * (402 * n + 160 * keys) < found.spectra < 1.03 * 8 * (402 * n + 160 * keys)
    assert len(specs_70b()) == found.matrices


def test_headers_of_70b_are_those_of_the_model(tmp_path: Path) -> None:
    index = scaleconstants.sparse_70b(tmp_path / "model")
    listed = list_checkpoint(index)
    assert isinstance(listed, tuple)
    specs, _ = select(listed[0], Selection())
    assert {(one.name, one.shape) for one in specs} == {(o.name, o.shape) for o in specs_70b()}
    assert sum(file.stat().st_blocks for file in index.parent.iterdir()) * 512 < 2**21


KINDS = [Kind(5.0, 400), Kind(2.0, 100), Kind(1.0, 100)]


class TestSimulation:
    def test_one_core_and_storage_for_all(self) -> None:
        run = simulate(KINDS, Site(1, 1e12, 0.0, 0.0), checkpoints=10)
        assert run.seconds == pytest.approx(8.0 * CHECKPOINTS)
        assert run.limit == "cores"
        assert run.worker == pytest.approx(1)

    @pytest.mark.parametrize(
        ("site", "seconds", "limit"),
        [
            (Site(10_000, 100.0, 0.0, 0.0), 6.0 * CHECKPOINTS, "storage"),
            (Site(10_000, 1e12, 3.0, 0.0), 9.0 * CHECKPOINTS, "scheduler"),
            (Site(10_000, 1e12, 0.0, 4.0), 12.0 * CHECKPOINTS, "client"),
            (Site(10_000, 1e12, 0.0, 4.0, clients=10), 1.2 * CHECKPOINTS, "client"),
        ],
    )
    def test_the_slowest_part_sets_the_time(self, site: Site, seconds: float, limit: str) -> None:
        """Of many checkpoints, to within what the first and last matrices take."""
        run = simulate(KINDS, site, checkpoints=200)
        assert run.seconds == pytest.approx(seconds, rel=0.03)
        assert run.limit == limit

    @pytest.mark.parametrize("workers", [1, 3, 20])
    def test_lies_between_the_largest_part_and_their_sum(self, workers: int) -> None:
        site = Site(workers, 300.0, 0.05, 0.07)
        run = simulate(KINDS, site, checkpoints=50)
        parts = (8.0 / workers, 600 / 300.0, 3 * 0.05, 3 * 0.07)
        assert max(parts) * CHECKPOINTS <= run.seconds * (1 + 1e-9)
        assert run.seconds <= (sum(parts) + 8.0 / 50) * CHECKPOINTS

    def test_faster_workers_take_less(self) -> None:
        slow, fast = (
            simulate(KINDS, Site(2, 1e12, 0.0, 0.0, speed), checkpoints=20) for speed in (1, 40)
        )
        assert slow.seconds == pytest.approx(40 * fast.seconds)


def test_a_store_is_really_written(tmp_path: Path) -> None:
    index = scaleconstants.sparse_70b(tmp_path / "model")
    (found,) = scaleconstants.fill_store(tmp_path / "s.sqlite3", index, 16, [2000])
    assert found.bytes == (tmp_path / "s.sqlite3").stat().st_size > 2000 * 8 * 16
    assert 0 < found.find < 0.1
