"""Data that need no files: scikit-learn's digits, and images of a few hidden numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor

from rankscope.errors import UsageError
from trainers.data.images import Images

DIGITS = "digits"
SYNTHETIC = "synthetic"

TEST_SHARE = 0.25
# One split for every run: a run's seed varies the initialisation and the order of the samples.
SPLIT_SEED = 0


def digits() -> Images:
    """scikit-learn's 1797 handwritten digits, uint8 from 0 to 16 and 8 x 8: 1347 and 450."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        pixels, labels, test_size=TEST_SHARE, stratify=labels, random_state=SPLIT_SEED
    )
    return Images(
        torch.tensor(train, dtype=torch.uint8).reshape(-1, 1, 8, 8),
        torch.tensor(train_labels),
        torch.tensor(test, dtype=torch.uint8).reshape(-1, 1, 8, 8),
        torch.tensor(test_labels),
        classes=10,
        name=DIGITS,
    )


@dataclass(frozen=True)
class Task:
    """What `synthetic` makes: CIFAR-10's shapes, a tenth of its size, 16 hidden numbers.

    Attributes:
        train: images.
        test: images.
        classes: of them.
        channels: per image.
        side: height and width in pixels.
        latent: k, hidden numbers per image; the matrix of all images has this rank.
    """

    train: int = 5000
    test: int = 1000
    classes: int = 10
    channels: int = 3
    side: int = 32
    latent: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise UsageError(
                    f"{field.name} is {getattr(self, field.name)}, expected at least 1"
                )


def synthetic(task: Task | None = None, *, seed: int = 0) -> Images:
    """Images that are a fixed linear map of k hidden standard normal numbers, float32.

    x = A z / sqrt(k), so that a pixel has variance 1 over A and z; the label is the row of a
    linear teacher T that gives the largest of T z. A, T and z have independent standard normal
    entries, drawn from `seed` on the CPU.
    """
    task = task or Task()
    generator = Generator().manual_seed(seed)
    pixels = task.channels * task.side**2
    to_pixels = torch.randn(task.latent, pixels, generator=generator) / math.sqrt(task.latent)
    teacher = torch.randn(task.latent, task.classes, generator=generator)

    def draw(samples: int) -> tuple[Tensor, Tensor]:
        hidden = torch.randn(samples, task.latent, generator=generator)
        images = (hidden @ to_pixels).reshape(samples, task.channels, task.side, task.side)
        return images, (hidden @ teacher).argmax(1)

    return Images(*draw(task.train), *draw(task.test), classes=task.classes, name=SYNTHETIC)
