"""One matrix, block by block, to its Gram matrix and norms on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

import torch

from rankscope.accelerator.reading import T
from rankscope.accelerator.splitting import add_exact_products
from rankscope.records import Route
from rankscope.solvers.entries import EntryNorms, small_side
from rankscope.solvers.torchsum import add_product


@dataclass(slots=True)
class Sums(Generic[T]):
    """What has been gathered of one matrix.

    Attributes:
        matrix: which.
        scale: the power of two that its entries are multiplied by.
        slices: the most that a block is split into; 0 for products in float64.
        gram: the Gram matrix's lower half, float64, shape (k, k).
        small: sums of squares of each line of the small side, shape (k,).
        alive: which of them hold anything but zeros, shape (k,).
        total: sum of squares of all entries, a scalar.
        long_max: the largest sum of squares of a line of the long side, a scalar.
        taken: how many entries have come.
        split: whether any block was split.
    """

    matrix: T
    scale: float
    slices: int
    gram: torch.Tensor
    small: torch.Tensor
    alive: torch.Tensor
    total: torch.Tensor
    long_max: torch.Tensor
    taken: int = 0
    split: bool = False

    @classmethod
    def of(cls, matrix: T, scale: float, slices: int, device: torch.device) -> Sums[T]:
        """Nothing gathered yet."""
        order = small_side(matrix)
        gram = torch.zeros(order, order, dtype=torch.float64, device=device)
        small, scalar = gram.new_zeros(order), gram.new_zeros(())
        alive = torch.zeros(order, dtype=torch.bool, device=device)
        return cls(matrix, scale, slices, gram, small, alive, scalar, scalar)

    def add(self, stored: torch.Tensor) -> None:
        """Take a block in its stored type, shape (rows, columns) as the matrix's."""
        self.taken += stored.numel()
        block = stored.double()
        if self.scale != 1.0:
            block *= self.scale
        if self.matrix.shape[0] > self.matrix.shape[1]:
            block = block.T
        squares = block * block
        along = squares.sum(dim=0)
        self.small += squares.sum(dim=1)
        self.alive |= (block != 0).any(dim=1)  # not from the squares: those of float64 underflow
        self.total = self.total + along.sum()
        self.long_max = torch.maximum(self.long_max, along.max())
        del squares
        # What is not finite is nothing to be split: it is found by its norm when all is there.
        if self.slices and add_exact_products(self.gram, block, self.slices):
            self.split = True
        else:
            add_product(self.gram, block)

    @property
    def sound(self) -> bool:
        """Whether every entry has come, is finite, and so is the norm."""
        rows, columns = self.matrix.shape
        return self.taken == rows * columns and bool(self.total.isfinite())

    @property
    def route(self) -> Route:
        """How it was computed."""
        return "cuda32" if self.split else "cuda"

    def norms(self) -> EntryNorms:
        """The norms, on the host."""
        return EntryNorms(
            small=self.small.cpu().numpy(),
            alive=self.alive.cpu().numpy(),
            total=float(self.total),
            long_max=float(self.long_max),
        )
