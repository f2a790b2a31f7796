"""Where a run of P1's experiment stands, kept on disk so that a killed one goes on to the bit."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankscope.errors import InputRejected

if TYPE_CHECKING:
    import torch

    from rankscope.snapshots import SnapshotWriter
    from trainers.data import Augment
    from trainers.imageargs import Args
    from trainers.networks import Network

STATE = "state.pt"

# The share of a run that writing its state may take: half of what snapshots in all may.
KEPT_SHARE = 0.01


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
        fused = [group["fused"] for group in self.optimiser.param_groups]
        self.optimiser.load_state_dict(state["optimiser"])
        for group, own in zip(self.optimiser.param_groups, fused, strict=True):
            group["fused"] = own  # the device's, not the run's
        self.epoch, self.step = state["epoch"], state["step"]
        self.order.set_state(state["order"])
        self.augment.generator.set_state(state["augment"])
        torch.set_rng_state(state["torch"])
        torch.cuda.set_rng_state_all(state["cuda"])


@dataclass(slots=True)
class Keeper:
    """Writes the state so often that it costs little of the run, and a kill little of the work.

    Attributes:
        path: the file.
        cost: seconds that it took last, with what it had to wait for.
        ended: when that was.
    """

    path: Path
    cost: float = 0.0
    ended: float = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time; always for the first one."""
        return time.monotonic() - self.ended >= self.cost / KEPT_SHARE

    def keep(self, training: Training, writer: SnapshotWriter) -> None:
        """Write the state, whole or not at all, when every snapshot before it is on the disk."""
        import torch

        began = time.monotonic()
        writer.flush()  # the state must not be ahead of the snapshots
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        torch.save(training.state(), temporary)
        os.replace(temporary, self.path)
        self.ended = time.monotonic()
        self.cost = self.ended - began


def finished(args: Args) -> bool:
    """Whether the run that lies in the directory has come to its end.

    Raises:
        InputRejected: what is kept of it cannot be read.
    """
    import torch

    path = args.out / STATE
    if not path.exists():
        return False
    try:  # mapped, as of all of it only one number is wanted
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return bool(state["epoch"] >= args.epochs)
    except (RuntimeError, OSError, KeyError, TypeError) as error:
        reason = "is no state of a run; remove the run's directory to start it again"
        raise InputRejected(path, reason) from error
