"""A forward pass of a PyTorch model that is watched, and leaves no trace in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from rankscope.inputcounts.places import storage_of, tensors_in

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module

# The operation's name (`aten::mm`), its arguments and its result.
See = Callable[[str, Sequence[Any], object], None]


@contextmanager
def trial(model: Module, see: See) -> Iterator[None]:
    """Show `see` every operation that runs inside, in the order in which they run.

    Nothing computes gradients, and no layer runs as one fused operation. In the end parameters,
    buffers and PyTorch's random numbers are as they were. What else a forward pass changes (an
    attribute that is no buffer, a list that a hook appends to) stays changed.
    """
    import torch

    # Copied when they are about to be written to: copies of all would take too much memory.
    written: dict[object, list[tuple[Tensor, Tensor]]] = {}
    parameters = list(model.parameters())

    def about_to_write(tensor: Tensor) -> None:
        key = storage_of(tensor)
        if key is not None and key not in written:
            same = [parameter for parameter in parameters if storage_of(parameter) == key]
            written[key] = [(parameter, parameter.clone()) for parameter in same]

    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        _without_fused_layers(stack)
        _same_random_numbers(stack, {parameter.device for parameter in parameters})
        for module in model.modules():
            stack.callback(_set_back, module._buffers, dict(module._buffers))
        # Not when they are about to be written to: batch norm's operation does not say that it is.
        stack.callback(_restore, [(buffer, buffer.clone()) for buffer in model.buffers()])
        stack.callback(lambda: _restore(chain.from_iterable(written.values())))
        stack.enter_context(_watching(see, about_to_write))
        yield


def _watching(see: See, about_to_write: Callable[[Tensor], None]) -> AbstractContextManager[object]:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self,
            func: Any,
            types: object,
            args: Sequence[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
        ) -> object:
            named = kwargs or {}
            result = NotImplemented
            if not any(tensor.is_nested for tensor in tensors_in(args)):
                with self:  # in inference mode, what consists of other operations comes whole
                    result = func.decompose(*args, **named)
            if result is NotImplemented:
                for tensor in _written(func._schema.arguments, args, named):
                    about_to_write(tensor)
                result = func(*args, **named)
                see(func._schema.name, [*args, *named.values()], result)
            return result

    return Watching()  # type: ignore[no-untyped-call]


def _written(
    declared: Sequence[Any], args: Sequence[Any], named: Mapping[str, Any]
) -> Iterator[Tensor]:
    """The arguments whose numbers an operation changes, as it declares them."""
    for position, argument in enumerate(declared):
        if argument.is_write:
            value = args[position] if position < len(args) else named.get(argument.name)
            yield from tensors_in(value)


def _without_fused_layers(stack: ExitStack) -> None:
    """Let attention, recurrent layers and casts run as separate operations until the stack ends."""
    import torch

    backends: Any = torch.backends  # the declarations do not know all that is there
    stack.callback(backends.mha.set_fastpath_enabled, backends.mha.get_fastpath_enabled())
    backends.mha.set_fastpath_enabled(False)
    for backend in (backends.cudnn, backends.mkldnn):
        stack.callback(setattr, backend, "enabled", backend.enabled)
        backend.enabled = False
    # A weight that was cast before would not be recognised.
    stack.callback(torch.set_autocast_cache_enabled, torch.is_autocast_cache_enabled())
    torch.set_autocast_cache_enabled(False)


def _same_random_numbers(stack: ExitStack, devices: Iterable[torch.device]) -> None:
    """Set the states of the CPU's and the devices' generators back when the stack ends."""
    import torch

    stack.enter_context(torch.random.fork_rng(devices=()))
    for device in devices:
        if device.type != "cpu":
            stack.enter_context(torch.random.fork_rng((device,), device_type=device.type))


def _set_back(names: dict[str, Any], before: dict[str, Any]) -> None:
    names.clear()
    names.update(before)


def _restore(tensors: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Give tensors their former numbers; those that have them may be views that refuse it."""
    import torch

    for tensor, before in tensors:
        if tensor.layout is not torch.strided or not torch.equal(tensor, before):
            tensor.copy_(before)
