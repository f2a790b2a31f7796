"""Matrices for tests: an array as a `Matrix`, and spectra made of given singular values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
