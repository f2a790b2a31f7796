"""P1's augmentation (appendix B.1) of whole batches, on the device where the images are.

P1 names random cropping, random horizontal flips and random rotations by 15k degrees, k uniform
from 1 to 24, and standardised data. What it leaves open is decided here: the order is the one in
which it names them, with standardisation last; the crop is the usual one for CIFAR, the image's
own size out of a frame of 4 pixels; the rotation is around the centre, between pixels bilinear.
Whatever comes from outside an image is 0 before standardisation: black.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import grid_sample, pad

from trainers.data.images import Images

# P1, appendix B.1.
TURNS = 24
DEGREES = 15
# Ours: bounds the memory that the float64 copy takes while the images are summed.
CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done at random.

    Attributes:
        padding: pixels of the frame that crops are taken from; 0 for no cropping.
        flip: whether half of the images are flipped horizontally.
        rotate: whether images are rotated by 15k degrees, k uniform from 1 to 24.
    """

    padding: int
    flip: bool
    rotate: bool

    @property
    def outcomes(self) -> int:
        """How many there are, all equally likely."""
        return (2 * self.padding + 1) ** 2 * (2 if self.flip else 1) * (TURNS if self.rotate else 1)


P1_POLICY = Policy(padding=4, flip=True, rotate=True)
PLAIN_POLICY = Policy(padding=0, flip=False, rotate=False)


@dataclass(frozen=True, slots=True)
class Draws:
    """What is done to each image of a batch; each of shape (samples,).

    Attributes:
        top: row of the framed image where the crop begins, int64 from 0 to twice the padding.
        left: column, likewise.
        flipped: whether the crop is flipped horizontally, bool.
        turns: k, by 15k degrees counter-clockwise, int64 from 1 to 24; 0 without rotations.
    """

    top: Tensor
    left: Tensor
    flipped: Tensor
    turns: Tensor


@dataclass(frozen=True, slots=True)
class Standardise:
    """(x - mean) / deviation for each channel; both float32 of shape (channels, 1, 1)."""

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def fitted(images: Tensor) -> Standardise:
        """To mean 0 and deviation 1 over all images and pixels; a constant channel becomes 0.

        Summed in float64, which is exact for uint8: the same on every device.

        Args:
            images: the training images, shape (samples, channels, height, width).
        """
        count = images.numel() // images.shape[1]
        total = torch.zeros(images.shape[1], 1, 1, dtype=torch.float64, device=images.device)
        squares = torch.zeros_like(total)
        for start in range(0, len(images), CHUNK):
            part = images[start : start + CHUNK].double()
            total += part.sum((0, 2, 3))[:, None, None]
            squares += part.square().sum((0, 2, 3))[:, None, None]
        mean, square = total / count, squares / count
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        # What float32 does not resolve is rounding.
        deviation[deviation <= torch.finfo(torch.float32).eps * square.sqrt()] = 1
        return Standardise(mean.float(), deviation.float())

    def __call__(self, images: Tensor) -> Tensor:
        """The images standardised, float32."""
        return (images.float() - self.mean) / self.deviation


class Augment:
    """Training batches, augmented anew at each call and standardised.

    The same state of the generator and the same calls give the same batches. What is drawn
    depends on the generator's device, not on that of the images; a generator on the images'
    device saves a copy per call. One call may make several batches at once.

    Attributes:
        standardise: what the images of the test set need too.
        generator: its state is all the state there is; save it to resume.
    """

    def __init__(self, images: Images, generator: Generator, policy: Policy = P1_POLICY) -> None:
        self.images = images.train_images
        self.generator = generator
        self.policy = policy
        self.standardise = Standardise.fitted(images.train_images)
        # Exact at multiples of 90 degrees, where the cosine of pi / 2 is only nearly 0.
        angles = [math.radians(DEGREES * k) for k in range(TURNS + 1)]
        waves = [[round(math.cos(a), 15), round(math.sin(a), 15)] for a in angles]
        self._waves = torch.tensor(waves, device=self.images.device)

    def __call__(self, indices: Tensor) -> Tensor:
        """Augmented training images, float32 of shape (samples, channels, height, width).

        Args:
            indices: which training images, int64 of shape (samples,).
        """
        return self.apply(indices, self.draw(len(indices)))

    def draw(self, samples: int) -> Draws:
        """What to do to the images of a batch."""
        # One number for all: a kernel less for each of the four, and independent by itself.
        rest = torch.randint(
            self.policy.outcomes,
            (samples,),
            generator=self.generator,
            device=self.generator.device,
        ).to(self.images.device)
        side = 2 * self.policy.padding + 1
        top, rest = rest % side, rest // side
        left, rest = rest % side, rest // side
        if not self.policy.rotate:
            return Draws(top, left, rest.bool(), torch.zeros_like(rest))
        return Draws(top, left, (rest // TURNS).bool(), rest % TURNS + 1)

    @torch.no_grad()
    def apply(self, indices: Tensor, draws: Draws) -> Tensor:
        """These training images with this done to them, standardised."""
        batch = self.images[indices.to(self.images.device)]
        batch = cropped(batch, draws, self.policy.padding).float()
        if self.policy.rotate:
            batch = rotated(batch, self._waves[draws.turns])
        return self.standardise(batch)


def cropped(batch: Tensor, draws: Draws, padding: int) -> Tensor:
    """Each image cropped out of its frame of zeros, then flipped where that was drawn."""
    samples, channels, height, width = batch.shape
    rows = torch.arange(height, device=batch.device)
    columns = torch.arange(width, device=batch.device).expand(samples, width)
    columns = torch.where(draws.flipped[:, None], columns.flip(1), columns)
    return pad(batch, (padding,) * 4)[
        torch.arange(samples, device=batch.device)[:, None, None, None],
        torch.arange(channels, device=batch.device)[:, None, None],
        (draws.top[:, None] + rows)[:, None, :, None],
        (draws.left[:, None] + columns)[:, None, None, :],
    ]


def rotated(batch: Tensor, waves: Tensor) -> Tensor:
    """Each image turned counter-clockwise around its centre, bilinear, 0 from outside.

    Written out instead of `affine_grid`, which multiplies matrices: under TF32 or autocast its
    coordinates could be off by some hundredths of a pixel.

    Args:
        batch: float32, shape (samples, channels, height, width).
        waves: cosine and sine of each angle, shape (samples, 2).
    """
    height, width = batch.shape[2:]
    y = torch.arange(height, device=batch.device)[:, None] - (height - 1) / 2
    x = torch.arange(width, device=batch.device) - (width - 1) / 2
    cosine, sine = waves[:, 0, None, None], waves[:, 1, None, None]
    # Where each pixel comes from: its place, y downwards, turned back.
    source = torch.stack(
        ((cosine * x - sine * y) * (2 / width), (sine * x + cosine * y) * (2 / height)), dim=-1
    )
    return grid_sample(batch, source, "bilinear", "zeros", align_corners=False)
