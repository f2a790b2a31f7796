"""Where a run of P1's experiment stands, kept on disk so that a killed one goes on to the bit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from trainers.data import Augment
    from trainers.networks import Network

STATE = "state.pt"


@dataclass(slots=True)
class Training:
    """A run at the end of an epoch: everything that the next one depends on.

    Attributes:
        model: on its device.
        optimiser: of its parameters.
        augment: makes batches; its generator is part of the state.
        order: draws the order of the images.
        epoch: passes done.
        step: updates done.
    """

    model: Network
    optimiser: torch.optim.Optimizer
    augment: Augment
    order: torch.Generator
    epoch: int = 0
    step: int = 0

    def state(self) -> dict[str, Any]:
        """All of it as tensors and numbers."""
        import torch

        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "order": self.order.get_state(),
            "augment": self.augment.generator.get_state(),
            "torch": torch.get_rng_state(),  # dropout draws from it
            "cuda": torch.cuda.get_rng_state_all(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        import torch

        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.order.set_state(state["order"])
        self.augment.generator.set_state(state["augment"])
        torch.set_rng_state(state["torch"])
        torch.cuda.set_rng_state_all(state["cuda"])


def keep(training: Training, path: Path) -> None:
    """Write the state, whole or not at all."""
    import torch

    temporary = path.with_name(f".{path.name}.tmp")
    torch.save(training.state(), temporary)
    os.replace(temporary, path)
