"""Matrices for tests: an array as a `Matrix`, and spectra made of given singular values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rankscope.records import Route, Spectrum

Array = NDArray[Any]

# The routes of a matrix that is stored as it is; that of factors has a contract of its own.
DENSE: tuple[Route, ...] = ("gram", "direct")


@dataclass(frozen=True)
class ArrayMatrix:
    """A `Matrix` over an array, handing out blocks of any size."""

    array: Array
    max_elements: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.array.shape
        return rows, columns

    @property
    def dtype(self) -> str:
        return self.array.dtype.name

    def blocks(self, axis: Literal[0, 1], max_elements: int) -> Iterator[Array]:
        step = max(1, (self.max_elements or max_elements) // max(1, self.shape[1 - axis]))
        for start in range(0, self.shape[axis], step):
            part = slice(start, start + step)
            yield self.array[part] if axis == 0 else self.array[:, part]


@dataclass(frozen=True)
class ConstantRows:
    """A `Matrix` of rank one, each line of its small side the same value; never stored whole."""

    levels: Array
    length: int
    tall: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        order = len(self.levels)
        return (self.length, order) if self.tall else (order, self.length)

    @property
    def dtype(self) -> str:
        return self.levels.dtype.name

    def blocks(self, axis: Literal[0, 1], max_elements: int) -> Iterator[Array]:
        assert axis == (0 if self.tall else 1)
        step = max(1, max_elements // len(self.levels))
        for start in range(0, self.length, step):
            count = min(step, self.length - start)
            block = np.broadcast_to(self.levels, (count, len(self.levels)))
            yield block if self.tall else block.T

    def assert_within_rounding(self, found: Spectrum) -> None:
        """What a spectrum says is as near the exact rationals as it says itself."""
        squares = [Fraction(float(level)) ** 2 for level in self.levels]
        along, across = max(squares) * self.length, sum(squares)
        total = across * self.length
        exact = 2 * found.resolution if found.route == "direct" else found.resolution**2
        assert _apart(found.sigma[0], total) <= exact
        assert (found.sigma[1:] <= found.resolution * found.sigma[0]).all()
        # Norms: what the shortest of matrices may be off by (`entries.rounding`), however long.
        few = (len(self.levels) + 128) * 2.0**-53
        row, column = (across, along) if self.tall else (along, across)
        assert _apart(found.frobenius_norm, total) <= few
        assert _apart(found.max_row_norm, row) <= few
        assert _apart(found.max_column_norm, column) <= few


def _apart(root: float, square: Fraction | int) -> float:
    return float(abs(Fraction(float(root)) ** 2 / square - 1))


def with_sigma(
    sigma: Sequence[float] | Array,
    *,
    shape: tuple[int, int] | None = None,
    dtype: str = "float64",
    route: Route = "direct",
    resolution: float | None = None,
) -> Spectrum:
    """The spectrum of a diagonal matrix, as a route would record it."""
    values = np.sort(np.asarray(sigma, np.float64))[::-1]
    k = len(values)
    unit = 2.0**-53
    default = k * unit if route == "direct" else float(np.sqrt(k * unit))
    return Spectrum(
        values,
        shape or (k, k),
        dtype,
        float(np.sqrt((values / values.max()) @ (values / values.max())) * values.max())
        if values.max() > 0
        else 0.0,
        float(values[0]),
        float(values[0]),
        default if resolution is None else resolution,
        route,
    )


def low_rank(rows: int, columns: int, r: int, seed: int = 0) -> Array:
    """A product of two Gaussian factors."""
    rng = np.random.default_rng(seed)
    product: Array = rng.standard_normal((rows, r)) @ rng.standard_normal((r, columns))
    return product
