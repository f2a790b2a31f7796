"""A run directory that grows, and a view that keeps what it is shown."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from rankscope.how import How
from rankscope.live.picture import Picture
from rankscope.live.taking import Asked
from rankscope.live.watch import Watch
from rankscope.matrices import Selection
from rankscope.metrics.thresholded import Norm
from rankscope.question import Question
from tests.matrix import Array, low_rank

OLD = 1e9  # seconds since the epoch: long since written


def weights(step: int, scale: float = 1.0) -> dict[str, Array]:
    """A model whose first matrix has the rank 20 - step / 10."""
    full = np.random.default_rng(step).standard_normal((12, 8))
    return {
        "a.weight": (scale * low_rank(30, 24, max(1, 20 - step // 10), seed=step)).astype("f4"),
        "b.weight": (scale * full).astype("f4"),
        "b.bias": np.ones(12, np.float32),
    }


def put(run: Path, *steps: int, at: float | None = None, scale: float = 1.0) -> None:
    """Snapshots of these steps, written by renaming, as the writer does; a second apart."""
    (run / "snapshots").mkdir(parents=True, exist_ok=True)
    for step in steps:
        path = run / "snapshots" / f"step-{step:08d}.safetensors"
        safetensors.numpy.save_file(weights(step, scale), run / "being-written")
        if at is not None:
            os.utime(run / "being-written", (at + step, at + step))
        os.replace(run / "being-written", path)


class Kept:
    """A view that keeps every picture."""

    def __init__(self, *, newest_first: bool = True) -> None:
        self.newest_first = newest_first
        self.pictures: list[Picture] = []

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def show(self, picture: Picture) -> None:
        self.pictures.append(picture)

    def check(self) -> None:
        pass

    @property
    def last(self) -> Picture:
        return self.pictures[-1]


class Enough(Exception):
    """Ends a watch that has nothing to do."""


def asked(
    metrics: Iterable[str] = ("rank", "effective_rank"),
    eps: Iterable[float] = (1e-3,),
    norm: Norm = "frobenius",
    selection: Selection | None = None,
    **how: Any,
) -> Asked:
    question = Question(tuple(metrics), tuple(eps), norm)
    return Asked(question, selection or Selection(), How(**{"store": False, "cores": 1, **how}))


class Watched:
    """A watch that is told when to look."""

    def __init__(self, run: Path, question: Asked | None = None, **view: bool) -> None:
        self.view = Kept(**view)
        self.watch = Watch(run, question or asked(), self.view, 0.0)

    def look(self) -> Picture:
        """Look, measure everything that is new, and return what is shown then."""

        def enough() -> None:
            raise Enough

        with suppress(Enough):
            self.watch.run(enough)
        return self.view.last

    def until(self, turns: int = 50) -> Picture:
        """Look until there is nothing to measure."""
        for _ in range(turns):
            picture = self.look()
            if not self.watch._follower.due:
                return picture
        raise AssertionError("there is always more to measure")


def values(picture: Picture, label: str) -> list[tuple[int, float]]:
    """A matrix's first metric over the steps."""
    (line,) = (one for one in picture.found.matrices if one.label == label)
    return list(line.points)
