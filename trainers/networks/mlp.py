"""MLP-BN-L-H of P1, appendix B.1."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from trainers.networks.network import Network, activation


class MlpBn(Network):
    """MLP-BN-L-H: L hidden layers (linear of width H, batch norm, ReLU), then a linear output.

    Its weight matrices are `hidden.0.weight`, ..., `hidden.{L-1}.weight` and `output.weight`.
    The average is over the hidden ones, the first included, which is as wide as a sample.

    Args:
        features: numbers per sample.
        depth: L.
        width: H.
        classes: logits per sample.
        leaky_relu: whether the ReLUs are leaky.
    """

    def __init__(
        self, features: int, depth: int, width: int, classes: int, *, leaky_relu: bool = False
    ) -> None:
        super().__init__()
        widths = [features] + [width] * depth
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.norm = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(depth))
        self.activation = activation(leaky_relu)
        self.output = nn.Linear(width, classes)

    def forward(self, samples: Tensor) -> Tensor:
        """Logits, shape (samples, classes), of samples of any shape with so many features each."""
        values = samples.flatten(1)
        for linear, norm in zip(self.hidden, self.norm, strict=True):
            values = self.activation(norm(linear(values)))
        logits: Tensor = self.output(values)
        return logits

    def averaged(self) -> frozenset[str]:
        """The L hidden layers."""
        return frozenset(f"hidden.{layer}.weight" for layer in range(len(self.hidden)))
