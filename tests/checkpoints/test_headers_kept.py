"""A header that was read is not interpreted again, and never taken for another one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from rankscope.checkpoints import dcp_metadata, open_checkpoint, torchzip
from rankscope.checkpoints.inert_pickle import MAX_PICKLE_BYTES, interpret
from rankscope.errors import InputRejected
from tests.checkpoints.dcp_dirs import craft


def save_dcp(path: Path, name: str) -> Path:
    craft(path, {name: (torch.ones(4, 3), [((0, 0), (2, 3)), ((2, 0), (2, 3))])})
    return path


def save_torch(path: Path, name: str) -> Path:
    path.mkdir(exist_ok=True)
    torch.save({name: torch.ones(4, 3)}, path / "pytorch_model.bin")
    return path


Save = Callable[[Path, str], Path]
SAVES: list[Save] = [save_dcp, save_torch]


def names(path: Path) -> list[str]:
    with open_checkpoint(path) as checkpoint:
        return [tensor.name for tensor in checkpoint.listing.tensors]


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A note of every pickle that is interpreted: its length."""
    lengths: list[int] = []

    def noted(data: bytes, *more: object) -> object:
        lengths.append(len(data))
        return interpret(data, *more)  # type: ignore[arg-type]

    for module in (dcp_metadata, torchzip):
        monkeypatch.setattr(module, "interpret", noted)
    dcp_metadata._parsed.cache_clear()
    torchzip._leaves.cache_clear()
    return lengths


@pytest.mark.parametrize("save", SAVES)
def test_once_for_every_task_of_a_process(
    tmp_path: Path, interpreted: list[int], save: Save
) -> None:
    path = save(tmp_path / "m", "w")
    for wanted in (None, {"w"}, {"w"}):
        open_checkpoint(path, wanted).close()
    assert len(interpreted) == 1


@pytest.mark.parametrize("save", SAVES)
def test_a_file_that_was_replaced(tmp_path: Path, interpreted: list[int], save: Save) -> None:
    for name in ("v", "w", "v"):
        assert names(save(tmp_path / "m", name)) == [name]
    assert len(interpreted) == 3


@pytest.mark.parametrize("save", SAVES)
def test_what_was_refused_is_refused_again(
    tmp_path: Path, interpreted: list[int], save: Save
) -> None:
    path = save(tmp_path / "m", "w" * 2000)
    for _ in range(2):
        with pytest.raises(InputRejected, match="name of 2000 characters"):
            open_checkpoint(path)


@pytest.mark.parametrize("save", SAVES)
def test_threads_that_open_different_ones(tmp_path: Path, save: Save) -> None:
    paths = [save(tmp_path / f"m{i}", f"w{i}") for i in range(3)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(names, paths * 20))
    assert found == [["w0"], ["w1"], ["w2"]] * 20


def test_metadata_too_large_tell_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_dcp(tmp_path / "m", "w")
    monkeypatch.setattr(dcp_metadata, "MAX_OPCODES", 100)
    advice = "dcp_to_torch DIRECTORY FILE"
    with pytest.raises(InputRejected, match=f"more than 100 opcodes: .*{advice}"):
        open_checkpoint(path)
    with open(path / ".metadata", "ab") as file:
        file.truncate(MAX_PICKLE_BYTES + 1)
    with pytest.raises(InputRejected, match=f"expected at most 64000000: .*{advice}"):
        open_checkpoint(path)
