"""What PyTorch's optimisers say of an update of the weight matrices, without importing PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rankscope.runrecord import Hyperparameters, Optimiser

# What the matrices do not share, or is not to be seen; the log has null for it. Not NaN, which
# equals nothing: each update would seem to change it.
UNKNOWN = math.inf


@dataclass(frozen=True, slots=True)
class Settings:
    """With what the weight matrices are updated.

    Each is `UNKNOWN` where they do not all share it, and None where the optimiser has none.

    Attributes:
        lr: the step size.
        weight_decay: PyTorch's.
        momentum: PyTorch's.
    """

    lr: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """How many samples an update is made of.

    Attributes:
        size: per device and step, before accumulation.
        accumulation: batches whose gradients make one step.
        world_size: devices whose gradients are averaged.
    """

    size: int
    accumulation: int = 1
    world_size: int = 1

    @property
    def whole(self) -> int:
        """Of all devices and accumulated batches."""
        return self.size * self.accumulation * self.world_size


class Optimisers:
    """The optimisers of a training: usually one.

    Biases and norms are often in a group without weight decay, which no matrix feels: groups count
    that hold a parameter of two axes or more. Where there is none, as in optimisers that flatten
    their parameters, all do.

    Args:
        optimisers: PyTorch's, or what wraps them; what has no groups of parameters, as what
            stands in for DeepSpeed's, is left out.
    """

    def __init__(self, optimisers: Iterable[Any]) -> None:
        inner = [innermost(one) for one in optimisers]
        self._inner = [one for one in inner if hasattr(one, "param_groups")]
        self._sizes = self._group_sizes()
        self._groups = self._matrix_groups()
        self._trained = [
            parameter
            for one in self._inner
            for group in one.param_groups
            for parameter in group["params"]
            if parameter.ndim > 1 and parameter.requires_grad
        ]

    def _group_sizes(self) -> list[list[int]]:
        """What tells that parameters were added, as layers that are unfrozen one by one are."""
        return [[len(group["params"]) for group in one.param_groups] for one in self._inner]

    def _matrix_groups(self) -> list[list[int]]:
        """Of each optimiser, the places of its groups that count: loading a state replaces them."""
        found = [
            [
                place
                for place, group in enumerate(one.param_groups)
                if any(parameter.ndim > 1 for parameter in group["params"])
            ]
            for one in self._inner
        ]
        if any(found):
            return found
        return [list(range(len(one.param_groups))) for one in self._inner]

    def settings(self) -> Settings:
        """As they are now."""
        if (sizes := self._group_sizes()) != self._sizes:
            self._sizes, self._groups = sizes, self._matrix_groups()
        # One that is frozen meanwhile stands still, whatever the learning rate of its group.
        trained = all(parameter.requires_grad for parameter in self._trained)
        lr = self._shared("lr") if trained else UNKNOWN
        return Settings(lr, self._shared("weight_decay"), self._shared("momentum"))

    def _shared(self, key: str) -> float | None:
        values = {
            _number(one.param_groups[place].get(key))
            for one, places in zip(self._inner, self._groups, strict=True)
            for place in places
        }
        if not values:
            return None
        return values.pop() if len(values) == 1 else UNKNOWN

    def updates(self, parameter: Any) -> bool:
        """Whether they update a parameter; without optimisers, any that has gradients."""
        return bool(parameter.requires_grad) and (not self._inner or self.holds(parameter))

    def holds(self, parameter: Any) -> bool:
        """Whether a parameter is in a group of theirs."""
        return any(
            one is parameter
            for inner in self._inner
            for group in inner.param_groups
            for one in group["params"]
        )

    def record(self) -> Optimiser | None:
        """What run.json says of them; None where there are none."""
        if not self._inner:
            return None
        names = sorted({type(one).__name__.lower() for one in self._inner})
        group = self._inner[0].param_groups[self._groups[0][0] if self._groups[0] else 0]
        momentum = self._shared("momentum")
        several = len(self._inner) > 1 or momentum == UNKNOWN
        # The bound is about one optimiser that treats all matrices alike; this name gets none.
        name = f"several: {', '.join(names)}" if several else names[0]
        return Optimiser(
            name,
            0.0 if momentum is None or several else momentum,
            nesterov=bool(group.get("nesterov", False)),
            dampening=_number(group.get("dampening")) or 0.0,
        )

    def hyperparameters(self, batch: Batch | None) -> Hyperparameters | None:
        """What run.json says of the first update; None where not all of it is known."""
        now = self.settings()
        if batch is None or now.lr is None or now.weight_decay is None:
            return None
        if UNKNOWN in (now.lr, now.weight_decay):
            return None
        return Hyperparameters(
            batch_size=batch.size,
            lr=now.lr,
            weight_decay=now.weight_decay,
            world_size=batch.world_size,
            accumulation=batch.accumulation,
        )


def innermost(optimiser: Any) -> Any:
    """PyTorch's own, out of Accelerate's or Lightning's, which keep it in `optimizer`."""
    inner = getattr(optimiser, "optimizer", None)
    return optimiser if inner is None else innermost(inner)


def _number(value: Any) -> float | None:
    """A plain number; `UNKNOWN` for a tensor on a device, which training would have to wait for."""
    if value is None:
        return None
    device = getattr(value, "device", None)
    return float(value) if device is None or device.type == "cpu" else UNKNOWN
