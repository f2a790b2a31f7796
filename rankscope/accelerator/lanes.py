"""The way from host memory to a device: staged, sent while the device works, received.

On a card: page-locked memory, a stream of its own for copies, an event that computing waits for.
On the host nothing is to be done, and all else is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from rankscope.records import Stored

# A type that NumPy has none of travels as the integers that its bits are.
BITS: dict[str, tuple[type[np.generic], torch.dtype]] = {
    "bfloat16": (np.int16, torch.bfloat16),
    "float8_e4m3fn": (np.uint8, torch.float8_e4m3fn),
    "float8_e5m2": (np.uint8, torch.float8_e5m2),
}

PLAIN: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
}

Receive = Callable[[], torch.Tensor]


class Lane(Protocol):
    """Takes arrays to a device."""

    @property
    def device(self) -> torch.device:
        """Where to."""

    def staged(self, array: Stored) -> torch.Tensor:
        """A copy in host memory that can be sent; called in any thread."""

    def sent(self, staged: torch.Tensor) -> Receive:
        """Begin to copy; what is returned makes the device wait for it, and gives the copy."""

    def finish(self) -> None:
        """Wait until the device has done all it was told."""

    def release(self) -> None:
        """Give memory that nobody uses any more back to the device."""

    def active(self) -> AbstractContextManager[object]:
        """What allocates without saying where does so here, within the context."""


class HostLane:
    """The host as a device: for tests, and to follow what a card would do."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def staged(self, array: Stored) -> torch.Tensor:
        """A copy of the array."""
        return _copied(array, pinned=False)

    def sent(self, staged: torch.Tensor) -> Receive:
        """Nothing to do: it is there."""
        return lambda: staged

    def finish(self) -> None:
        """The host does what it is told at once."""

    def release(self) -> None:
        """Nothing is kept."""

    def active(self) -> AbstractContextManager[object]:
        """Nothing to switch to."""
        return nullcontext()


class CudaLane:
    """A card.

    Args:
        device: with its number.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # none there

    def staged(self, array: Stored) -> torch.Tensor:
        """A copy of the array in page-locked memory, in ordinary memory where there is none."""
        with self.active():
            try:
                return _copied(array, pinned=True)
            except RuntimeError:
                return _copied(array, pinned=False)

    def sent(self, staged: torch.Tensor) -> Receive:
        """Begin to copy on the stream that is there for it."""
        with torch.cuda.stream(self._stream):
            copy = staged.to(self.device, non_blocking=True)
            there = self._stream.record_event()

        def receive() -> torch.Tensor:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(there)
            copy.record_stream(stream)  # or its memory would be used again too early
            return copy

        return receive

    def finish(self) -> None:
        """Wait for all streams."""
        torch.cuda.synchronize(self.device)

    def release(self) -> None:
        """Empty the cache of PyTorch's allocator."""
        torch.cuda.empty_cache()

    def active(self) -> AbstractContextManager[object]:
        """This card is the current one."""
        context: AbstractContextManager[object] = torch.cuda.device(self.device)
        return context


def lane_of(device: str) -> Lane:
    """The way to a device: `cpu` or `cuda:N`."""
    return HostLane() if device == "cpu" else CudaLane(torch.device(device))


def _copied(array: Stored, *, pinned: bool) -> torch.Tensor:
    """A copy of an array in this machine's byte order, shape and type as the array's."""
    name = array.dtype.name
    bits, dtype = BITS.get(name, (None, PLAIN.get(name, torch.float64)))
    raw: Any = array if bits is None else array.view(bits)
    whole = torch.empty(array.shape, dtype=_raw(bits, dtype), pin_memory=pinned)
    whole.numpy()[...] = raw
    return whole if bits is None else whole.view(dtype)


def _raw(bits: type[np.generic] | None, dtype: torch.dtype) -> torch.dtype:
    if bits is None:
        return dtype
    return torch.int16 if bits is np.int16 else torch.uint8


@contextmanager
def full_float32() -> Iterator[None]:
    """Products of float32 in float32: on a card that has it, not in TF32's 11 bits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
