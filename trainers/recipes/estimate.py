"""What a run will take, from its choices alone: updates, images, and space on the disk."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.imageargs import Args
from trainers.recipes.datasets import size_of
from trainers.schedule import burst_steps, snapshot_epochs

CLASSES = 10  # of every data set here

SIGMA = 8  # bytes of a singular value
SAID = 150  # bytes that a file of spectra says of each tensor: measured on ResNet-18


@dataclass(frozen=True, slots=True)
class Estimate:
    """A run's size.

    Attributes:
        updates: of the weights.
        images: passed forward and backward in training.
        disk: bytes of the snapshots, and of the state that stays for going on: the weights, and
            the momentum if there is one.
    """

    updates: int
    images: int
    disk: int


def estimate(args: Args) -> Estimate:
    """The size of a run, the network being built without its numbers.

    Raises:
        UsageError: there is no such network or data set, or they do not go together.
    """
    import torch

    from trainers.networks import build

    size = size_of(args.data)
    with torch.device("meta"):
        model = build(args.arch, size.shape, CLASSES, leaky_relu=args.leaky_relu)
    updates = min(size.train, args.limit or size.train) // args.batch_size
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    parameters = sum(tensor.nbytes for tensor in model.parameters())
    shapes = [tensor.flatten(1).shape for tensor in model.parameters() if tensor.ndim > 1]
    spectra = SIGMA * sum(min(shape) for shape in shapes) + SAID * len(model.state_dict())
    snapshot = {"weights": weights, "spectra": spectra, "both": weights + spectra}[args.save]
    due = snapshot_epochs(args.epochs, args.snapshots, args.every)
    saved = len(due) + len(burst_steps(due, updates, args.burst)) + len(args.steps)
    state = weights + (parameters if args.momentum else 0)
    return Estimate(
        updates=args.epochs * updates,
        images=args.epochs * updates * args.batch_size,
        disk=state + saved * snapshot,
    )
