"""The tensors of a PyTorch model that may be wrapped, or spread over processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rankscope.errors import UsageError

if TYPE_CHECKING:
    import torch


def is_distributed() -> bool:
    """Whether several processes train together, through `torch.distributed`."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Of this process among those that train together; 0 for one by itself."""
    from torch import distributed

    return distributed.get_rank() if is_distributed() else 0


def world_size() -> int:
    """How many processes train together."""
    from torch import distributed

    return distributed.get_world_size() if is_distributed() else 1


def unwrapped(model: Any) -> Any:
    """The model itself, out of DataParallel, DistributedDataParallel and torch.compile.

    Its names are then those that any other program gives them.
    """
    from torch.nn import DataParallel, Module
    from torch.nn.parallel import DistributedDataParallel

    while True:
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        elif isinstance(model, Module) and hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def tensors_of(model: Any, *, wanted: bool) -> Any:
    """What `SnapshotWriter.save` takes; of a model that is spread over processes, all of it.

    Every process that trains has to call it, because a model that is spread (FSDP, tensors split
    over devices) is gathered by all of them.

    Args:
        model: a module, or anything that `SnapshotWriter.save` takes.
        wanted: whether this process writes; otherwise None comes back.

    Raises:
        UsageError: the model is spread by DeepSpeed's ZeRO-3, which keeps no tensors to be read.
    """
    from torch.nn import Module

    model = unwrapped(model)
    if not isinstance(model, Module) or not is_spread(model):
        return model if wanted else None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    gathered: Mapping[str, Any] = get_model_state_dict(model, options=options)
    return gathered if wanted else None


def is_spread(model: torch.nn.Module) -> bool:
    """Whether no process holds all of the model."""
    parameters = list(model.parameters())
    if any(hasattr(parameter, "ds_id") for parameter in parameters):
        raise UsageError(
            "the model is spread by DeepSpeed's ZeRO-3, which keeps no whole tensors: analyse its "
            "checkpoints instead, joined by their zero_to_fp32.py"
        )
    if not is_distributed():
        return False
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in parameters) or any(
        isinstance(module, FullyShardedDataParallel) for module in model.modules()
    )


def forward_on(model: torch.nn.Module, example: Any) -> Callable[[int], object]:
    """What `rankscope.matrix_records` runs: the model on the first samples of a batch.

    Args:
        model: called with a mapping's entries by name, a list's or tuple's by position.
        example: a tensor, or a mapping, list or tuple that has tensors in it; their first axis is
            the samples. At least 4 of them. What is no tensor is handed on as it is.
    """
    import torch

    device = next((parameter.device for parameter in model.parameters()), None)

    def cut(part: Any, count: int) -> Any:
        return part[:count].to(device) if isinstance(part, torch.Tensor) else part

    def forward(count: int) -> object:
        if isinstance(example, Mapping):
            return model(**{name: cut(part, count) for name, part in example.items()})
        if isinstance(example, list | tuple):
            return model(*(cut(part, count) for part in example))
        return model(cut(example, count))

    return forward
