"""Which devices matrices are decomposed on."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys

from rankscope.errors import UsageError
from rankscope.executors import available_cores

CPU = "cpu"

CARD = re.compile(r"cuda(?::(\d{1,4}|\*))?", re.ASCII)

# What a core does by the Gram route: 728 GFLOP in 11.8 s on two of them (docs/performance.md).
CORE_FLOPS = 3.1e10

# Before a card decomposes anything, its process imports PyTorch (1.7 s, docs/performance.md), opens
# a context and loads cuBLAS and cuSOLVER. The latter two are reckoned, not measured: about 2 s.
START_SECONDS = 4.0

# `auto` takes a card, and each further one, for what all cores would take so many times as long
# for as a card takes to start.
WORTH_STARTS = 3.0


def check_device(device: str) -> None:
    """Raise `UsageError` for what is no name of a device; whether it is there is not looked at."""
    if device not in ("auto", CPU) and not CARD.fullmatch(device):
        expected = "auto, cpu, cuda, cuda:N or cuda:*"
        raise UsageError(f"device is {device!r}, expected {expected}")


def devices_for(device: str, flops: float) -> tuple[str, ...]:
    """The devices that matrices of so much work are decomposed on, at least one.

    Args:
        device: cpu; cuda for the first card; cuda:N; cuda:* for every card; or auto: as many cards
            as the work is worth, none without PyTorch, else cpu. What CUDA_VISIBLE_DEVICES hides
            is not there, and numbers count what it shows.
        flops: floating-point operations of the Gram route.

    Returns:
        `("cpu",)`, or names of cards such as `("cuda:0", "cuda:1")`.

    Raises:
        UsageError: no such device, or no PyTorch that could use it.
    """
    check_device(device)
    if device == CPU:
        return (CPU,)
    if device == "auto":
        return _worthwhile(flops)
    count = _usable_cards(device)
    which = device.partition(":")[2]
    if which == "*":
        return tuple(f"cuda:{index}" for index in range(count))
    index = int(which or 0)
    if index >= count:
        there = "only cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise UsageError(f"device {device}: there is no such card, expected {there}")
    return (f"cuda:{index}",)


def _worthwhile(flops: float) -> tuple[str, ...]:
    """As many cards as there is work for; each question costs more than the one before."""
    wanted = int(flops / (WORTH_STARTS * START_SECONDS * CORE_FLOPS * available_cores()))
    if wanted < 1 or importlib.util.find_spec("torch") is None or _driver_cards() < 1:
        return (CPU,)
    count = _torch_cards()
    return tuple(f"cuda:{index}" for index in range(min(wanted, count))) or (CPU,)


def _driver_cards() -> int:
    """How many cards the driver shows; 0 without one. PyTorch is not needed, no context opened."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return 0
    count = ctypes.c_int(0)
    # Both return CUDA_SUCCESS, 0 (CUDA driver API, "Initialization" and "Device Management").
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _torch_cards() -> int:
    """How many cards PyTorch can use."""
    import torch

    return torch.cuda.device_count()


def _usable_cards(device: str) -> int:
    """As `_torch_cards`, at least 1; or why not."""
    if importlib.util.find_spec("torch") is None:
        raise UsageError(f"device {device} needs torch, which is not installed: pip install torch")
    import torch

    count = _torch_cards()
    if count:
        return count
    if torch.version.cuda is None and torch.version.hip is None:
        found = f"torch {torch.__version__} is built without CUDA"
        raise UsageError(f"device {device}: {found}: install a build with it, or use --device cpu")
    raise UsageError(
        f"device {device}: torch finds no card: look at nvidia-smi and at CUDA_VISIBLE_DEVICES, "
        "or use --device cpu"
    )
