"""How large the data sets are, without reading them."""

from __future__ import annotations

from dataclasses import dataclass

from rankscope.errors import UsageError


@dataclass(frozen=True, slots=True)
class Size:
    """A data set's size.

    Attributes:
        train: images.
        shape: channels, height and width of one.
        needs_files: whether the user has to have its files.
    """

    train: int
    shape: tuple[int, int, int]
    needs_files: bool = True


SIZES = {
    "cifar10": Size(50_000, (3, 32, 32)),
    "mnist": Size(60_000, (1, 28, 28)),
    "fashion-mnist": Size(60_000, (1, 28, 28)),
    "svhn": Size(73_257, (3, 32, 32)),
    "digits": Size(1347, (1, 8, 8), needs_files=False),
    "synthetic": Size(5000, (3, 32, 32), needs_files=False),
}


def size_of(data: str) -> Size:
    """The size of a data set.

    Raises:
        UsageError: there is no such data set.
    """
    if data not in SIZES:
        raise UsageError(f"no data set {data!r}; there are {', '.join(SIZES)}")
    return SIZES[data]
