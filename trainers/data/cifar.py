"""CIFAR-10's batches: pickles in the python version, records of 3073 bytes in the binary one.

Both as CIFAR-10's page describes them: an image is 1024 red, 1024 green and 1024 blue bytes, row
by row; in the binary version a byte with the label stands before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainers.data.arrays import Samples, samples
from trainers.data.pickled import BadPickle, Call, interpret
from trainers.data.stored import Stored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGE = (3, 32, 32)
PIXELS = 3 * 32 * 32


def decode_pickles(files: Sequence[Stored]) -> tuple[Samples, Samples]:
    """Training and test samples of the python version; the last file is the test batch.

    Raises:
        InputRejected: a file is no such pickle; nothing that it asks for is called.
    """
    return _joined([_unpickled(file) for file in files])


def decode_records(files: Sequence[Stored]) -> tuple[Samples, Samples]:
    """Training and test samples of the binary version; the last file is the test batch.

    Raises:
        InputRejected: a file does not consist of such records.
    """
    return _joined([_records(file) for file in files])


def _joined(batches: Sequence[Samples]) -> tuple[Samples, Samples]:
    import numpy as np

    *train, test = batches
    images = np.concatenate([batch.images for batch in train])
    return Samples(images, np.concatenate([batch.labels for batch in train])), test


def _records(file: Stored) -> Samples:
    import numpy as np

    if not file.data or len(file.data) % (1 + PIXELS):
        raise file.rejected(
            f"has {len(file.data)} bytes, expected a multiple of {1 + PIXELS}, the size of a record"
        )
    records = np.frombuffer(file.data, np.uint8).reshape(-1, 1 + PIXELS)
    return samples(records[:, 1:].reshape(-1, *IMAGE), records[:, 0], file)


def _unpickled(file: Stored) -> Samples:
    import numpy as np

    try:
        batch = interpret(file.data)
        if not isinstance(batch, dict):
            raise BadPickle("is no dictionary")
        images, labels = _matrix(batch.get("data")), batch.get("labels")
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise BadPickle("has no list of integers under labels")
    except BadPickle as error:
        raise file.rejected(f"is not a batch of CIFAR-10's python version: {error}") from error
    # Python's integers have no bounds: what fits no byte is no class either.
    numbers = np.array([label if 0 <= label <= 255 else 255 for label in labels], np.int64)
    return samples(images, numbers, file)


def _matrix(node: object) -> NDArray[np.uint8]:
    """The pixels, shape (samples, 3, 32, 32), of an array that was pickled."""
    import numpy as np

    if not isinstance(node, Call) or node.name != "_reconstruct":
        raise BadPickle("has no array under data")
    match node.state:
        case (int(), (int(rows), int(columns)), Call("dtype", (str(kind), *_)), fortran, raw):
            pass
        case _:
            raise BadPickle("has an array under data of no known layout")
    if kind not in ("u1", "|u1", "uint8") or fortran != 0:
        raise BadPickle(f"has an array of {kind[:20]!r} under data, expected u1 row by row")
    if isinstance(raw, str):  # Python 2 had one type for text and bytes
        raw = raw.encode("latin-1")
    if columns != PIXELS or rows < 1 or not isinstance(raw, bytes) or len(raw) != rows * columns:
        raise BadPickle(f"has an array of {rows} x {columns} under data that its bytes do not fit")
    return np.frombuffer(raw, np.uint8).reshape(rows, *IMAGE)
