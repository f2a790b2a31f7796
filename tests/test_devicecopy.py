"""Copies from a device: the same as copies at once, and nobody reads them too early."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from rankscope import snapshots
from rankscope.devicecopy import Started, packed, started_copies, unpacked
from rankscope.errors import UsageError
from rankscope.hostcopy import host_copies
from rankscope.snapshots import SnapshotWriter

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def tensors(device: str = "cpu") -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 5, 5, generator=generator).to(device)
    return {
        "flag": torch.tensor([True, False, True], device=device),
        "scale": torch.tensor(1.5, dtype=torch.bfloat16, device=device),
        "weight": weight,
        "last": weight.clone().to(memory_format=torch.channels_last),
        "turned": weight[0, 0].t(),
        "tied": weight,
        "count": torch.tensor(7, device=device),
        "empty": torch.empty(0, 3, device=device),
        "short": torch.arange(8, device=device).to(torch.float8_e4m3fn),
        "exact": torch.ones(2, dtype=torch.float64, device=device),
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].flags["C_CONTIGUOUS"]
        assert found[name].flags["ALIGNED"]
        assert found[name].tobytes() == array.tobytes()


def test_a_piece_holds_them_all() -> None:
    piece, places = packed(tensors())
    found = unpacked(piece.numpy(), places)
    assert_same({name: found[name] for name in tensors()}, host_copies(tensors()))
    assert found["tied"] is found["weight"]
    assert len(piece) == sum(array.nbytes for name, array in found.items() if name != "tied")


def test_a_piece_is_a_copy() -> None:
    weight = torch.zeros(3)
    piece, places = packed({"w": weight})
    weight.fill_(1)
    assert not unpacked(piece.numpy(), places)["w"].any()


def test_in_host_memory_they_are_copied_at_once() -> None:
    given = {**tensors(), "array": np.ones(3)}
    started = started_copies(given)
    assert_same(started.arrays, host_copies(given))
    started.wait()


def test_what_cannot_be_stored_is_refused() -> None:
    with pytest.raises(UsageError, match="complex64 cannot be stored"):
        packed({"w": torch.zeros(2, dtype=torch.complex64)})


def test_the_writer_waits_in_its_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arrays become what they are while `wait` runs, long after `save` has returned."""
    array, saved = np.zeros(3), threading.Event()

    def arrive() -> None:
        assert saved.wait(30)
        assert threading.current_thread() is not threading.main_thread()
        array.fill(5)

    monkeypatch.setattr(snapshots, "started_copies", lambda _: Started({"w": array}, arrive))
    with SnapshotWriter(tmp_path) as writer:
        writer.save(1, {})
        saved.set()
    (file,) = (tmp_path / "snapshots").iterdir()
    assert load_file(file)["w"].tolist() == [5, 5, 5]


@needs_cuda
class TestOnTheDevice:
    def test_as_at_once(self) -> None:
        started = started_copies(tensors("cuda"))
        started.wait()
        assert_same(started.arrays, host_copies(tensors()))

    def test_later_changes_do_not_show(self) -> None:
        weight = torch.zeros(1 << 24, device="cuda")
        started = started_copies({"w": weight})
        for _ in range(100):
            weight.add_(1)
        started.wait()
        assert not started.arrays["w"].any()

    def test_saving_does_not_wait(self, tmp_path: Path) -> None:
        given = tensors("cuda")
        with SnapshotWriter(tmp_path) as writer:
            torch.cuda.set_sync_debug_mode("error")
            try:
                writer.save(1, given)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        (file,) = (tmp_path / "snapshots").iterdir()
        np.testing.assert_array_equal(load_file(file)["weight"], given["weight"].cpu().numpy())

    def test_beside_tensors_in_host_memory(self) -> None:
        given = {"far": torch.ones(2, device="cuda"), "near": torch.ones(2), "array": np.ones(2)}
        started = started_copies(given)
        started.wait()
        assert list(started.arrays) == ["far", "near", "array"]
        assert all((array == 1).all() for array in started.arrays.values())
