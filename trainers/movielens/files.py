"""MovieLens-100K's original files, as GroupLens gives them out.

One rating a line, four whole numbers between tabs: user (from 1), item (from 1), rating (1 to 5)
and the time in seconds, which nothing here uses. P2 writes 944 x 1683, the largest numbers plus
one; there are 943 users and 1682 items.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rankscope.errors import InputRejected, UsageError
from trainers.movielens.splits import FIXED, NAMES, RANDOM

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

USERS = 943
ITEMS = 1682
RATINGS = 100_000
LOWEST, HIGHEST = 1, 5

# The folder in GroupLens's archive.
FOLDER = "ml-100k"
WHERE = "it is in MovieLens-100K, ml-100k.zip on GroupLens's page of data sets (grouplens.org)"

# u.data has 1,979,173 bytes; with Windows' line ends it is still smaller.
MOST_BYTES = 2_200_000
# At most nine digits, which fit 64 bits; the times have nine, a later one would have ten.
LINE = re.compile(rb"(\d{1,9})\t(\d{1,9})\t(\d{1,9})\t\d{1,10}")
SHOWN = 60


@dataclass(frozen=True, slots=True, eq=False)
class Ratings:
    """Some ratings, in the order in which they were read.

    Attributes:
        users: int64 from 0, shape (ratings,).
        items: int64 from 0, shape (ratings,).
        values: int64 from 1 to 5, shape (ratings,).
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    values: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def cells(self) -> NDArray[np.int64]:
        """A number for each user and item, different for different pairs."""
        return self.users * ITEMS + self.items

    def take(self, chosen: NDArray[np.int64]) -> Ratings:
        """Those at some indices."""
        return Ratings(self.users[chosen], self.items[chosen], self.values[chosen])


@dataclass(frozen=True, slots=True)
class Split:
    """Training and test ratings.

    Attributes:
        train: at least one.
        test: at least one; no user and item in both.
        name: of the split.
    """

    train: Ratings
    test: Ratings
    name: str

    @property
    def remark(self) -> str | None:
        """What to tell of data that have not as many ratings as MovieLens-100K; else None."""
        ratings = len(self.train) + len(self.test)
        if ratings == RATINGS:
            return None
        return f"there are {ratings} ratings, MovieLens-100K has {RATINGS}: part of it, or others"


def load(directory: Path, split: str, *, seed: int = 0) -> Split:
    """The ratings of one split.

    Args:
        directory: where the files are, as unpacked; or the directory that holds ml-100k.
        split: one of `splits.NAMES`.
        seed: of the random splits.

    Raises:
        UsageError: no such split.
        InputRejected: a file is missing, or is not what MovieLens-100K's are.
    """
    if split in RANDOM:
        return _drawn(read_ratings(_place(directory, "u.data")), split, seed)
    if split not in FIXED:
        raise UsageError(f"no split {split!r}; there are {', '.join(NAMES)}")
    base, test = (_place(directory, f"{split}.{part}") for part in ("base", "test"))
    return Split(*_disjoint(base, test), name=split)


def read_ratings(path: Path) -> Ratings:
    """The ratings of one file.

    Raises:
        InputRejected: it cannot be read, is larger than u.data, has no ratings, or a line that is
            no rating or the second one of a user and an item.
    """
    import numpy as np

    from trainers.data.stored import read_bounded

    data = read_bounded(path, MOST_BYTES)
    numbers = np.array(_numbers(path, data), np.int64).reshape(-1, 3)
    for column, (meaning, lowest, highest) in enumerate(
        (("user", 1, USERS), ("item", 1, ITEMS), ("rating", LOWEST, HIGHEST))
    ):
        wrong = np.flatnonzero((numbers[:, column] < lowest) | (numbers[:, column] > highest))
        if len(wrong):
            raise InputRejected(
                path,
                f"line {wrong[0] + 1} has {meaning} {numbers[wrong[0], column]}, expected "
                f"{lowest} to {highest}; it may be of another MovieLens than MovieLens-100K",
            )
    ratings = Ratings(numbers[:, 0] - 1, numbers[:, 1] - 1, numbers[:, 2])
    _refuse_twice(path, ratings)
    return ratings


def _numbers(path: Path, data: bytes) -> list[tuple[int, int, int]]:
    """User, item and rating of each line, not yet checked."""
    if not data.isascii() or b"\0" in data:
        raise InputRejected(
            path, "is not plain ASCII text, as MovieLens-100K's files are; get the file again"
        )
    if not data.strip():
        raise InputRejected(path, "is empty, expected one rating a line; get the file again")
    lines = data.removesuffix(b"\n").split(b"\n")
    found = []
    for count, line in enumerate(lines, start=1):
        match = LINE.fullmatch(line.removesuffix(b"\r"))
        if match is None:
            raise InputRejected(
                path,
                f"line {count} is {_shown(line)}, expected four whole numbers between tabs: user, "
                "item, rating, time; later MovieLens files, with commas or ::, are others",
            )
        user, item, rating = match.groups()
        found.append((int(user), int(item), int(rating)))
    return found


def _shown(line: bytes) -> str:
    text = line.decode("ascii")
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")


def _refuse_twice(path: Path, ratings: Ratings) -> None:
    """Raise where a user rates an item twice."""
    import numpy as np

    order = np.argsort(ratings.cells, kind="stable")
    same = np.flatnonzero(np.diff(ratings.cells[order]) == 0)
    if len(same):
        first, second = order[same[0]], order[same[0] + 1]
        raise InputRejected(
            path,
            f"lines {first + 1} and {second + 1} both have user {ratings.users[first] + 1} and "
            f"item {ratings.items[first] + 1}, expected one rating of each pair",
        )


def _place(directory: Path, name: str) -> Path:
    """Where a file is."""
    if not directory.is_dir():
        raise InputRejected(directory, f"is no directory; {name} is expected in it: {WHERE}")
    for path in (directory / name, directory / FOLDER / name):
        if path.exists():
            return path
    raise InputRejected(directory, f"has no {name}: {WHERE}")


def _drawn(ratings: Ratings, split: str, seed: int) -> Split:
    """A random part for testing, the others for training."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(ratings))
    tested = max(1, round(RANDOM[split] * len(ratings)))
    if tested == len(ratings):
        raise UsageError(f"there is one rating; the split {split} needs at least two")
    return Split(ratings.take(order[tested:]), ratings.take(order[:tested]), split)


def _disjoint(base: Path, test: Path) -> tuple[Ratings, Ratings]:
    """Both files of a split; a test rating that is trained on would be no test."""
    import numpy as np

    train, tested = read_ratings(base), read_ratings(test)
    both = np.flatnonzero(np.isin(tested.cells, train.cells))
    if len(both):
        raise InputRejected(
            test,
            f"line {both[0] + 1} has user {tested.users[both[0]] + 1} and item "
            f"{tested.items[both[0]] + 1}, as {base.name} has; expected no pair in both",
        )
    return train, tested
