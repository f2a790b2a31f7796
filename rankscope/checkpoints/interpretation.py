"""From what is stored to what the model computes with: the stages that stand between.

Each stage takes a checkpoint and what stands beside it, and returns the same checkpoint, or one
whose listing says more: a further name of tied weights is listed, codes and scales become the
weights that they stand for, pairs of factors their product, a fused tensor its layers. A new one
is one file and one entry in `STAGES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rankscope.checkpoints.adapters import with_products
from rankscope.checkpoints.dequantisation import dequantised
from rankscope.checkpoints.layouts import laid_out
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.checkpoints.ties import with_ties
from rankscope.checkpoints.wrapped import WrappedCheckpoint
from rankscope.records import Checkpoint

Stage = Callable[[Checkpoint, ModelFiles], Checkpoint]

STAGES: tuple[Stage, ...] = (with_ties, dequantised, with_products, laid_out)


def interpreted(checkpoint: Checkpoint, files: ModelFiles) -> Checkpoint:
    """The checkpoint as its model reads it.

    Args:
        checkpoint: an open one; closed when this fails.
        files: what stands beside it and says how to read it.

    Raises:
        InputRejected: one of these is not sound, or contradicts the tensors.
    """
    if any(tensor.solved for tensor in checkpoint.listing.tensors):
        return checkpoint  # there is nothing left to interpret
    try:
        for stage in STAGES:
            checkpoint = stage(checkpoint, files)
        listing = replace(checkpoint.listing, hints=(*checkpoint.listing.hints, *files.paths))
    except BaseException:
        checkpoint.close()
        raise
    return WrappedCheckpoint(checkpoint, listing)
