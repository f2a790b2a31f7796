"""Adapters: the two factors of each layer become the low-rank matrix that is added to its weights.

PEFT saves LoRA and DoRA as `X.lora_A.weight` (r, in) and `X.lora_B.weight` (out, r), those of an
embedding as `X.lora_embedding_A` and `_B`; kohya's scripts as `X.lora_down.weight` and
`X.lora_up.weight` with a scalar `X.alpha`, diffusers as `X.lora.down.weight`. What is added to
`X.weight` is B A times a scale that adapter_config.json or the scalar tells. Without it, or with
factors that do not fit, they stay what they are, and the product is listed with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rankscope.checkpoints.adapter_config import NotScaled, check_work, scale_of
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.checkpoints.wrapped import WrappedCheckpoint
from rankscope.dtypes import FLOATS
from rankscope.records import Checkpoint, Factors, Listing, MatrixSpec, Skipped, TensorInfo

PREFIX = "base_model.model."  # what PEFT puts before the names of the base model

# How the first factor's name ends, and the second's in its place; PEFT's may have the name of the
# adapter behind it. Then how the name of the scalar and of the magnitude of DoRA ends.
SPELLINGS = (
    ("lora_A", "lora_B", "alpha", "lora_magnitude_vector"),
    ("lora_embedding_A", "lora_embedding_B", "alpha", "lora_magnitude_vector"),
    ("lora_down", "lora_up", "alpha", "dora_scale"),
    ("lora.down", "lora.up", "alpha", "dora_scale"),
)
EMBEDDING = "lora_embedding_A"

# The middle factor of a convolution that is made of three (kohya's CP decomposition), and the
# diagonal between the two of AdaLoRA.
BETWEEN = ("lora_mid.weight", "lora_E", "lora_E.default")


@dataclass(frozen=True, slots=True)
class Pair:
    """The two factors of one module, as they are stored.

    Attributes:
        module: the module's name in the base model.
        stem: the same as it is stored, prefix and all.
        first: shape (r, in).
        second: shape (out, r).
        embedding: what is added to the weights is the transposed product.
        alpha: the scalar beside them, or None.
        magnitude: the norms of DoRA, or None.
        between: a third factor, or None.
    """

    module: str
    stem: str
    first: TensorInfo
    second: TensorInfo
    embedding: bool
    alpha: TensorInfo | None
    magnitude: TensorInfo | None
    between: TensorInfo | None

    @property
    def name(self) -> str:
        """The tensor of the base that the product is added to."""
        return f"{self.module}.weight"

    @property
    def members(self) -> tuple[TensorInfo, ...]:
        """Everything that is stored for it."""
        found = (self.first, self.second, self.alpha, self.magnitude, self.between)
        return tuple(tensor for tensor in found if tensor is not None)


def with_products(checkpoint: Checkpoint, files: ModelFiles) -> Checkpoint:
    """The checkpoint with a product in the place of each pair of factors.

    Raises:
        InputRejected: adapter_config.json is no JSON.
    """
    pairs = pairs_in(checkpoint.listing)
    if not pairs:
        return checkpoint
    found, refused = products(checkpoint, pairs, files)
    places = {pair.first.name: found[pair.name] for pair in pairs if pair.name in found}
    hidden = {item.name: item for pair in pairs if pair.name in found for item in _hidden(pair)}
    listing = checkpoint.listing
    tensors = tuple(
        places.get(tensor.name, tensor)
        for tensor in listing.tensors
        if tensor.name in places or tensor.name not in hidden
    )
    skipped = (*listing.skipped, *hidden.values(), *refused)
    return WrappedCheckpoint(checkpoint, replace(listing, tensors=tensors, skipped=skipped))


def _hidden(pair: Pair) -> Iterator[Skipped]:
    """What is not measured any more, because the product is."""
    for factor in (pair.first, pair.second):
        yield Skipped(factor.name, "a factor of a low-rank product, which is measured")
    if pair.magnitude is not None:
        reason = "magnitudes of DoRA: not in the product, applied on the base model (--base)"
        yield Skipped(pair.magnitude.name, reason, "vector")


def pairs_in(listing: Listing) -> list[Pair]:
    """The pairs of factors by their names, in the file's order."""
    tensors = {tensor.name: tensor for tensor in listing.tensors}
    found = []
    for tensor in listing.tensors:
        pair = _pair(tensor, tensors)
        if pair is not None:
            found.append(pair)
    return found


def _pair(first: TensorInfo, tensors: Mapping[str, TensorInfo]) -> Pair | None:
    """The pair whose first factor a tensor is."""
    for down, up, alpha, magnitude in SPELLINGS:
        stem, mark, rest = first.name.rpartition(f".{down}")
        if not mark or not _is_rest(rest, embedding=down == EMBEDDING):
            continue
        second = tensors.get(f"{stem}.{up}{rest}")
        if second is None:
            continue
        adapter = rest.removesuffix(".weight")
        names = [f"{stem}.{magnitude}{end}" for end in (adapter, f"{adapter}.weight", ".weight")]
        return Pair(
            stem.removeprefix(PREFIX),
            stem,
            first,
            second,
            down == EMBEDDING,
            tensors.get(f"{stem}.{alpha}"),
            next((tensors[name] for name in names if name in tensors), None),
            next((tensors[n] for end in BETWEEN if (n := f"{stem}.{end}") in tensors), None),
        )
    return None


def _is_rest(rest: str, *, embedding: bool) -> bool:
    """Whether this may stand behind `lora_A`: the adapter's name, if any, and `.weight`."""
    if not embedding:
        if not rest.endswith(".weight"):
            return False
        rest = rest.removesuffix(".weight")
    return rest == "" or (rest.startswith(".") and rest.count(".") == 1)


def products(
    checkpoint: Checkpoint, pairs: Sequence[Pair], files: ModelFiles
) -> tuple[dict[str, TensorInfo], list[Skipped]]:
    """The product of each pair by its name, and those that cannot be told, with the reason."""
    names = {tensor.name for tensor in checkpoint.listing.tensors}
    found: dict[str, TensorInfo] = {}
    refused: dict[str, Skipped] = {}
    try:
        check_work(files.adapter, len(pairs))
    except NotScaled as error:
        return {}, [_refused(pair, error) for pair in pairs]
    for pair in pairs:
        try:
            if pair.name in found or pair.name in refused:
                raise NotScaled("several pairs of factors have this name")
            if pair.name in names:
                raise NotScaled("another tensor has this name")
            found[pair.name] = _product(checkpoint, pair, files)
        except NotScaled as error:
            found.pop(pair.name, None)
            refused[pair.name] = _refused(pair, error)
    return found, list(refused.values())


def _refused(pair: Pair, error: NotScaled) -> Skipped:
    return Skipped(pair.name, f"{error}; its factors are measured one by one")


def _product(checkpoint: Checkpoint, pair: Pair, files: ModelFiles) -> TensorInfo:
    """The product of a pair; raises `NotScaled`."""
    first, second = pair.first, pair.second
    _check_shapes(pair)
    rank = first.shape[0]
    outside, inside = second.shape[0], math.prod(first.shape[1:])
    # Three axes would be taken for a stack.
    folds = pair.embedding or len(first.shape) < 4
    stored = (outside, inside) if folds else (outside, *first.shape[1:])
    # The coarser type is the one whose rounding shows.
    dtype = max(first.dtype, second.dtype, key=lambda name: FLOATS[name].unit_roundoff)
    read = (pair.first, pair.second) if pair.alpha is None else (first, second, pair.alpha)
    return TensorInfo(
        pair.name,
        stored,
        dtype,
        transposed=pair.embedding,
        sources=tuple(name for tensor in read for name in tensor.sources or (tensor.name,)),
        factors=Factors(
            _whole(second, (outside, rank)),
            _whole(first, (rank, inside)),
            _scale(checkpoint, pair, files, rank),
        ),
    )


def _whole(tensor: TensorInfo, shape: tuple[int, int]) -> MatrixSpec:
    return MatrixSpec(tensor.name, tensor.name, (), 1, shape, tensor.dtype, "linear")


def _check_shapes(pair: Pair) -> None:
    """`NotScaled` unless the factors can be multiplied."""
    first, second = pair.first, pair.second
    if pair.between is not None:
        raise NotScaled(f"{pair.between.name} stands between the factors")
    for tensor in (first, second):
        if tensor.dtype not in FLOATS:
            raise NotScaled(f"a factor is {tensor.dtype}, expected floating point")
        if tensor.transposed or tensor.channels_last or tensor.parts or 0 in tensor.shape:
            raise NotScaled(f"{tensor.name} is not stored as a factor is")
    axes = len(first.shape)
    fits = axes >= 2 and len(second.shape) == axes and second.shape[1] == first.shape[0]
    fits = fits and set(second.shape[2:]) <= {1} and not (pair.embedding and axes > 2)
    if not fits:
        raise NotScaled(f"factors of shapes {second.shape} and {first.shape} do not fit")


def _scale(checkpoint: Checkpoint, pair: Pair, files: ModelFiles, rank: int) -> float:
    """What the product is multiplied by; raises `NotScaled`."""
    config = files.adapter
    # What PEFT saved has this prefix; a scalar beside factors is of another tool.
    if config and (pair.alpha is None or pair.stem.startswith(PREFIX)):
        return scale_of(config, pair.module, rank)
    if pair.alpha is None:
        raise NotScaled("no adapter_config.json beside it tells its scale, lora_alpha / r")
    return _scalar(checkpoint, pair.alpha) / rank


def _scalar(checkpoint: Checkpoint, tensor: TensorInfo) -> float:
    """The number in a tensor of one element; raises `NotScaled`."""
    if tensor.size != 1 or tensor.dtype not in FLOATS:
        raise NotScaled(f"{tensor.name} is {tensor.dtype} {tensor.shape}, expected one number")
    spec = MatrixSpec(tensor.name, tensor.name, (), 0, (1, 1), tensor.dtype, "linear")
    value = float(checkpoint.read(spec, slice(0, 1), slice(0, 1))[0, 0])
    if not math.isfinite(value):
        raise NotScaled(f"{tensor.name} is {value}, expected a finite number")
    return value
