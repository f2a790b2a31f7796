"""What run.json says: what the user told, and what can be found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from rankscope.errors import UsageError
from rankscope.inputcounts import matrix_records, uncounted_records
from rankscope.integrations.optimisers import Batch, Optimisers
from rankscope.integrations.states import forward_on, is_spread
from rankscope.runrecord import MatrixRecord, RunRecord
from rankscope.tying import tied_names


def completed(
    told: RunRecord | None,
    model: Any,
    optimisers: Optimisers,
    batch: Batch | None,
    example: Any,
    seed: int | None = None,
    versions: Mapping[str, str] = MappingProxyType({}),
) -> RunRecord:
    """The user's record, with what it leaves open filled in where it can be found out.

    Args:
        told: by the user.
        model: not wrapped.
        optimisers: as they are before the first update.
        batch: what an update is made of, if that is known.
        example: a batch that the model can be run on, or None.
        seed: of the training, if that is known.
        versions: of what trains, beside PyTorch.

    Raises:
        UsageError: the inputs per sample cannot be counted on the example.
    """
    found = RunRecord(
        model=type(model).__name__,
        matrices=counted_once(model) if example is None else counted(model, optimisers, example),
        optimiser=optimisers.record(),
        hyperparameters=optimisers.hyperparameters(batch),
        seed=seed,
        versions=dict(versions),
    )
    return found if told is None else over(told, found)


def over(told: RunRecord, found: RunRecord) -> RunRecord:
    """What was told, and beneath it what was found out."""
    said = {part.name: getattr(told, part.name) for part in fields(told)}
    known = {name: value for name, value in said.items() if value is not None and value != ()}
    return replace(found, **{**known, "versions": {**found.versions, **told.versions}})


def counted_once(model: Any) -> tuple[MatrixRecord, ...]:
    """The matrices of a model that has tied ones, each marked as averaged under one name only.

    Of any other model none, which leaves all of its matrices averaged.
    """
    from torch.nn import Module

    if not isinstance(model, Module) or is_spread(model) or not tied_names(model.state_dict()):
        return ()
    return uncounted_records(model)


def counted(model: Any, optimisers: Optimisers, example: Any) -> tuple[MatrixRecord, ...]:
    """The matrices of a model with their inputs per sample, counted on a batch.

    Those of a matrix that is not updated are left open: its learning rate and decay are 0, whatever
    those of the others are, so that it has no bound.
    """
    if is_spread(model):
        raise UsageError(
            "inputs per sample cannot be counted on a model that is spread over processes: call "
            "rankscope.matrix_records before it is, and pass RunRecord(matrices=...)"
        )
    parameters = model.state_dict(keep_vars=True)
    return tuple(
        one
        if optimisers.updates(parameters[one.name])
        else replace(one, inputs_per_sample=None, trained=False)
        for one in matrix_records(model, forward_on(model, example))
    )
