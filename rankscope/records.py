"""The records that stages hand to each other; all immutable, all picklable.

path -> Listing -> MatrixSpec -> Spectrum -> Reading -> table -> views
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    # bfloat16 and the float8 types have no static NumPy type.
    Stored = NDArray[Any]

Kind = Literal["linear", "convolution", "embedding", "stacked"]
# How singular values were computed: `cuda` and `cuda32` are the Gram route on a card, which
# resolves as much (`rankscope.accelerator`).
Route = Literal["gram", "direct", "factors", "cuda", "cuda32"]
Status = Literal["ok", "empty", "nonfinite", "failed", "unreadable", "worker_lost"]


@dataclass(frozen=True, slots=True)
class Part:
    """Which rows of a fused matrix are one layer: of every `period` of them, [start, stop).

    Query, key and value one after the other are one period each; heads that are interleaved, or
    a gate in every other row, are many.

    Attributes:
        name: what is appended to the matrix's name: `q`, `gate`.
        groups: how many periods there are.
        period: rows of each.
        start: the first row of a period that belongs to the part.
        stop: behind the last.
    """

    name: str
    groups: int
    period: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Rows of the part."""
        return self.groups * (self.stop - self.start)

    @property
    def whole(self) -> int:
        """Rows of the matrix that it is a part of."""
        return self.groups * self.period


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor as its file's header describes it.

    Attributes:
        name: the tensor's name in the checkpoint, wrapper prefixes removed.
        shape: as stored.
        dtype: NumPy's name of the stored type (see `rankscope.dtypes`).
        channels_last: a convolution stored as (k..., in, out), as Keras does, not (out, in, k...).
        transposed: its matrices are stored as (in, out), as GPT-2's Conv1D does, not (out, in).
        parts: the layers that its matrices are made of, along the outputs; () for one.
        encoding: what it is stored as, where that is no array of `dtype`: `Q4_K`, `GPTQ int4`.
        sources: the stored tensors that it is made of, where it is none of them.
        factors: what it is the product of, where it is not stored as a matrix.
        solved: the spectra of its matrices, in the order of `fold`, where no weights are stored.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    channels_last: bool = False
    transposed: bool = False
    parts: tuple[Part, ...] = ()
    encoding: str = ""
    sources: tuple[str, ...] = ()
    factors: Factors | None = None
    solved: tuple[Solved, ...] = ()

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def solved_at(self, index: tuple[int, ...], part: Part | None) -> Solved | None:
        """The stored spectrum of the matrix at this index, or a part of it; None without one."""
        place = index[0] if index else 0
        if part is not None:
            place = place * len(self.parts) + self.parts.index(part)
        return self.solved[place] if place < len(self.solved) else None


Unmeasurable = Literal["", "weight", "vector"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that is in a checkpoint, or should be, and why it is not measured.

    Attributes:
        name: of a tensor or a matrix, or of a file.
        reason: why, in one line.
        what: `weight` is a weight matrix, by its shape and name, whose entries are not to be had;
            `vector` has floating-point entries along one axis; "" is anything else, as a buffer,
            or what is measured under another name.
        same_as: the tensor that has the same weights and is measured; empty where none is told.
        unnamed: it is a part of the model, and what the tensors in it are called is not known.
    """

    name: str
    reason: str
    what: Unmeasurable = ""
    same_as: str = ""
    unnamed: bool = False

    @classmethod
    def tied(cls, name: str, to: str) -> Self:
        """A second name of weights that are measured under another one."""
        return cls(name, f"the same weights as {to}, where they are measured", same_as=to)


@dataclass(frozen=True, slots=True)
class Listing:
    """What one checkpoint holds, from headers alone.

    Attributes:
        path: file or directory.
        format: the reader's name.
        tensors: everything that could be read, in the file's order.
        skipped: what is there and cannot be read as numbers, with the reason.
        missing: what should be there and is not; a result over the rest is incomplete.
        files: every file that it was read from, as `places.text_of` writes them: not to be shown;
            their identity decides whether it changed.
        hints: files that say how to read it, whether they are there or not; theirs does too.
        ties: further names of tensors, (further, stored), as the files claim, unchecked.
    """

    path: str
    format: str
    tensors: tuple[TensorInfo, ...]
    skipped: tuple[Skipped, ...] = ()
    missing: tuple[Skipped, ...] = ()
    files: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    ties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MatrixSpec:
    """One matrix inside a tensor: `tensor[index]`, its axes folded at `split` to two.

    Attributes:
        name: unique in its checkpoint: the tensor's name, with `[i]` for a stacked one.
        tensor: the tensor's name.
        index: leading axes fixed, () for a whole tensor.
        split: how many of the remaining axes form the rows.
        shape: (rows, columns), of the part and in the order (out, in) where these are known.
        dtype: the type that reading gives, which is the stored one but for what is encoded.
        kind: linear, convolution, embedding or stacked.
        transposed: stored as (columns, rows).
        part: which rows of a fused matrix, after transposing; None for all.
        encoding: what it is stored as, where that is no array of `dtype`.
        sources: the stored tensors that it is read from, where `tensor` is none of them.
        factors: what it is the product of, transposed where that is said; it is not stored then.
        solved: its spectrum, where that is stored and the matrix is not.
    """

    name: str
    tensor: str
    index: tuple[int, ...]
    split: int
    shape: tuple[int, int]
    dtype: str
    kind: Kind
    transposed: bool = False
    part: Part | None = None
    encoding: str = ""
    sources: tuple[str, ...] = ()
    factors: Factors | None = None
    solved: Solved | None = None

    @property
    def stored(self) -> MatrixSpec:
        """The whole matrix as it is stored: what a `Checkpoint` can read."""
        if not self.transposed and self.part is None:
            return self
        rows = self.shape[0] if self.part is None else self.part.whole
        shape = (self.shape[1], rows) if self.transposed else (rows, self.shape[1])
        return replace(self, shape=shape, transposed=False, part=None)


@dataclass(frozen=True, slots=True)
class Factors:
    """A low-rank matrix as it is stored: scale * left @ right.

    Attributes:
        left: shape (out, r).
        right: shape (r, in).
        scale: a number.
    """

    left: MatrixSpec
    right: MatrixSpec
    scale: float


@dataclass(frozen=True, slots=True)
class Solved:
    """A spectrum as it is stored in place of its matrix, or why there is none.

    Attributes:
        sigma: the singular values, to be read as a matrix of shape (1, k); None without a spectrum.
        key: a digest of the matrix's entries, in hexadecimal; empty where it was not told.
        status: ok, or what is wrong with the matrix.
        reason: why there is no spectrum.
        frobenius_norm: this and the others as in `Spectrum`.
    """

    sigma: MatrixSpec | None
    key: str = ""
    status: Status = "ok"
    reason: str = ""
    frobenius_norm: float = 0.0
    max_row_norm: float = 0.0
    max_column_norm: float = 0.0
    resolution: float = 0.0
    route: Route = "direct"
    zeros: int = 0


class Checkpoint(Protocol):
    """An open checkpoint. Readers implement it; nothing else touches files."""

    @property
    def listing(self) -> Listing:
        """What is in it."""

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix as `spec.stored`, in its type, shape (rows, columns).

        Both slices have start and stop within the matrix. Memory is bounded by a small
        multiple of the window. Raises `InputRejected` when the bytes are not there any more.
        """

    def close(self) -> None:
        """Release files; further reads fail."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Shaped(Protocol):
    """What a matrix is, without its numbers."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""

    @property
    def dtype(self) -> str:
        """The stored type's name."""


class Matrix(Shaped, Protocol):
    """What a solver gets: a shape, and the numbers in blocks.

    Attributes (read-only):
        shape: (rows, columns).
        dtype: the stored type's name.
    """

    def blocks(self, axis: Literal[0, 1], max_elements: int) -> Iterator[Stored]:
        """Consecutive blocks along `axis`, each whole along the other, in the stored type."""


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """The singular values of one matrix and what is needed to read them.

    Attributes:
        sigma: singular values, float64, descending, shape (min(rows, columns),).
        shape: (rows, columns) of the matrix.
        dtype: the type that the matrix was stored in.
        frobenius_norm: from the entries, not from sigma.
        max_row_norm: largest Euclidean norm of a row.
        max_column_norm: largest Euclidean norm of a column.
        resolution: the smallest sigma / sigma_1 that the route can tell from zero.
        route: how it was computed.
        zeros: how many trailing values are exactly 0, because a row or column is.
    """

    sigma: NDArray[np.float64]
    shape: tuple[int, int]
    dtype: str
    frobenius_norm: float
    max_row_norm: float
    max_column_norm: float
    resolution: float
    route: Route
    zeros: int = 0

    def __repr__(self) -> str:
        rows, columns = self.shape
        head = ", ".join(f"{value:.4g}" for value in self.sigma[:3])
        dots = ", ..." if len(self.sigma) > 3 else ""
        return f"Spectrum([{head}{dots}], {rows}x{columns} {self.dtype}, {self.route})"


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A matrix without a spectrum: why, in one line."""

    status: Status
    reason: str


Measurement = Spectrum | Unmeasured


INFINITE = "infinite"  # how the note of an infinite reading begins


@dataclass(frozen=True, slots=True)
class Reading:
    """The value of a metric on one spectrum.

    Attributes:
        value: the number; None where the metric is undefined; may be infinite.
        note: why it is undefined, not exact or on a tie; empty when there is nothing to say.
        exact: False when values below the spectrum's resolution could change it.
    """

    value: float | int | None
    note: str = ""
    exact: bool = True

    def __float__(self) -> float:
        if self.value is None:
            raise ValueError(f"undefined: {self.note}")
        return float(self.value)
