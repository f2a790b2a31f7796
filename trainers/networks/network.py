"""What the networks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn


class Network(nn.Module, ABC):
    """A classifier: images of shape (samples, C, H, W) to logits of shape (samples, classes)."""

    @abstractmethod
    def averaged(self) -> frozenset[str]:
        """The weights whose ranks P1 averages: the trunk's, without shortcuts and the output."""


def activation(leaky_relu: bool) -> nn.Module:
    """The ReLU that P1 prints; or the leaky one, slope 0.01, which its authors' code also runs."""
    return nn.LeakyReLU(0.01) if leaky_relu else nn.ReLU()
