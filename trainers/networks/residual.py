"""RES-BN-L-H of P1, appendix B.1."""

from __future__ import annotations

from torch import Tensor, nn

from trainers.networks.network import Network, activation


class Block(nn.Module):
    """z + s(n2(W2 s(n1(W1 z)))): n1, n2 batch norm, s ReLU, W1, W2 square and without bias."""

    def __init__(self, width: int, *, leaky_relu: bool) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width, bias=False)
        self.norm1 = nn.BatchNorm1d(width)
        self.linear2 = nn.Linear(width, width, bias=False)
        self.norm2 = nn.BatchNorm1d(width)
        self.activation = activation(leaky_relu)

    def forward(self, values: Tensor) -> Tensor:
        """Shape (samples, width) to the same."""
        inner = self.activation(self.norm1(self.linear1(values)))
        outer: Tensor = values + self.activation(self.norm2(self.linear2(inner)))
        return outer


class ResBn(Network):
    """RES-BN-L-H: a linear layer of width H, L residual blocks, and a linear output.

    As P1 prints it: each block has weights of its own and applies the activation before it adds,
    and nothing stands between the first layer and the blocks. Its authors' code adds without that
    activation, normalises after the first layer, and repeats one block L times.

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
        self.input = nn.Linear(features, width)
        self.blocks = nn.ModuleList(Block(width, leaky_relu=leaky_relu) for _ in range(depth))
        self.output = nn.Linear(width, classes)

    def forward(self, samples: Tensor) -> Tensor:
        """Logits, shape (samples, classes), of samples of any shape with so many features each."""
        values = self.input(samples.flatten(1))
        for block in self.blocks:
            values = block(values)
        logits: Tensor = self.output(values)
        return logits

    def averaged(self) -> frozenset[str]:
        """The first layer and both of each block: 2 L + 1."""
        blocks = range(len(self.blocks))
        inside = (f"blocks.{i}.{name}.weight" for i in blocks for name in ("linear1", "linear2"))
        return frozenset({"input.weight", *inside})
