"""Which of PyTorch's tensors are one under two names: an embedding and its output layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def location(tensor: Any) -> object:
    """What two PyTorch tensors share when they are the same numbers in the same place."""
    try:
        return (
            tensor.data_ptr(),
            tuple(tensor.shape),
            tensor.stride(),
            tensor.dtype,
            tensor.device,
        )
    # Not PyTorch's; sparse, without one memory; of a lazy module that has seen no input yet.
    except (AttributeError, RuntimeError, ValueError):
        return None


def tied_names(tensors: Mapping[str, Any]) -> dict[str, str]:
    """From each name of PyTorch tensors that are the same ones under an earlier name to that."""
    first: dict[object, str] = {}
    tied: dict[str, str] = {}
    for name, tensor in tensors.items():
        place = location(tensor)
        if place is None or not tensor.numel():  # what has no entries has no place of its own
            continue
        if place in first:
            tied[name] = first[place]
        else:
            first[place] = name
    return tied
