"""Packed and scaled weights become the weights that they stand for.

A scheme recognises the tensors that one way of quantising leaves in a checkpoint and decodes any
window of the weight from windows of these, as float32: that is what the kernels multiply in, codes
of at most 8 bits times a 16-bit scale are exact in it, and times a 32-bit one rounded once. What a
scheme recognises and cannot decode for certain is listed as skipped with the reason.

A new scheme is one file with a `Scheme` in it and one entry in `SCHEMES`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from rankscope.checkpoints.dequantisation.awq import AWQ
from rankscope.checkpoints.dequantisation.bitsandbytes import BNB_4BIT, BNB_INT8
from rankscope.checkpoints.dequantisation.gptq import GPTQ
from rankscope.checkpoints.dequantisation.mxfp4 import MXFP4
from rankscope.checkpoints.dequantisation.packed import PACK_QUANTISED
from rankscope.checkpoints.dequantisation.scaled import SCALED
from rankscope.checkpoints.dequantisation.scheme import Scheme, Unfit, Weight
from rankscope.checkpoints.dequantisation.stored import StoredTensors
from rankscope.checkpoints.dequantisation.undecoded import UNDECODED
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.checkpoints.wrapped import WrappedCheckpoint
from rankscope.records import Checkpoint, MatrixSpec, Skipped, TensorInfo
from rankscope.rolewords import named_as_weight

if TYPE_CHECKING:
    from rankscope.records import Stored

# The first that recognises a tensor decides; the last one says what nobody decodes.
SCHEMES: tuple[Scheme, ...] = (
    BNB_4BIT,
    BNB_INT8,
    AWQ,
    GPTQ,
    PACK_QUANTISED,
    MXFP4,
    SCALED,
    UNDECODED,
)

CODED = ("float8", "int", "uint")

# The same for all, so that a model of hundreds of weights says it once; the names tell the weights.
READ_WITH_IT = "read with the weight that it scales"


def dequantised(checkpoint: Checkpoint, files: ModelFiles) -> Checkpoint:
    """The checkpoint with weights in the place of codes; tables of scales are no tensors in it.

    Reads headers, config.json and a few bytes that hold a shape beside each weight.

    Raises:
        InputRejected: config.json is no JSON, or such bytes are not there.
    """
    # Every scheme stores integers or fp8: a model without any needs no look at its names.
    if not any(tensor.dtype.startswith(CODED) for tensor in checkpoint.listing.tensors):
        return checkpoint
    stored = StoredTensors(checkpoint)
    weights: dict[str, Weight] = {}
    reasons: dict[str, str] = {}
    for tensor in checkpoint.listing.tensors:
        if tensor.name not in reasons:
            _take(stored, tensor.name, files, weights, reasons)
    _part_twins(weights, reasons)
    if not weights and not reasons:
        return checkpoint
    return _Dequantised(checkpoint, stored, weights, reasons)


def _take(
    stored: StoredTensors,
    name: str,
    files: ModelFiles,
    weights: dict[str, Weight],
    reasons: dict[str, str],
) -> None:
    """Place a tensor that a scheme recognises: in `weights`, or in `reasons` with its tables."""
    for scheme in SCHEMES:
        tables = scheme.tables(stored, name, files)
        if tables is None:
            continue
        reason = f"scales of {name}, no weights"
        try:
            weight = scheme.weight(stored, name, files)
            if weight.info.name != name and weight.info.name in stored:
                raise Unfit(f"stands for {weight.info.name}, which is a tensor of its own")
            weights[name] = weight
            reason = READ_WITH_IT
        except Unfit as unfit:
            reasons[name] = str(unfit)
        for table in tables:
            weights.pop(table, None)
            reasons[table] = reason
        return


def _part_twins(weights: dict[str, Weight], reasons: dict[str, str]) -> None:
    """Take away what stands for one and the same weight: which of them is meant, nothing tells."""
    named: dict[str, list[str]] = defaultdict(list)
    for name, weight in weights.items():
        named[weight.info.name].append(name)
    for shared, names in named.items():
        if len(names) == 1:
            continue
        for name in names:
            reasons |= dict.fromkeys(weights[name].info.sources, f"scales of {name}, no weights")
            del weights[name]
        for name in names:
            other = next(one for one in names if one != name)
            reasons[name] = f"stands for {shared}, as {other} does"


class _Dequantised(WrappedCheckpoint):
    """A checkpoint that decodes what it lists as encoded."""

    def __init__(
        self,
        inner: Checkpoint,
        stored: StoredTensors,
        weights: dict[str, Weight],
        reasons: dict[str, str],
    ) -> None:
        """Show `weights` in the place of the stored tensors that are its keys."""
        listing = inner.listing
        tensors = tuple(_shown(listing.tensors, weights, reasons))
        skipped = tuple(
            Skipped(
                tensor.name, reasons[tensor.name], "weight" if named_as_weight(tensor.name) else ""
            )
            for tensor in listing.tensors
            if tensor.name in reasons
        )
        super().__init__(
            inner, replace(listing, tensors=tensors, skipped=listing.skipped + skipped)
        )
        self._stored = stored
        self._weights = {weight.info.name: weight for weight in weights.values()}

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        import numpy as np

        weight = self._weights.get(spec.tensor)
        if weight is None:
            return self._inner.read(spec, rows, columns)
        size = rows.stop - rows.start, columns.stop - columns.start
        if 0 in size:
            return np.empty(size, np.float32)
        # A scale of infinity gives NaN or infinity; the solver finds them and says so.
        with np.errstate(all="ignore"):
            return weight.read(self._stored, spec, rows, columns)


def _shown(
    tensors: tuple[TensorInfo, ...], weights: dict[str, Weight], reasons: dict[str, str]
) -> Iterator[TensorInfo]:
    for tensor in tensors:
        if tensor.name in weights:
            yield weights[tensor.name].info
        elif tensor.name not in reasons:
            yield tensor
