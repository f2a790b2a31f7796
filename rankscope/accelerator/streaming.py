"""Matrices to spectra on a device: read ahead, copied ahead, summed, solved in batches.

While the eigensolver works on one batch, a thread reads the next matrices, and the first block of
them is copied to the device. What a device cannot do soundly, or at all, is left out: whoever asked
measures that on the CPU, whose words for what is wrong with a matrix are the only ones.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, NoReturn

import torch

from rankscope.accelerator.eigen import batch_limit, solved_batch
from rankscope.accelerator.lanes import Lane, Receive, full_float32, lane_of
from rankscope.accelerator.memory import out_of_memory
from rankscope.accelerator.rates import rates_of
from rankscope.accelerator.reading import AHEAD, BLOCK_ELEMENTS, Piece, T, ahead, pieces
from rankscope.accelerator.summing import Sums
from rankscope.records import Spectrum
from rankscope.solvers.entries import small_side

FRUGAL = 16  # blocks so many times smaller in the second try of what found no memory


def grams_on(device: str, matrices: Iterable[T]) -> Generator[tuple[T, Spectrum], None, None]:
    """The spectra of matrices by the Gram route on a device, in any order; some may be left out.

    Args:
        device: `cuda:N`, or `cpu` to go the same way on the host's tensors.
        matrices: drawn and read in another thread, no two at a time.

    Raises:
        Exception: what drawing the matrices raised.
    """
    try:
        lane = lane_of(device)
        slices = rates_of(device).slices
    # A card that does not answer; the latter of a PyTorch that was built for none.
    except (RuntimeError, AssertionError):
        return
    first: _Stream[T] = _Stream(lane, slices)
    yield from first.run(matrices, BLOCK_ELEMENTS)
    if first.short and not first.broken:
        second: _Stream[T] = _Stream(lane, slices, most=1)
        yield from second.run(first.short, BLOCK_ELEMENTS // FRUGAL)


@dataclass(slots=True)
class _Stream(Generic[T]):
    """One pass over matrices.

    Attributes:
        lane: the way to the device.
        slices: the most that a block is split into.
        most: how many are solved together at most; one from when memory was short.
        short: matrices for which there was no memory.
        broken: the device has failed; nothing more is to be had of it.
        sums: of the matrix whose blocks are coming; None between two.
        given_up: the matrix whose blocks still come and are passed over.
        batch: summed and not yet solved, of one order.
    """

    lane: Lane
    slices: int
    most: int | None = None
    short: list[T] = field(default_factory=list)
    broken: bool = False
    sums: Sums[T] | None = None
    given_up: T | None = None
    batch: list[Sums[T]] = field(default_factory=list)

    def run(
        self, matrices: Iterable[T], max_elements: int
    ) -> Generator[tuple[T, Spectrum], None, None]:
        """The spectra of what can be solved."""
        read = ahead(pieces(matrices, self.lane.staged, max_elements), AHEAD)
        try:
            with closing(read), self.lane.active(), full_float32():
                if self.most == 1:
                    self.lane.release()
                for piece, receive in self._sent(read):
                    if not self._fits(piece.matrix):
                        yield from self._solved()
                    try:
                        self._take(piece, receive)
                    except RuntimeError as error:
                        if not out_of_memory(error):
                            raise
                        self._give_up(piece)
                    if self.most == 1:
                        yield from self._solved()
                yield from self._solved()
        except RuntimeError:
            self.broken = True

    def _sent(self, read: Iterator[Piece[T]]) -> Iterator[tuple[Piece[T], Receive | None]]:
        """Each piece with its copy, begun before the piece in front of it is worked on."""
        held: tuple[Piece[T], Receive | None] | None = None
        for piece in read:
            coming = (piece, None if piece.block is None else _sending(self.lane, piece.block))
            if held is not None:
                yield held
            held = coming
        if held is not None:
            yield held

    def _fits(self, matrix: T) -> bool:
        """Whether a matrix may join the batch."""
        if not self.batch:
            return True
        order = len(self.batch[0].small)
        return small_side(matrix) == order and len(self.batch) < batch_limit(order)

    def _take(self, piece: Piece[T], receive: Receive | None) -> None:
        """Add a block to its matrix's sums, and those that are complete to the batch."""
        if piece.matrix is self.given_up:
            return
        if receive is None:  # it could not be read
            self.sums = None
            return
        if self.sums is None:
            self.sums = Sums.of(piece.matrix, piece.scale, self.slices, self.lane.device)
        self.sums.add(receive())
        if piece.last:
            complete, self.sums = self.sums, None
            if complete.sound:
                self.batch.append(complete)

    def _give_up(self, piece: Piece[T]) -> None:
        """Memory was short: one at a time from now on, and this one when the others are done."""
        self.sums, self.most = None, 1
        self.given_up = piece.matrix
        self.short.append(piece.matrix)

    def _solved(self) -> Iterator[tuple[T, Spectrum]]:
        batch, self.batch = self.batch, []
        for sums, found in solved_batch(batch, self.short.append):
            yield sums.matrix, found


def _sending(lane: Lane, block: torch.Tensor) -> Receive:
    """A copy that is begun; what goes wrong is told where it is received."""
    try:
        return lane.sent(block)
    except RuntimeError as error:
        return partial(_raise, error)


def _raise(error: RuntimeError) -> NoReturn:
    raise error
