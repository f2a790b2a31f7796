"""Private copies of tensors on a CUDA device, brought to host memory while training goes on.

Copied on the device first, all into one piece, at its memory's speed; the piece then goes to
page-locked memory on a stream of its own. Nothing waits but who wants to read the copies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rankscope.dtypes import numpy_dtype
from rankscope.hostcopy import checked_dtype, host_copies, is_torch
from rankscope.tying import location

if TYPE_CHECKING:
    from rankscope.records import Stored


@dataclass(frozen=True, slots=True)
class Started:
    """Copies on their way.

    Attributes:
        arrays: name -> C-contiguous array, not to be read before `wait` has returned.
        wait: returns when they are there; may be called from another thread, and twice.
    """

    arrays: dict[str, Stored]
    wait: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a piece of bytes a tensor lies."""

    start: int
    end: int
    dtype: str
    shape: tuple[int, ...]


def started_copies(tensors: Mapping[str, Any]) -> Started:
    """As `host_copies`, without waiting for tensors on a CUDA device.

    Raises:
        UsageError: as `host_copies`.
    """
    devices: dict[Any, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if is_torch(tensor) and tensor.device.type == "cuda" and not tensor.is_sparse:
            devices.setdefault(tensor.device, {})[name] = tensor
    far = {name for group in devices.values() for name in group}
    arrays = host_copies({name: tensors[name] for name in tensors if name not in far})
    waits = []
    for device, group in devices.items():
        piece, places = packed(group)
        copied, wait = _sent(piece, device)
        arrays |= unpacked(copied, places)
        waits.append(wait)

    def wait_for_all() -> None:
        for one in waits:
            one()

    return Started({name: arrays[name] for name in tensors}, wait_for_all)


def packed(tensors: Mapping[str, Any]) -> tuple[Any, dict[str, Place]]:
    """The tensors' bytes in one uint8 tensor on their device; tied ones share a place."""
    import torch

    dtypes = {name: checked_dtype(name, tensor) for name, tensor in tensors.items()}
    # Largest elements first, so that each array is aligned.
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    tied: dict[object, Place] = {}
    places: dict[str, Place] = {}
    parts = []
    end = 0
    for name in order:
        tensor, key = tensors[name].detach(), location(tensors[name])
        if key not in tied:
            size = tensor.numel() * tensor.element_size()
            parts.append(tensor.contiguous().reshape(-1).view(torch.uint8))
            tied[key] = Place(end, end + size, dtypes[name], tuple(tensor.shape))
            end += size
        places[name] = tied[key]
    # Of a single tensor, torch.cat makes a copy too.
    return torch.cat(parts), places


def unpacked(piece: Stored, places: Mapping[str, Place]) -> dict[str, Stored]:
    """The arrays within the bytes, not copied; those of one place are one array."""
    arrays = {
        place: piece[place.start : place.end].view(numpy_dtype(place.dtype)).reshape(place.shape)
        for place in places.values()
    }
    return {name: arrays[place] for name, place in places.items()}


def _sent(piece: Any, device: Any) -> tuple[Stored, Callable[[], None]]:
    """Page-locked memory that a piece is being copied to, and what waits for that."""
    import torch

    with torch.cuda.device(device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        piece.record_stream(stream)  # whose memory is free for others when that is done
        with torch.cuda.stream(stream):
            host = torch.empty(len(piece), dtype=torch.uint8, pin_memory=True)
            host.copy_(piece, non_blocking=True)
        done = stream.record_event()
    array: Stored = host.numpy()
    return array, done.synchronize
