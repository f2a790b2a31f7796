"""MNIST's idx files.

Format, as MNIST's page gives it: big-endian 32-bit numbers, first 0x0801 for bytes in one
dimension or 0x0803 in three, then the size of each dimension, then the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainers.data.arrays import Samples, samples
from trainers.data.stored import Stored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE = 28
UBYTE = 0x08


def decode(files: Sequence[Stored]) -> tuple[Samples, Samples]:
    """Training and test samples, from training images, training labels, test images and labels.

    Raises:
        InputRejected: a file is no idx file of such images or labels.
    """
    train_images, train_labels, test_images, test_labels = files
    return _pair(train_images, train_labels), _pair(test_images, test_labels)


def _pair(images_file: Stored, labels_file: Stored) -> Samples:
    images = _array(images_file, 3)
    if images.shape[1:] != (SIDE, SIDE):
        raise images_file.rejected(
            f"has images of {images.shape[1]} x {images.shape[2]} pixels, expected {SIDE} x {SIDE}"
        )
    return samples(images[:, None], _array(labels_file, 1), labels_file)


def _array(file: Stored, dimensions: int) -> NDArray[np.uint8]:
    """The bytes in their shape."""
    import numpy as np

    header = struct.Struct(f">{1 + dimensions}I")
    if len(file.data) < header.size:
        raise file.rejected(
            f"ends after {len(file.data)} bytes, expected a header of {header.size}"
        )
    magic, *shape = header.unpack_from(file.data)
    if magic != UBYTE << 8 | dimensions:
        raise file.rejected(
            f"begins with {magic:#010x}, expected {UBYTE << 8 | dimensions:#010x}: "
            f"bytes in {dimensions} dimension{'s' if dimensions > 1 else ''}"
        )
    expected = 1
    for size in shape:  # as Python integers: a product of 32-bit numbers does not fit 64 bits
        expected *= size
    if not expected or len(file.data) - header.size != expected:
        raise file.rejected(
            f"has {len(file.data) - header.size} bytes after its header, expected {expected} for "
            f"{' x '.join(map(str, shape))}, and at least 1"
        )
    return np.frombuffer(file.data, np.uint8, offset=header.size).reshape(shape)
