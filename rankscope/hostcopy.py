"""Private copies in host memory of the tensors of a model, whatever framework they are of.

PyTorch is not imported: its tensors are known by their methods. What has a `dtype` and turns
into a NumPy array is taken as well.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rankscope.dtypes import FLOATS, OTHER_SIZES, itemsize, numpy_dtype
from rankscope.errors import UsageError

if TYPE_CHECKING:
    from rankscope.records import Stored
from rankscope.tying import location

# What every snapshot format stores; complex weights have no spectrum here either.
STORABLE = frozenset(FLOATS) | {name for name in OTHER_SIZES if not name.startswith("complex")}

# Bytes -> a PyTorch type that NumPy has too.
CARRIERS = {1: "uint8", 2: "int16"}


def named_tensors(source: object) -> Mapping[str, Any]:
    """Name -> tensor, from a module (its `state_dict()`), a state dict or any mapping."""
    state_dict = getattr(source, "state_dict", None)
    tensors = state_dict() if callable(state_dict) else source
    if not isinstance(tensors, Mapping):
        raise UsageError(
            f"cannot save a {type(source).__name__}, expected a model with state_dict() "
            "or a mapping of names to tensors"
        )
    return tensors


def host_copies(tensors: Mapping[str, Any]) -> dict[str, Stored]:
    """C-contiguous arrays that nobody else can change; tied tensors share one copy.

    Raises:
        UsageError: something is not a tensor, or of a type that cannot be stored.
    """
    copies: dict[str, Stored] = {}
    tied: dict[object, Stored] = {}
    for name, tensor in tensors.items():
        key = location(tensor)
        if key is None or key not in tied:
            copies[name] = _host_copy(name, tensor)
        else:
            copies[name] = tied[key]
        if key is not None:
            tied[key] = copies[name]
    return copies


def copies_in_place(tensors: Mapping[str, Any], host: Mapping[str, Stored]) -> dict[str, Any]:
    """Private copies, on a CUDA device of what lies there, else as arrays in host memory.

    Args:
        tensors: name -> tensor.
        host: host copies of some of them, which are taken where they are as good.

    Raises:
        UsageError: as `host_copies`.
    """
    copies: dict[str, Any] = {
        name: tensor.detach().clone() for name, tensor in tensors.items() if on_cuda(tensor)
    }
    for device in {tensor.device for tensor in copies.values()}:
        # The thread that measures them works on another stream.
        sys.modules["torch"].cuda.current_stream(device).synchronize()
    others = {name: tensor for name, tensor in tensors.items() if name not in copies}
    copied = {name: host[name] for name in others if name in host}
    missing = {name: tensor for name, tensor in others.items() if name not in copied}
    return {**copies, **copied, **host_copies(missing)}


def on_cuda(tensor: Any) -> bool:
    """Whether a tensor is on a device that computes in float64, which Apple's, say, does not."""
    return is_torch(tensor) and tensor.device.type == "cuda"


def _on_device(tensor: Any) -> bool:
    return is_torch(tensor) and tensor.device.type != "cpu"


def checked_dtype(name: str, tensor: Any) -> str:
    """The type's name, as NumPy has it.

    Raises:
        UsageError: it is not a tensor, or of a type that cannot be stored.
    """
    if not isinstance(name, str) or not hasattr(tensor, "dtype") or not hasattr(tensor, "shape"):
        raise UsageError(
            f"{name!r} is a {type(tensor).__name__}, expected a tensor under a string: "
            "pass model.state_dict(), not a whole training state"
        )
    dtype = str(tensor.dtype).removeprefix("torch.") if is_torch(tensor) else tensor.dtype.name
    if dtype not in STORABLE:
        raise UsageError(
            f"{name}: {dtype} cannot be stored, expected {', '.join(sorted(STORABLE))}"
        )
    return dtype


def _host_copy(name: str, tensor: Any) -> Stored:
    import numpy as np

    dtype = checked_dtype(name, tensor)
    shared = _torch_array(name, tensor, dtype) if is_torch(tensor) else np.asarray(tensor)
    # What came off a device is ours already; what lay in host memory is the training loop's.
    ours = _on_device(tensor)
    return np.array(shared, dtype=numpy_dtype(dtype), order="C", copy=None if ours else True)


def is_torch(tensor: Any) -> bool:
    """Whether it is a tensor of PyTorch's, by its methods."""
    return hasattr(tensor, "detach") and hasattr(tensor, "cpu")


def _torch_array(name: str, tensor: Any, dtype: str) -> Stored:
    """The tensor in host memory, its own memory when it lies there."""
    try:
        host = tensor.detach().cpu()
        if not dtype.startswith(("bfloat16", "float8")):
            array: Stored = host.numpy()
            return array
        # NumPy's bridge knows no such type: pass it through as integers of the same width.
        # PyTorch has been imported, or there were no tensor.
        carrier = getattr(sys.modules["torch"], CARRIERS[itemsize(dtype)])
        return host.view(carrier).numpy().view(numpy_dtype(dtype))  # type: ignore[no-any-return]
    except (RuntimeError, TypeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{name}: cannot be copied to host memory: {reason}") from error
