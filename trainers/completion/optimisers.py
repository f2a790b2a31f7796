"""P2's eleven optimisers, as PyTorch has them, on batches of networks.

All of them work on each element by itself, with scalars that depend on the number of steps only:
one optimiser on layers of shape (batch, d_j, d_{j-1}) does to each network of the batch what it
would do to that network alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainers.completion.cell import MOMENTUM, OptimiserName

# All other hyperparameters are PyTorch's defaults (P2, appendix A.1 and A.3); AdamW's weight decay
# of 0.01 is one of them.
CLASSES: Mapping[OptimiserName, type[Optimizer]] = MappingProxyType(
    {
        "gd": torch.optim.SGD,
        "momentum": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "amsgrad": torch.optim.Adam,
        "adamax": torch.optim.Adamax,
        "adamw": torch.optim.AdamW,
        "nadam": torch.optim.NAdam,
        "radam": torch.optim.RAdam,
        "adagrad": torch.optim.Adagrad,
        "adadelta": torch.optim.Adadelta,
        "rmsprop": torch.optim.RMSprop,
    }
)


def build(name: OptimiserName, layers: Sequence[Tensor], lr: float) -> Optimizer:
    """An optimiser of these layers, which reads their `grad`."""
    options: dict[str, float | bool] = {"lr": lr}
    if name == "momentum":
        options["momentum"] = MOMENTUM
    if name == "amsgrad":
        options["amsgrad"] = True
    return CLASSES[name](list(layers), **options)  # type: ignore[arg-type]


def weight_decay(name: OptimiserName) -> float:
    """PyTorch's default, which is what it is trained with."""
    decay: float = build(name, [torch.zeros(1)], 1.0).defaults["weight_decay"]
    return decay


def keep(optimiser: Optimizer, positions: Tensor) -> list[Tensor]:
    """Go on with some networks of the batch only; they go on as if nothing had happened.

    Args:
        optimiser: of `build`; changed in place.
        positions: of those that stay, shape (kept,), int64.

    Returns:
        The layers that it works on from now on.
    """
    (group,) = optimiser.param_groups
    layers = []
    for old in group["params"]:
        new = old[positions]
        state = optimiser.state.pop(old, {})
        # What is per element has the layer's shape; the number of steps is one for all.
        optimiser.state[new] = {
            key: value[positions] if torch.is_tensor(value) and value.shape == old.shape else value
            for key, value in state.items()
        }
        layers.append(new)
    group["params"] = layers
    return layers
