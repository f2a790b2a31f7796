"""A tensor's singular values, computed on the device that it lies on, through PyTorch.

For a training loop that keeps spectra of what is in the accelerator's memory. The routes are
those of `gram` and `direct`, in float64, with the same norms and the same resolution; of the
direct one, the triangle's singular values are LAPACK's, on the host: of an order of a thousand
they take as long there as on an accelerator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankscope.records import Route, Spectrum
from rankscope.solvers.entries import Block, EntryNorms, NonFinite, rounding

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class DeviceMatrix:
    """A matrix on a device.

    Attributes:
        weights: shape (rows, columns), of any floating-point type.
        dtype: its type's name.
    """

    weights: Tensor
    dtype: str

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, columns = self.weights.shape
        return rows, columns


def device_spectrum(matrix: DeviceMatrix, route: Route) -> Spectrum:
    """The singular values of a matrix with entries.

    Memory on the device: the matrix in float64 three times, and its small side squared twice.

    Args:
        matrix: with at least one row and one column.
        route: gram or direct.

    Raises:
        NonFinite: before any decomposition.
        numpy.linalg.LinAlgError: the decomposition did not converge.
    """
    import torch

    wide, scale = _scaled(matrix)
    norms = _norms(wide)
    try:
        if route == "direct":
            return norms.spectrum(matrix, scale, _direct(wide), rounding(matrix), "direct")
        resolution = math.sqrt(rounding(matrix))
        return norms.spectrum(matrix, scale, _gram(wide, norms), resolution, "gram")
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined] # it is documented
        raise np.linalg.LinAlgError(str(error)) from error


def _scaled(matrix: DeviceMatrix) -> tuple[Tensor, float]:
    """The matrix in float64, its small side first, and by which power of two it is multiplied."""
    rows, columns = matrix.shape
    wide = matrix.weights.detach().double()
    largest = float(wide.abs().max())
    if not math.isfinite(largest):  # the largest of anything with a NaN is NaN
        raise NonFinite
    # As `entries.scale_of`: squares of every narrower type lie within float64's range.
    scale = 1.0
    if matrix.dtype == "float64" and largest > 0:
        scale = 2.0 ** min(1022, -math.frexp(largest)[1])
    return (wide if rows <= columns else wide.T) * scale, scale


def _norms(wide: Tensor) -> EntryNorms:
    squares = wide * wide
    along = squares.sum(0)
    return EntryNorms(
        small=squares.sum(1).cpu().numpy(),
        alive=wide.any(dim=1).cpu().numpy(),
        total=float(along.sum()),
        long_max=float(along.max()),
    )


def _gram(wide: Tensor, norms: EntryNorms) -> Block:
    import torch

    from rankscope.solvers.torchsum import add_product

    # Lines of zeros give zeros that are exact; those whose squares underflow are such lines too.
    alive = torch.from_numpy(norms.small > 0).to(wide.device)
    lines = wide[alive]
    sigma = np.zeros(len(wide))
    if len(lines):
        gram = torch.zeros(len(lines), len(lines), dtype=lines.dtype, device=lines.device)
        add_product(gram, lines)
        eigenvalues = torch.linalg.eigvalsh(gram).flip(0)
        sigma[: len(lines)] = eigenvalues.clamp(min=0.0).sqrt().cpu().numpy()
    return sigma


def _direct(wide: Tensor) -> Block:
    import torch

    triangle = torch.linalg.qr(wide.T, mode="r").R
    found: Block = np.linalg.svd(triangle.cpu().numpy(), compute_uv=False)
    return found
