"""Whole numbers of a few bits, packed into words of 32 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rankscope.records import Stored


def words_of(bits: int, numbers: slice) -> slice:
    """The words that hold these numbers of a stream."""
    return slice(numbers.start * bits // 32, -(-numbers.stop * bits // 32))


def unpacked(words: Stored, bits: int, numbers: slice) -> NDArray[np.uint8]:
    """The numbers of a stream of bits, the lowest bit first, along the first axis.

    GPTQ's and compressed-tensors' packing; numbers of 3 bits reach from a word into the next.

    Args:
        words: `words_of(bits, numbers)` of the stream, shape (words, n).
        bits: of each number, at most 8.
        numbers: which.

    Returns:
        Shape (numbers, n).
    """
    import numpy as np

    unsigned = words.astype(np.uint32)
    places = np.arange(numbers.start, numbers.stop) * bits
    word = places // 32 - numbers.start * bits // 32
    shift = (places % 32).astype(np.uint32)
    codes = unsigned[word] >> shift[:, None]
    (across,) = np.nonzero(shift + np.uint32(bits) > 32)
    if len(across):
        codes[across] |= unsigned[word[across] + 1] << (np.uint32(32) - shift[across])[:, None]
    codes &= np.uint32(2**bits - 1)
    return np.asarray(codes, np.uint8)


def nibbles(data: Stored) -> NDArray[np.uint8]:
    """The two halves of every byte, the low one first; (..., 2 n) for bytes of shape (..., n)."""
    import numpy as np

    codes: NDArray[np.uint8] = np.stack((data & 15, data >> 4), axis=-1)
    return codes.reshape(*data.shape[:-1], -1)


def powers_of_two(exponents: Stored) -> NDArray[np.float32]:
    """The numbers of exponents of 8 bits plus 127 (E8M0 in OCP's MX specification), as bytes.

    255, which means NaN, gives infinity in float32: with either a matrix has no spectrum.
    """
    import numpy as np

    return np.ldexp(np.float32(1), exponents.view(np.uint8).astype(np.int32) - 127)
