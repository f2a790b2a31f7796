"""VGG-16 for small images, as in P1, appendix B.1."""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

from rankscope.errors import UsageError
from trainers.networks.network import Network, activation

# Simonyan & Zisserman 2014, table 1, column D: the output channels of the 13 convolutions, and
# those that a pooling follows.
CHANNELS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
POOLED = (1, 3, 6, 9, 12)

SIDE = 32  # which five poolings reduce to 1


class Vgg16(Network):
    """VGG-16: 13 convolutions of 3x3, each with batch norm and ReLU, and one linear output.

    Five poolings reduce an image of 32x32 to 512 numbers. A smaller one is padded to that with
    zeros on all sides, as its convolutions pad: without, no pixel of a 28x28 image would be left.
    Zero is the mean of standardised data; to continue a black background, as P1 does with MNIST,
    pad to 32x32 before standardising. Inputs per sample count the padded positions: an 8x8 image
    costs as much as one of 32x32.

    Args:
        image_shape: channels, height and width of an image.
        classes: logits per sample.
        leaky_relu: whether the ReLUs are leaky.

    Raises:
        UsageError: the image is larger than 32x32.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], classes: int, *, leaky_relu: bool = False
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        if max(height, width) > SIDE:
            raise UsageError(f"images are {height}x{width}, vgg16 expects at most {SIDE}x{SIDE}")
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise((channels, *CHANNELS))
        )
        self.norm = nn.ModuleList(nn.BatchNorm2d(channels) for channels in CHANNELS)
        self.activation = activation(leaky_relu)
        self.output = nn.Linear(CHANNELS[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (samples, classes), of images, shape (samples, C, H, W)."""
        values = padded(images)
        for layer, (convolution, norm) in enumerate(zip(self.convolutions, self.norm, strict=True)):
            values = self.activation(norm(convolution(values)))
            if layer in POOLED:
                values = max_pool2d(values, 2)
        logits: Tensor = self.output(values.flatten(1))
        return logits

    def averaged(self) -> frozenset[str]:
        """The 13 convolutions."""
        return frozenset(f"convolutions.{layer}.weight" for layer in range(len(CHANNELS)))


def padded(images: Tensor) -> Tensor:
    """Images in the middle of 32x32 zeros, the odd row or column below or to the right."""
    down, across = (SIDE - side for side in images.shape[2:])
    return pad(images, (across // 2, across - across // 2, down // 2, down - down // 2))
