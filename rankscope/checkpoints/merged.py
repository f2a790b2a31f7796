"""A base model with a LoRA or DoRA adapter of PEFT merged into it, without writing it anywhere.

W' = W + scale B A; with DoRA, W' = m (W + scale B A) / ||W + scale B A||, the norm and the
magnitude m one for each output (Liu et al. 2024, arXiv:2402.09353, Eq. 5; PEFT merges by the same
formula, and for an embedding takes each column for an output). Windows are computed in float64 and
rounded once to the type of the base: what a merged model would be saved as. PEFT rounds the
product by itself before, so that it may differ by a round-off or two.

What the adapter holds whole (`modules_to_save`, a resized embedding) takes the place of the
base's. The base keeps the layouts that its config.json tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rankscope.checkpoints.closing import Closing
from rankscope.dtypes import numpy_dtype
from rankscope.records import Checkpoint, Factors, Listing, MatrixSpec, TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rankscope.records import Stored

# Rows of a tensor whose norms DoRA needs, at a time: 8 MiB in float64.
NORM_ELEMENTS = 2**20


@dataclass(frozen=True, slots=True)
class Change:
    """What the adapter does to one tensor.

    Attributes:
        before: what it is done to: the base's tensor, or the adapter's own that stands for it.
        held: it is the adapter's own.
        factors: of what is added; None when nothing is.
        flipped: the product is to be transposed to lie as the tensor is stored.
        magnitude: of DoRA, or None.
    """

    before: TensorInfo
    held: bool = False
    factors: Factors | None = None
    flipped: bool = False
    magnitude: TensorInfo | None = None


class MergedCheckpoint(Closing):
    """A `Checkpoint` of all tensors of a base, those that an adapter changes as changed."""

    def __init__(
        self, base: Checkpoint, adapter: Checkpoint, listing: Listing, changes: Mapping[str, Change]
    ) -> None:
        self._base = base
        self._adapter = adapter
        self._listing = listing
        self._changes = changes
        # Of the last tensor with DoRA only: a model's would be as large as its biases, a
        # hostile one's need not.
        self._norms: tuple[str, NDArray[np.float64]] | None = None

    @property
    def listing(self) -> Listing:
        """What is in it."""
        return self._listing

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        change = self._changes.get(spec.tensor)
        if change is None:
            return self._base.read(spec, rows, columns)
        if change.factors is None:
            return self._unchanged(change, spec, rows, columns)
        import numpy as np

        with np.errstate(all="ignore"):  # what is not finite is found by who reads it
            window = self._sum(change, change.factors, spec, rows, columns)
            if change.magnitude is not None:
                line = (columns if change.flipped else rows) if not spec.index else None
                ratios = self._ratios(change, change.factors, change.magnitude, spec)
                window *= _along(ratios, line, spec, flipped=change.flipped)
            return window.astype(numpy_dtype(spec.dtype))

    def _unchanged(self, change: Change, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of what the change is made to, in its own type."""
        own = change.before
        spec = replace(
            spec, tensor=own.name, dtype=own.dtype, encoding=own.encoding, sources=own.sources
        )
        return (self._adapter if change.held else self._base).read(spec, rows, columns)

    def _sum(
        self, change: Change, factors: Factors, spec: MatrixSpec, rows: slice, columns: slice
    ) -> NDArray[np.float64]:
        """A window of W + scale B A."""
        import numpy as np

        window = self._unchanged(change, spec, rows, columns).astype(np.float64)
        if spec.index:  # a row of the product is a matrix of the tensor
            row = self._delta(factors, slice(spec.index[0], spec.index[0] + 1), _all(factors.right))
            return window + row.reshape(spec.shape)[rows, columns]
        if change.flipped:
            return window + self._delta(factors, columns, rows).T
        return window + self._delta(factors, rows, columns)

    def _delta(self, factors: Factors, rows: slice, columns: slice) -> NDArray[np.float64]:
        """A window of scale B A as it is multiplied."""
        import numpy as np

        inside = slice(0, factors.right.shape[0])
        left = self._adapter.read(factors.left, rows, inside).astype(np.float64)
        right = self._adapter.read(factors.right, inside, columns).astype(np.float64)
        return np.asarray(factors.scale * (left @ right), np.float64)

    def _ratios(
        self, change: Change, factors: Factors, magnitude: TensorInfo, spec: MatrixSpec
    ) -> NDArray[np.float64]:
        """DoRA's magnitude over the norm, one for each row of the product, shape (out,)."""
        import numpy as np

        if self._norms is None or self._norms[0] != spec.tensor:
            outside, inside = factors.left.shape[0], factors.right.shape[1]
            shape = (inside, outside) if change.flipped else (outside, inside)
            whole = replace(spec, index=(), split=1, shape=shape)
            squares = np.zeros(outside)
            step = max(1, NORM_ELEMENTS // shape[1])
            for start in range(0, shape[0], step):
                rows = slice(start, min(start + step, shape[0]))
                window = np.square(self._sum(change, factors, whole, rows, slice(0, shape[1])))
                if change.flipped:
                    squares += window.sum(axis=0)
                else:
                    squares[rows] = window.sum(axis=1)
            line = MatrixSpec(
                magnitude.name, magnitude.name, (), 0, (1, outside), magnitude.dtype, "linear"
            )
            sizes = self._adapter.read(line, slice(0, 1), slice(0, outside)).astype(np.float64)
            self._norms = spec.tensor, sizes[0] / np.sqrt(squares)
        return self._norms[1]

    def close(self) -> None:
        """Close both."""
        self._base.close()
        self._adapter.close()


def _all(spec: MatrixSpec) -> slice:
    return slice(0, spec.shape[1])


def _along(
    ratios: NDArray[np.float64], line: slice | None, spec: MatrixSpec, *, flipped: bool
) -> NDArray[np.float64] | np.float64:
    """The ratios of a window's rows, or of its columns where the product is flipped."""
    if line is None:
        found: np.float64 = ratios[spec.index[0]]
        return found
    return ratios[line] if flipped else ratios[line, None]
