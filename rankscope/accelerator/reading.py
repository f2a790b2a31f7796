"""Matrices read in a thread of their own, ahead of whoever works on them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from rankscope.accelerator.memory import out_of_memory
from rankscope.errors import InputRejected
from rankscope.records import Matrix
from rankscope.solvers.entries import NonFinite, scale_of

if TYPE_CHECKING:
    from rankscope.records import Stored

# 128 MiB of float64 on the device: four times the CPU route's block, for a card's more cores.
BLOCK_ELEMENTS = 2**24

# Blocks that wait in host memory while the device works: a 4096 x 4096 matrix is one.
AHEAD = 4

T = TypeVar("T", bound=Matrix)
Anything = TypeVar("Anything")


@dataclass(frozen=True, slots=True)
class Piece(Generic[T]):
    """A block of a matrix, on its way.

    Attributes:
        matrix: which.
        scale: the power of two that the entries are to be multiplied by.
        block: in host memory, in its stored type; None where reading failed.
        last: nothing more comes of this matrix.
    """

    matrix: T
    scale: float
    block: torch.Tensor | None
    last: bool


def pieces(
    matrices: Iterable[T], staged: Callable[[Stored], torch.Tensor], max_elements: int
) -> Iterator[Piece[T]]:
    """The blocks of matrices, one after the other; none of one without entries.

    One that cannot be read, or is found to be not finite, ends without a block: what to say of it
    is the CPU route's to find.
    """
    for matrix in matrices:
        if 0 in matrix.shape:
            continue
        try:
            scale = scale_of(matrix)
            held: torch.Tensor | None = None
            tall = matrix.shape[0] > matrix.shape[1]
            for stored in matrix.blocks(0 if tall else 1, max_elements):
                if held is not None:
                    yield Piece(matrix, scale, held, last=False)
                held = staged(stored)
            yield Piece(matrix, scale, held, last=True)
        except (NonFinite, InputRejected, OSError, MemoryError):
            yield Piece(matrix, 1.0, None, last=True)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            yield Piece(matrix, 1.0, None, last=True)


def ahead(items: Iterable[Anything], depth: int) -> Generator[Anything, None, None]:
    """The items, drawn in a thread of its own, at most so many before they are asked for.

    What drawing raises is raised here, in its place. Closed early, the thread ends after the item
    that it is at.
    """
    waiting: queue.Queue[tuple[str, Anything | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def draw() -> None:
        end: tuple[str, BaseException | None] = ("end", None)
        iterator = iter(items)
        try:
            for item in iterator:
                waiting.put(("item", item))
                if stopped.is_set():
                    break
        except BaseException as error:
            end = ("error", error)
        finally:
            if isinstance(iterator, Generator):
                iterator.close()  # in the thread that ran it
        waiting.put(end)

    thread = threading.Thread(target=draw)
    thread.start()
    what = "item"
    try:
        while True:
            what, item = waiting.get()
            if isinstance(item, BaseException):
                raise item
            if what == "end":
                return
            yield item  # type: ignore[misc] # an error has been raised
    finally:
        stopped.set()
        while what == "item":
            what, _ = waiting.get()
        thread.join()
