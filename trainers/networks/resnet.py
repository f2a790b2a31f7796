"""ResNet-18 for small images, as in P1, appendix B.1."""

from __future__ import annotations

from torch import Tensor, nn

from trainers.networks.network import Network, activation

# Output channels and stride of the eight blocks: He et al. 2016, table 1. The first layer is that
# of their networks for CIFAR-10 (Section 4.2), 3x3 with stride 1 and no pooling after it.
BLOCKS = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
STEM = 64


class Block(nn.Module):
    """Two convolutions of 3x3 beside a shortcut.

    The shortcut is the identity, or a convolution of 1x1 where the block changes the shape.
    """

    def __init__(self, channels: int, out: int, stride: int, *, leaky_relu: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.activation = activation(leaky_relu)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or out != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, values: Tensor) -> Tensor:
        """Shape (samples, channels, H, W) to (samples, out, H / stride, W / stride)."""
        inner = self.activation(self.norm1(self.conv1(values)))
        outer: Tensor = self.activation(self.norm2(self.conv2(inner)) + self.shortcut(values))
        return outer


class ResNet18(Network):
    """ResNet-18 as it is usual for CIFAR: 17 convolutions of 3x3, and a linear output.

    What is left of the image is averaged, so that it takes any size as it is: nothing is padded,
    28x28 ends as 4x4 like 32x32, 8x8 as 1x1. (P1's authors pad MNIST with black to 32x32 before
    standardising; that is the data's matter.) With one channel the first convolution has rank 9,
    not 27.

    Args:
        channels: of an image.
        classes: logits per sample.
        leaky_relu: whether the ReLUs are leaky.
    """

    def __init__(self, channels: int, classes: int, *, leaky_relu: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, STEM, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(STEM)
        self.activation = activation(leaky_relu)
        inputs = (STEM, *(out for out, _ in BLOCKS))
        self.blocks = nn.ModuleList(
            Block(before, out, stride, leaky_relu=leaky_relu)
            for before, (out, stride) in zip(inputs, BLOCKS, strict=False)
        )
        self.output = nn.Linear(BLOCKS[-1][0], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (samples, classes), of images, shape (samples, C, H, W)."""
        values = self.activation(self.norm(self.stem(images)))
        for block in self.blocks:
            values = block(values)
        logits: Tensor = self.output(values.mean((2, 3)))
        return logits

    def averaged(self) -> frozenset[str]:
        """The 17 convolutions of 3x3; not the three of the shortcuts."""
        inside = (f"blocks.{i}.{n}.weight" for i in range(len(BLOCKS)) for n in ("conv1", "conv2"))
        return frozenset({"stem.weight", *inside})
