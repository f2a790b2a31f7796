"""The architectures of P1, appendix B.1."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


class MlpBn(nn.Module):
    """MLP-BN-L-H: L hidden layers (linear of width H, batch norm, ReLU), then a linear output.

    Its weight matrices are `hidden.0.weight`, ..., `hidden.{L-1}.weight` and `output.weight`.

    Args:
        features: numbers per sample.
        depth: L.
        width: H.
        classes: logits per sample.
    """

    def __init__(self, features: int, depth: int, width: int, classes: int) -> None:
        super().__init__()
        widths = [features] + [width] * depth
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.norm = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(depth))
        self.output = nn.Linear(width, classes)

    def forward(self, samples: Tensor) -> Tensor:
        """Logits, shape (samples, classes), of samples of shape (samples, features)."""
        values = samples
        for linear, norm in zip(self.hidden, self.norm, strict=True):
            values = torch.relu(norm(linear(values)))
        logits: Tensor = self.output(values)
        return logits
