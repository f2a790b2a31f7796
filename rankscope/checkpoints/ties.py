"""Further names of tensors that a file tells: tied weights, which are written once.

`safetensors.torch.save_model` leaves out all names but one of tensors that share memory, and
writes into `__metadata__` for each that it leaves out which one it has kept (`save_model` in
safetensors/torch.py); huggingface_hub does the same for models in one file, and for those in
shards in `metadata` of the index (`save_torch_state_dict` in its serialization/_torch.py).
Anything else may stand there too, so that it is a claim, which is checked against the tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import islice

from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.checkpoints.wrapped import WrappedCheckpoint
from rankscope.records import Checkpoint, Skipped

# ALBERT-xxlarge, whose layers are one, has some 200 tied tensors where each layer is named.
MAX_TIES = 10_000

MAX_NAME = 1_000  # as in torch files; the longest in use have about 100 characters

Tie = tuple[str, str]  # the further name, and the stored one


def claimed(metadata: object, stored: Collection[str]) -> tuple[Tie, ...]:
    """What metadata say that may be ties, of a file that holds these tensors; never too many."""
    pairs = metadata.items() if isinstance(metadata, dict) else ()
    found = (
        (further, first)
        for further, first in pairs
        if isinstance(first, str) and max(len(further), len(first)) <= MAX_NAME
        if further not in stored
    )
    return tuple(islice(found, MAX_TIES))


def among(ties: Iterable[Tie], known: Collection[str]) -> tuple[Tie, ...]:
    """Those of a name that is not known to one that is, each name once; never too many."""
    found = (tie for tie in ties if tie[0] not in known and tie[1] in known)
    return tuple(dict(islice(found, MAX_TIES)).items())


def with_ties(checkpoint: Checkpoint, files: ModelFiles) -> Checkpoint:
    """The checkpoint with what its files tell of tied weights listed, where it can be so."""
    del files  # a stage like any other, which needs none of them
    listing = checkpoint.listing
    if not listing.ties:
        return checkpoint
    stored = {tensor.name for tensor in listing.tensors}
    absent = {item.name: item.reason for item in listing.missing}
    others = {item.name for item in listing.skipped}
    ties = among(listing.ties, stored | absent.keys() | others)
    tied = tuple(Skipped.tied(name, to) for name, to in ties if to in stored)
    lost = tuple(_lost(ties, absent))
    skipped, missing = (*listing.skipped, *tied), (*listing.missing, *lost)
    return WrappedCheckpoint(
        checkpoint, replace(listing, skipped=skipped, missing=missing, ties=())
    )


def _lost(ties: Iterable[Tie], absent: dict[str, str]) -> Iterator[Skipped]:
    """What is tied to a tensor that is missing is missing too."""
    for name, to in ties:
        if to in absent:
            yield Skipped(name, f"the same weights as {to}: {absent[to]}")
