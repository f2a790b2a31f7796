"""What the decoders of a data set's files return, and what holds for every one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainers.data.stored import Stored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLASSES = 10  # of CIFAR-10, MNIST, Fashion-MNIST and SVHN alike


@dataclass(frozen=True, slots=True)
class Samples:
    """Some images, uint8 of shape (samples, channels, height, width), and their labels, int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def samples(images: NDArray[np.uint8], labels: NDArray[np.integer], labels_file: Stored) -> Samples:
    """The two put together.

    Args:
        images: shape (samples, channels, height, width).
        labels: shape (samples,), from 0.
        labels_file: where the labels come from, for the error.

    Raises:
        InputRejected: there are no samples, not as many labels as images, or a label is no class.
    """
    import numpy as np

    if labels.shape != (len(images),) or not len(images):
        raise labels_file.rejected(
            f"has {len(labels)} labels for {len(images)} images, expected as many, and at least 1"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= CLASSES))
    if len(wrong):
        raise labels_file.rejected(
            f"label {int(labels[wrong[0]])} of sample {int(wrong[0])}, expected 0 to {CLASSES - 1}"
        )
    # A copy: what views the bytes of a file cannot be written to, and torch wants to.
    return Samples(np.array(images, order="C"), labels.astype(np.int64))
