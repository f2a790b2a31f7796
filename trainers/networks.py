"""The architectures of P1, appendix B.1."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MlpBn(nn.Module):
    """MLP-BN-L-H: L hidden layers (linear of width H, batch norm, ReLU), then a linear output.

    Args:
        inputs: features per sample; samples of any shape are flattened.
        depth: L.
        width: H.
        classes: outputs.
    """

    def __init__(self, inputs: int, depth: int, width: int, classes: int) -> None:
        super().__init__()
        widths = [inputs] + [width] * depth
        # No bias before batch norm, which takes the mean away again? P1 does not say; PyTorch's
        # default layer has one, and it changes no weight matrix.
        self.linear = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.norm = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(depth))
        self.output = nn.Linear(width, classes)

    def forward(self, samples: Tensor) -> Tensor:
        """Logits, shape (samples, classes)."""
        hidden = samples.flatten(1)
        for linear, norm in zip(self.linear, self.norm, strict=True):
            hidden = torch.relu(norm(linear(hidden)))
        logits: Tensor = self.output(hidden)
        return logits
