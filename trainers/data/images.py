"""A data set as tensors, and a part of it in which all classes are equally frequent."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from rankscope.errors import UsageError


@dataclass(frozen=True, slots=True)
class Images:
    """A data set.

    Attributes:
        train_images: uint8 as the files have them, or float32; shape (samples, channels, height,
            width).
        train_labels: int64 from 0 to classes - 1, shape (samples,).
        test_images: like `train_images`.
        test_labels: like `train_labels`.
        classes: how many there are.
        name: what it is called on the command line.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    name: str

    def to(self, device: torch.device | str) -> Images:
        """The same on a device."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )

    def limited(self, limit: int, seed: int) -> Images:
        """At most `limit` training images and at most `limit` test images.

        Raises:
            UsageError: the limit is below 1.
        """
        if limit < 1:
            raise UsageError(f"limit is {limit}, expected at least 1 image")
        train = balanced(self.train_labels.cpu(), limit, seed)
        test = balanced(self.test_labels.cpu(), limit, seed)
        return replace(
            self,
            train_images=self.train_images[train],
            train_labels=self.train_labels[train],
            test_images=self.test_images[test],
            test_labels=self.test_labels[test],
        )


def balanced(labels: Tensor, limit: int, seed: int) -> Tensor:
    """Which samples to take, ascending: drawn at random, as many of each class as of any other.

    The samples are shuffled and then taken class by class in turn, so that the numbers per class
    differ by one at most (unless a class runs out), and what a smaller limit takes, a larger one
    with the same seed takes too.

    Args:
        labels: shape (samples,), on the CPU.
        limit: how many to take; all of them when there are fewer.
        seed: of the shuffle.
    """
    order = torch.randperm(len(labels), generator=Generator().manual_seed(seed))
    shuffled = labels[order]
    turn = torch.empty_like(order)
    for label in range(int(labels.max()) + 1):
        same = shuffled == label
        turn[same] = torch.arange(int(same.sum()))
    return order[torch.argsort(turn, stable=True)[:limit]].sort().values
