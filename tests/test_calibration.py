"""Rates that are measured: all there, and none beyond what was asked for."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rankscope.calibration import measured_rates
from rankscope.errors import InputRejected
from rankscope.executors import available_cores
from rankscope.rates import Rates, Storage, rates_of
from rankscope.storagerate import PIECE, PIECES, READERS, storage_rate

NOWHERE = Storage("", None, 1e9, None, 0)


@pytest.fixture(scope="module")
def rates() -> Rates:
    return measured_rates(NOWHERE, 100, ["float32", "bfloat16", "int8"])


def test_every_rate_is_a_number_above_zero(rates: Rates) -> None:
    for speeds in (rates.alone, rates.together):
        for curve in (speeds.gram, speeds.eigen, speeds.svd):
            assert all(value > 0 for _, value in curve)
        assert min(speeds.qr, speeds.bandwidth, speeds.hashing) > 0
        assert [name for name, _ in speeds.convert] == ["float32", "bfloat16"]
    assert min(rates.command, rates.seconds) > 0
    # Differences, which the noise of a busy machine may hide.
    assert min(rates.workers, rates.task, rates.matrix, rates.row, rates.spread) >= 0
    assert min(rates.threaded) > 0
    assert 0 < rates.share <= 1
    assert 1 <= rates.processes <= rates.cores == available_cores()


def test_nothing_much_larger_than_needed_is_measured(rates: Rates) -> None:
    """The next order above 100, and that the smallest ones are faster is seen."""
    for speeds in (rates.alone, rates.together):
        assert [curve[-1][0] for curve in (speeds.gram, speeds.eigen, speeds.svd)] == [
            256,
            128,
            256,
        ]
        assert speeds.eigen[0][1] < speeds.eigen[-1][1]


def test_what_is_measured_survives_json(rates: Rates, tmp_path: Path) -> None:
    assert rates_of(tmp_path, json.loads(json.dumps(rates.to_document()))) == rates
    assert {part.name for part in fields(Rates)} < set(rates.to_document())


class TestStorage:
    def test_a_sample_is_read_of_a_large_file(self, tmp_path: Path) -> None:
        path = tmp_path / "large"
        with open(path, "wb") as file:
            file.truncate(20 * PIECE * PIECES)
        found = storage_rate([path])
        assert found.sampled == (PIECES + READERS) * PIECE
        assert found.warm > 0
        assert found.place == str(path)

    def test_all_of_small_files_at_most_twice(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
        for path in paths:
            save_file({"w": np.ones((10, 10))}, path)
        size = sum(path.stat().st_size for path in paths)
        assert size <= storage_rate(paths).sampled <= 2 * size

    @pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="needs Linux's preadv2")
    def test_what_was_just_written_is_in_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "fresh"
        path.write_bytes(os.urandom(PIECE))
        found = storage_rate([path])
        assert found.cached in (1.0, None)  # some file systems do not tell
        assert found.cold is None

    def test_what_left_memory_is_cold(self, tmp_path: Path) -> None:
        if not hasattr(os, "posix_fadvise") or not hasattr(os, "RWF_NOWAIT"):
            pytest.skip("needs Linux's posix_fadvise and preadv2")
        path = tmp_path / "cold"
        with open(path, "wb") as file:
            file.write(os.urandom(4 * PIECE))
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        found = storage_rate([path])
        if found.cached is None or found.cached == 1.0:
            pytest.skip("this file system does not tell, or keeps everything in memory")
        assert found.cold is not None
        assert found.cold_bytes(100) == pytest.approx(100 * (1 - found.cached))

    def test_nothing_to_read(self) -> None:
        found = storage_rate([])
        assert found.sampled == 0
        assert found.cold is None

    def test_a_file_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(InputRejected):
            storage_rate([tmp_path / "gone"])
