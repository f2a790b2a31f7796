"""Pieces of work in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

Answer = TypeVar("Answer")


def each(work: Mapping[str, Callable[[], Answer]], jobs: int) -> Iterator[tuple[str, Answer]]:
    """Do it all; each name and answer as it is finished.

    Args:
        work: by name, what can be sent to another process.
        jobs: how many at a time; one is done here.
    """
    if jobs == 1 or len(work) < 2:
        for name, piece in work.items():
            yield name, piece()
        return
    # A process that has used torch must not be forked.
    with ProcessPoolExecutor(min(jobs, len(work)), get_context("spawn")) as pool:
        names = {pool.submit(piece): name for name, piece in work.items()}
        for done in as_completed(names):
            yield names[done], done.result()
