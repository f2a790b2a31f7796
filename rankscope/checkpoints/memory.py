"""Arrays and tensors that are in memory already: a mapping of names, or a torch module.

torch is never imported: a tensor is recognised by what it can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rankscope.checkpoints.closing import Closing
from rankscope.dtypes import FLOATS, OTHER_SIZES
from rankscope.errors import InputRejected
from rankscope.records import Listing, MatrixSpec, Skipped, TensorInfo

if TYPE_CHECKING:
    from rankscope.records import Stored

# What torch calls the layout of a dense tensor; NumPy arrays have no such attribute.
DENSE = "torch.strided"

# What torch.nn.LazyLinear and its like hold before their first input; even `shape` raises.
UNINITIALISED = ("UninitializedParameter", "UninitializedBuffer")


class MemoryCheckpoint(Closing):
    """A `Checkpoint` over arrays in memory; nothing is copied but the window that is read."""

    def __init__(self, tensors: Mapping[str, Any], title: str = "memory") -> None:
        self._tensors = dict(tensors)
        infos: list[TensorInfo] = []
        skipped: list[Skipped] = []
        for key, tensor in self._tensors.items():
            reason = _why_unreadable(key, tensor)
            if reason is None:
                size = tuple(int(n) for n in tensor.shape)
                name = getattr(tensor.dtype, "name", str(tensor.dtype).removeprefix("torch."))
                infos.append(TensorInfo(key, size, name))
            else:
                skipped.append(Skipped(str(key), reason))
        self._listing = Listing(title, "memory", tuple(infos), tuple(skipped))

    @property
    def listing(self) -> Listing:
        """What is in it."""
        return self._listing

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        tensor = self._tensors[spec.tensor]
        if spec.index:
            tensor = tensor[spec.index]
        # The reshape of a contiguous array is a view; of any other it copies this one tensor.
        window = tensor.reshape(spec.shape)[rows, columns]
        return as_numpy(window, self._listing.path)

    def close(self) -> None:
        """Nothing to release."""


def _why_unreadable(key: object, tensor: Any) -> str | None:
    """The reason why a member of a mapping is no dense array with a name, or None when it is."""
    kind = type(tensor).__name__
    if not isinstance(key, str):
        return f"its key is of type {type(key).__name__}, expected a name"
    if not all(hasattr(type(tensor), attribute) for attribute in ("shape", "dtype", "reshape")):
        return f"{kind}: not an array"
    if getattr(tensor, "is_meta", False) or kind in UNINITIALISED:
        return f"{kind}: has no numbers yet"
    if str(getattr(tensor, "layout", DENSE)) != DENSE:
        return f"{tensor.layout}: only dense tensors are supported"
    return None


def as_numpy(array: Any, path: str = "memory") -> Stored:
    """A NumPy array of the same numbers and, for every type that RankScope knows, the same type."""
    import numpy as np

    if not hasattr(array, "detach"):
        return np.asarray(array)
    tensor = array.detach().cpu()
    name = str(tensor.dtype).removeprefix("torch.")
    # Integers and powers of two are no weights, but may be the codes or the scales of some.
    if name not in FLOATS and not (
        name in OTHER_SIZES and name.startswith(("int", "uint", "float"))
    ):
        raise InputRejected(path, f"{name}: not a floating-point type")
    if name.startswith(("bfloat16", "float8")):
        # torch's numpy() knows neither; the bits pass through an integer of the same width.
        import ml_dtypes
        import torch

        bits = torch.int16 if name == "bfloat16" else torch.uint8
        raw: Stored = tensor.contiguous().view(bits).numpy()
        return raw.view(getattr(ml_dtypes, name))
    numbers: Stored = tensor.numpy()
    return numbers
