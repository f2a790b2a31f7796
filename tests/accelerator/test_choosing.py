"""Which device a name stands for, and when `auto` takes a card."""

from __future__ import annotations

import builtins
import ctypes
import importlib.util
import re
import sys
from typing import Any

import pytest
import torch

from rankscope.accelerator import choosing, devices_for
from rankscope.accelerator.choosing import CORE_FLOPS, START_SECONDS, WORTH_STARTS, check_device
from rankscope.errors import UsageError

MUCH = 1e30
CORES = 4
WORTH = WORTH_STARTS * START_SECONDS * CORE_FLOPS * CORES


@pytest.fixture
def cards(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many cards, as the driver and PyTorch tell."""
    monkeypatch.setattr(choosing, "_driver_cards", lambda: request.param)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    monkeypatch.setattr(choosing, "available_cores", lambda: CORES)


with_cards = pytest.mark.parametrize("cards", [3], indirect=True)


@with_cards
@pytest.mark.usefixtures("cards")
class TestWithThree:
    @pytest.mark.parametrize(
        ("device", "expected"),
        [
            ("cpu", ("cpu",)),
            ("cuda", ("cuda:0",)),
            ("cuda:2", ("cuda:2",)),
            ("cuda:*", ("cuda:0", "cuda:1", "cuda:2")),
        ],
    )
    def test_a_name(self, device: str, expected: tuple[str, ...]) -> None:
        assert devices_for(device, 0.0) == expected

    @pytest.mark.parametrize(
        ("flops", "count"), [(0.9, 0), (1.01, 1), (1.9, 1), (2.1, 2), (3.1, 3), (1e9, 3)]
    )
    def test_auto_takes_what_the_work_is_worth(self, flops: float, count: int) -> None:
        expected = tuple(f"cuda:{index}" for index in range(count)) or ("cpu",)
        assert devices_for("auto", flops * WORTH) == expected

    def test_one_too_many(self) -> None:
        reason = "device cuda:3: there is no such card, expected cuda:0 to cuda:2"
        with pytest.raises(UsageError, match=re.escape(reason)):
            devices_for("cuda:3", MUCH)

    def test_without_torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        assert devices_for("auto", MUCH) == ("cpu",)
        with pytest.raises(UsageError, match=r"^device cuda:\* needs torch.*: pip install torch$"):
            devices_for("cuda:*", MUCH)


@pytest.mark.parametrize("cards", [1], indirect=True)
@pytest.mark.usefixtures("cards")
def test_of_one_card_the_second() -> None:
    with pytest.raises(UsageError, match="no such card, expected only cuda:0"):
        devices_for("cuda:1", MUCH)


@pytest.mark.parametrize("cards", [0], indirect=True)
@pytest.mark.usefixtures("cards")
class TestWithNone:
    def test_auto_is_the_cpu(self) -> None:
        assert devices_for("auto", MUCH) == ("cpu",)

    def test_a_torch_without_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.version, "cuda", None)
        with pytest.raises(UsageError, match="is built without CUDA: install a build with it"):
            devices_for("cuda", MUCH)

    def test_hidden_cards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        with pytest.raises(UsageError, match="torch finds no card: look at nvidia-smi and at CUDA"):
            devices_for("cuda:*", MUCH)


@pytest.mark.parametrize(
    "name",
    ["", "gpu", "cuda:", "cuda:-1", "cuda:a", "cuda:1\n", "CUDA", "cuda:99999", "cuda:\u0661"],
)
def test_no_name_of_a_device(name: str) -> None:
    with pytest.raises(UsageError, match=r"expected auto, cpu, cuda, cuda:N or cuda:\*"):
        check_device(name)


class Driver:
    """libcuda, of two cards; `status` is what its functions return."""

    status = 0

    def __init__(self, name: str) -> None:
        assert name.startswith(("libcuda", "nvcuda"))

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 2
        return self.status


def test_what_the_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", Driver)
    assert choosing._driver_cards() == 2
    monkeypatch.setattr(Driver, "status", 100)  # CUDA_ERROR_NO_DEVICE
    assert choosing._driver_cards() == 0


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert choosing._driver_cards() == 0


def test_auto_without_a_card_imports_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    right = builtins.__import__

    def guarded(name: str, *arguments: Any, **named: Any) -> Any:
        assert name != "torch"
        return right(name, *arguments, **named)

    monkeypatch.setattr(choosing, "_driver_cards", lambda: 0)
    monkeypatch.setattr(builtins, "__import__", guarded)
    monkeypatch.delitem(sys.modules, "torch")
    assert devices_for("auto", MUCH) == ("cpu",)
