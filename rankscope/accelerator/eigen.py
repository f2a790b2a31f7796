"""Gram matrices of equal order to singular values, many at once, and none that is not sound.

cuSOLVER solves a batch of symmetric matrices together, which PyTorch calls for a stack of them:
measured by others, it gains most below an order of 32 and at every order on recent versions
(pytorch/pytorch 53040, 155695, 175585). Batched Jacobi solvers have also returned the diagonal
instead of the eigenvalues (cupy/cupy 4847), of which the trace is right: hence a second moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rankscope.accelerator.memory import out_of_memory
from rankscope.accelerator.reading import T
from rankscope.accelerator.summing import Sums
from rankscope.records import Spectrum
from rankscope.solvers import NORM_CHECK_FACTOR, norm_mismatch
from rankscope.solvers.entries import NormOverflow, rounding

# 256 MiB of float64: 2 of order 4096, 32 of 1024, 32768 of 32. The solver takes as much again, and
# the batch itself is a copy.
BATCH_ELEMENTS = 2**25


def batch_limit(order: int) -> int:
    """How many matrices of an order are solved together."""
    return max(1, BATCH_ELEMENTS // order**2)


def solved_batch(
    batch: Sequence[Sums[T]], short: Callable[[T], None]
) -> Iterator[tuple[Sums[T], Spectrum]]:
    """The spectra of matrices of equal order; one that cannot be had soundly is left out.

    A batch for which there is no memory is solved in halves; `short` is told of a matrix for
    which there is none at all.
    """
    if not batch:
        return
    lacking = False
    try:
        values = _eigenvalues(batch)
    except RuntimeError as error:  # what does not converge is one, too
        lacking = out_of_memory(error)
        if not (lacking or isinstance(error, torch.linalg.LinAlgError)):  # type: ignore[attr-defined] # it is documented
            raise
        values = None
    if values is not None:
        for sums, eigenvalues in zip(batch, values, strict=True):
            found = None if eigenvalues is None else _spectrum(sums, eigenvalues)
            if found is not None:
                yield sums, found
    elif len(batch) > 1:
        middle = len(batch) // 2
        yield from solved_batch(batch[:middle], short)
        yield from solved_batch(batch[middle:], short)
    elif lacking:
        short(batch[0].matrix)


def _eigenvalues(batch: Sequence[Sums[T]]) -> list[NDArray[np.float64] | None]:
    """Ascending eigenvalues of each; None where they contradict the matrix."""
    stack = torch.stack([sums.gram for sums in batch])
    diagonal = stack.diagonal(dim1=1, dim2=2)
    # The largest is brought to 1 for squares of squares: of float64 they could underflow.
    largest = diagonal.amax(dim=1).clamp(min=2.0**-1022)
    lower = (stack / largest[:, None, None]).tril_()
    squares = 2 * lower.square().sum((1, 2)) - (diagonal / largest[:, None]).square().sum(1)
    del lower
    values = torch.linalg.eigvalsh(stack)
    moments = (values / largest[:, None]).square().sum(1)
    # A stable solver's values are those of a matrix that is off by a few round-offs in norm, so
    # that this sum is off by as much; each of the two sums rounds as the norm's does.
    tolerance = NORM_CHECK_FACTOR * 2 * stack.shape[1] * 2.0**-53
    sound = ((moments - squares).abs() <= tolerance * squares).tolist()
    found = values.cpu().numpy()
    return [one if good else None for one, good in zip(found, sound, strict=True)]


def _spectrum(sums: Sums[T], eigenvalues: NDArray[np.float64]) -> Spectrum | None:
    """The record, unless it contradicts the entries' norm or float64 cannot hold that."""
    sigma = np.sqrt(np.maximum(eigenvalues[::-1], 0.0))
    resolution = math.sqrt(rounding(sums.matrix))
    try:
        found = sums.norms().spectrum(sums.matrix, sums.scale, sigma, resolution, sums.route)
    except NormOverflow:
        return None
    return None if norm_mismatch(found) else found
