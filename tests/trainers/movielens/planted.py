"""Small files in MovieLens-100K's format, of ratings that a low-rank matrix underlies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainers.movielens.files import Ratings


def ratings(users: int, items: int, count: int, *, seed: int = 0, noise: float = 0.4) -> Ratings:
    """Whole stars around 3.5 + b_u + c_i + (rank 2), without repetition."""
    rng = np.random.default_rng(seed)
    truth = 3.5 + 0.5 * rng.normal(size=(users, 1)) + 0.6 * rng.normal(size=(1, items))
    truth += 0.5 * rng.normal(size=(users, 2)) @ rng.normal(size=(2, items))
    cells = rng.choice(users * items, count, replace=False)
    stars = np.rint(truth.ravel()[cells] + noise * rng.normal(size=count)).clip(1, 5)
    return Ratings(cells // items, cells % items, stars.astype(np.int64))


def text(some: Ratings) -> bytes:
    """The lines of a file."""
    rows = zip(some.users + 1, some.items + 1, some.values, strict=True)
    return b"".join(b"%d\t%d\t%d\t%d\n" % (*row, 874_724_710 + n) for n, row in enumerate(rows))


def write(path: Path, some: Ratings) -> None:
    """A file of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text(some))
