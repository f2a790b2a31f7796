"""Matrices of a checkpoint -> tasks: how many go together, and what another process is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from rankscope import plan
from rankscope.identities import ABSENT, Identity
from rankscope.places import place, text_of
from rankscope.presence import fixed
from rankscope.records import MatrixSpec
from rankscope.worker import Task

# Matrices of one file go to a worker together until they make this much work (about 20 ms),
# so that a run of small matrices is not spent on opening files and passing messages.
TASK_FLOPS = 1e9

# On a card, two seconds of a Gram route that runs at 1 TFLOP/s: enough for equal shapes to meet in
# a batch and for reading to stay ahead, little enough for cards to end together.
CARD_TASK_FLOPS = 2e12

# Read and hashed together: a fifth of a second's work, beside which opening a file is nothing.
PORTION_BYTES = 2**28


def grouped(specs: Sequence[MatrixSpec]) -> Iterator[tuple[MatrixSpec, ...]]:
    """Matrices of one file in groups of about `TASK_FLOPS`; a larger one by itself."""
    return _groups(specs, TASK_FLOPS)


def grouped_for_cards(specs: Sequence[MatrixSpec]) -> Iterator[tuple[MatrixSpec, ...]]:
    """As `grouped`, of `CARD_TASK_FLOPS`, equal orders of Gram matrices next to each other."""
    alike = sorted(specs, key=lambda spec: sorted(spec.shape), reverse=True)
    return _groups(alike, CARD_TASK_FLOPS)


def _groups(specs: Sequence[MatrixSpec], most: float) -> Iterator[tuple[MatrixSpec, ...]]:
    group: list[MatrixSpec] = []
    work = 0.0
    for spec in specs:
        cost = plan.matrix_flops(spec)
        if group and work + cost > most:
            yield tuple(group)
            group, work = [], 0.0
        group.append(spec)
        work += cost
    if group:
        yield tuple(group)


def portions(specs: Sequence[MatrixSpec]) -> Iterator[tuple[MatrixSpec, ...]]:
    """Matrices of one file in portions of about `PORTION_BYTES` to be read."""
    portion: list[MatrixSpec] = []
    size = 0
    for spec in specs:
        portion.append(spec)
        size += plan.stored_bytes(spec)
        if size > PORTION_BYTES:
            yield tuple(portion)
            portion, size = [], 0
    if portion:
        yield tuple(portion)


def task_flops(task: Task) -> float:
    """Operations that a task takes."""
    return sum(map(plan.matrix_flops, task.specs))


def held(task: Task, seen: Sequence[Identity]) -> Task:
    """A task that reads what was listed, whatever is at its place by the time that it is done."""
    told = [one for one in seen if one.inode or one.size == ABSENT]  # the others tell nothing
    listed = tuple(one._replace(path=text_of(fixed(place(one.path)))) for one in told)
    base = None if task.base is None else fixed(task.base)
    return replace(task, path=fixed(task.path), base=base, listed=listed)


def sent(task: Task) -> Task:
    """A task as another machine understands it: where it stands, another directory is current.

    Nor does it get at the store: a database that lies on a network's file system is no safe place
    to meet. It tells the content's key instead, by which it is kept here.
    """
    base = None if task.base is None else absolute(task.base)
    keyed = task.keyed or task.store is not None
    return replace(task, path=absolute(task.path), base=base, store=None, keyed=keyed)


def absolute(path: PurePath) -> PurePath:
    """A place as it is called from any working directory."""
    return path.absolute() if isinstance(path, Path) else path


def narrowed(task: Task, spec: MatrixSpec) -> Task:
    """A task with one of its matrices."""
    return replace(task, specs=(spec,))
