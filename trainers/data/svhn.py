"""SVHN's cropped digits: MATLAB 5 files with X, 32 x 32 x 3 x samples of bytes, and y, 1 to 10.

Label 10 is the digit 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainers.data.arrays import Samples, samples
from trainers.data.matfile import NUMERIC, Array, BadMatrix, read_arrays
from trainers.data.stored import Stored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# How many images the two files have.
TRAIN, TEST = 73_257, 26_032
SIDE = 32
ZERO = 10  # the label of the digit 0
# Ours, for the names and headers of the arrays; y may be stored as numbers of 8 bytes.
OVERHEAD = 1_000_000
PER_IMAGE = SIDE * SIDE * 3 + 8


def decode(files: Sequence[Stored]) -> tuple[Samples, Samples]:
    """Training and test samples, from the files of the two.

    Raises:
        InputRejected: a file is no MATLAB 5 file with such arrays.
    """
    train, test = files
    return _digits(train, TRAIN), _digits(test, TEST)


def _digits(file: Stored, most: int) -> Samples:
    try:
        arrays = read_arrays(file.data, OVERHEAD + most * PER_IMAGE)
        images = _images(arrays.get("X"))
        labels = _labels(arrays.get("y"), len(images))
    except BadMatrix as error:
        raise file.rejected(str(error)) from error
    return samples(images, labels, file)


def _images(array: Array | None) -> NDArray[np.uint8]:
    import numpy as np

    if array is None:
        raise BadMatrix("lacks X")
    if (
        array.kind != "uint8"
        or array.values.dtype != np.uint8
        or len(array.shape) != 4
        or array.shape[:3] != (SIDE, SIDE, 3)
    ):
        raise BadMatrix(f"has X {array.kind} {array.shape}, expected uint8 (32, 32, 3, samples)")
    # The first dimension, the row, runs fastest.
    turned = array.values.astype(np.uint8, copy=False).reshape(array.shape[::-1])
    return turned.transpose(0, 1, 3, 2)


def _labels(array: Array | None, samples: int) -> NDArray[np.int64]:
    import numpy as np

    if array is None:
        raise BadMatrix("lacks y")
    if array.kind not in NUMERIC or array.shape != (samples, 1):
        raise BadMatrix(f"has y {array.kind} {array.shape}, expected ({samples}, 1) numbers")
    allowed = np.isin(array.values, np.arange(1, ZERO + 1))
    if not allowed.all():
        wrong = array.values[~allowed][0]
        raise BadMatrix(f"has label {wrong} in y, expected whole numbers from 1 to {ZERO}")
    return array.values.astype(np.int64) % ZERO
