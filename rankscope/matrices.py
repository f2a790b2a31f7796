"""From tensors to matrices: which tensors are matrices, how they fold, which are asked for.

The rules need no model knowledge (docs/formats.md lists them):

- two axes: the matrix as stored; `embedding` when its name says so;
- a convolution (out, in/groups, k...) folds to (out, in*k...), "SGD and weight decay secretly
  minimize the rank", Section 4.1; Keras stores (k..., in, out), which folds to (k...*in, out);
- three axes with the first the smallest, and the others too long for a kernel, is a stack of
  matrices (experts, attention heads), each measured by itself; otherwise it is a one-dimensional
  convolution. A first axis of length 1 (position embeddings) is no axis.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rankscope.dtypes import FLOATS, why_not_measured
from rankscope.errors import UsageError
from rankscope.records import Kind, Listing, MatrixSpec, Skipped, TensorInfo, Unmeasurable
from rankscope.rolewords import named_as_weight
from rankscope.text import nearest

# Names that the common libraries give to embedding tables (transformers, timm, GPT-2, T5,
# llama.cpp's `token_embd` and `token_types`).
EMBEDDING = re.compile(
    r"embe?d|\btoken_types\b|\bwte\b|\bwpe\b|(^|[._/])shared\.weight$", re.IGNORECASE
)
# Names of the experts of a mixture, where a tensor holds all of them (`block_sparse_moe`: Granite;
# `ffn_up_exps`: llama.cpp), and of what llama.cpp stacks head by head in DeepSeek's attention.
STACKED = re.compile(r"(?:experts?|moe|_(?:ch)?exps|\battn_[kv]_b)(?=[._/\d]|$)", re.IGNORECASE)

# Of every expert (gpt-oss), or a causal mask that GPT-2 once called so; relative position biases
# of T5 are an embedding's weight and have another name.
BIASES = re.compile(r"(^|[._/])(\w+_)?bias$")

# What quantised weights are stored in; int64 and bool are indices, counts and masks.
CODES = frozenset({"int8", "uint8", "int32"})

VECTOR = "vector"  # why a tensor of one axis is not measured

INSIDE = re.compile(r"(\[\d+\])?(:[a-z]\w*)?$")  # what `fold` appends to a tensor's name

# Kernels over one axis are shorter, but for a few whose output channels outnumber them by far
# (wav2vec 2.0: 768 x 48 x 128); experts and attention heads are wider.
MIN_STACKED_SIDE = 16

# The largest mixtures have a few hundred experts; a tensor of a hundred million 1x1 matrices, one
# short line of a header, would otherwise fill the memory with names.
MAX_STACK = 2**16


@dataclass(frozen=True, slots=True)
class Selection:
    """Which matrices are wanted, by glob over their names.

    A name that holds brackets, `experts.w[3]`, matches itself too, though `[3]` is a glob.

    Attributes:
        include: at least one must match; empty means everything.
        exclude: none may match.
        settled: it was chosen for another model, or the one before: a glob may match nothing by
            now.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    settled: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        for patterns in (self.include, self.exclude):
            if isinstance(patterns, str):  # would be taken apart into characters
                raise UsageError(f"selection is {patterns!r}, expected a tuple: ({patterns!r},)")

    def why_not(self, name: str) -> str | None:
        """The reason why a matrix is not wanted, or None; globs may be of its tensor's name too."""
        names = (name, tensor_of(name))
        if self.include and not _any_match(names, self.include):
            return "not selected by --include"
        if _any_match(names, self.exclude):
            return "excluded by --exclude"
        return None


def tensor_of(matrix: str) -> str:
    """The name of the tensor that a matrix of this name is in: `w` of `w[3]:gate`."""
    return INSIDE.sub("", matrix)


def _any_match(names: Iterable[str], patterns: Sequence[str]) -> bool:
    return any(
        name == pattern or fnmatch.fnmatchcase(name, pattern)
        for name in names
        for pattern in patterns
    )


def select(
    listing: Listing, selection: Selection
) -> tuple[tuple[MatrixSpec, ...], tuple[Skipped, ...]]:
    """The matrices to measure, and everything else with the reason why not.

    Every matrix of every tensor of the listing is in one of the two, in the file's order.
    """
    names = {tensor.name for tensor in listing.tensors}
    specs: list[MatrixSpec] = []
    skipped = list(listing.skipped)
    for tensor in listing.tensors:
        reason = why_no_matrix(tensor)
        if reason is not None:
            skipped.append(Skipped(tensor.name, reason, _what(tensor, reason)))
            continue
        for spec in fold(tensor):
            reason = selection.why_not(spec.name)
            if spec.name != tensor.name and spec.name in names:
                reason = "another tensor has this name"
            if reason is None:
                specs.append(spec)
            else:
                skipped.append(Skipped(spec.name, reason))
    return tuple(specs), tuple(skipped)


def why_no_matrix(tensor: TensorInfo) -> str | None:
    """The reason why a tensor is not measured."""
    if len(tensor.shape) < 2:
        return "scalar" if not tensor.shape else VECTOR
    if len(tensor.shape) > 2 and 0 < max(tensor.shape) == tensor.size and not _in_stack(tensor):
        return VECTOR  # (1, 1, n): a class token
    if BIASES.search(tensor.name):
        return "biases"
    reason = why_not_measured(tensor.dtype)
    if reason is None and _in_stack(tensor) and tensor.shape[0] > MAX_STACK:
        reason = f"a stack of {tensor.shape[0]} matrices, expected at most {MAX_STACK}"
    return reason


def _what(tensor: TensorInfo, reason: str) -> Unmeasurable:
    """What a tensor is that is not measured for this reason."""
    if reason == VECTOR:
        return "vector" if tensor.dtype in FLOATS and tensor.size else ""
    codes = reason == why_not_measured(tensor.dtype) and tensor.dtype in CODES
    return "weight" if codes and named_as_weight(tensor.name) else ""


def _in_stack(tensor: TensorInfo) -> bool:
    return kind_of(tensor) == "stacked"


def fold(tensor: TensorInfo) -> Iterator[MatrixSpec]:
    """The matrices of one tensor with at least two axes."""
    kind = kind_of(tensor)
    if kind == "stacked":
        for i in range(tensor.shape[0]):
            yield from _specs(tensor, f"{tensor.name}[{i}]", (i,), 1, kind)
    elif len(tensor.shape) == 3 and kind != "convolution":
        yield from _specs(tensor, tensor.name, (0,), 1, kind)  # a first axis of length 1
    else:
        split = len(tensor.shape) - 1 if tensor.channels_last else 1
        yield from _specs(tensor, tensor.name, (), split, kind)


def kind_of(tensor: TensorInfo) -> Kind:
    """What a tensor with at least two axes is, from its shape and name."""
    if len(tensor.shape) == 2:
        return "embedding" if EMBEDDING.search(tensor.name) else "linear"
    # Without elements there is nothing to take apart, and a first axis of any length.
    if len(tensor.shape) != 3 or tensor.channels_last or tensor.size == 0:
        return "convolution"
    if tensor.transposed or tensor.parts or STACKED.search(tensor.name):
        return "stacked"  # what has an orientation or parts is known to hold matrices
    side = min(tensor.shape[1:])
    if tensor.shape[0] >= side or side < MIN_STACKED_SIDE:
        return "convolution"
    if tensor.shape[0] > 1:
        return "stacked"
    return "embedding" if EMBEDDING.search(tensor.name) else "linear"


def _specs(
    tensor: TensorInfo, name: str, index: tuple[int, ...], split: int, kind: Kind
) -> Iterator[MatrixSpec]:
    """A matrix of a tensor, or the parts that it is made of."""
    shape = tensor.shape[len(index) :]
    folded = (math.prod(shape[:split]), math.prod(shape[split:]))
    if tensor.transposed:
        folded = folded[::-1]
    spec = MatrixSpec(
        name,
        tensor.name,
        index,
        split,
        folded,
        tensor.dtype,
        kind,
        tensor.transposed,
        None,
        tensor.encoding,
        tensor.sources,
        tensor.factors,
        tensor.solved_at(index, None),
    )
    if not tensor.parts:
        yield spec
    for part in tensor.parts:
        yield replace(
            spec,
            name=f"{name}:{part.name}",
            shape=(part.rows, folded[1]),
            part=part,
            solved=tensor.solved_at(index, part),
        )


def check_selection(selection: Selection, listings: Sequence[Listing]) -> None:
    """Refuse a glob that matches nothing in any listing.

    Raises:
        UsageError: a glob to include that matches no matrix, or one to exclude no tensor at all.
    """
    if (selection.include or selection.exclude) and not selection.settled:
        matrices = dict.fromkeys(name for listing in listings for name in names_in(listing))
        # Whoever leaves out what would not be measured anyway is no less right.
        others = {tensor.name: None for one in listings for tensor in one.tensors}
        others |= {item.name: None for one in listings for item in one.skipped}
        check_globs(selection.include, matrices, "--include")
        check_globs(selection.exclude, matrices | others, "--exclude")


def check_globs(patterns: Sequence[str], names: Iterable[str], option: str) -> None:
    """Refuse a pattern that matches nothing: it is a typing error far more often than not.

    Raises:
        UsageError: naming the closest names there are.
    """
    known = list(dict.fromkeys(names))
    for pattern in patterns:
        if not _any_match(known, (pattern,)):
            near = nearest(pattern, known)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise UsageError(f"{option} {pattern!r} matches no matrix{hint}")


def names_in(listing: Listing) -> Iterator[str]:
    """Every name that a glob may match: of each measurable tensor and of each matrix in it."""
    everything, _ = select(listing, Selection())
    for spec in everything:
        yield spec.tensor
        yield spec.name


def stored_tensors(specs: Iterable[MatrixSpec]) -> set[str]:
    """The names of everything in the files that these matrices are read from."""
    return {name for spec in specs for name in spec.sources or (spec.tensor,)}


def fits(spec: MatrixSpec, tensor: TensorInfo | None) -> bool:
    """Whether a tensor still holds a matrix as it was listed; the file may have been replaced."""
    if tensor is None or len(tensor.shape) < 2:
        return False
    told = (tensor.dtype, tensor.encoding, tensor.transposed, tensor.factors)
    if told != (spec.dtype, spec.encoding, spec.transposed, spec.factors):
        return False
    rest = tensor.shape[len(spec.index) :]
    folded = (math.prod(rest[: spec.split]), math.prod(rest[spec.split :]))
    inside = all(i < n for i, n in zip(spec.index, tensor.shape, strict=False))
    if not (inside and folded == spec.stored.shape and spec.part in (*tensor.parts, None)):
        return False
    return tensor.solved_at(spec.index, spec.part) == spec.solved
