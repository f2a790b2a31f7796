"""The number of inputs that each weight matrix of a PyTorch model is applied to for one sample.

m_l of "SGD and weight decay secretly minimize the rank", Section 2: 1 for a fully-connected layer,
output height times width for a convolution, the sequence length for a layer applied per token. The
gradient of one sample's loss has at most that rank (Lemma 3.1), and that of a batch of B at most
B times it. It is counted in forward passes, not deduced from the kinds of layers;
`rankscope.inputcounts.uses` says what counts.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from rankscope.checkpoints.memory import MemoryCheckpoint
from rankscope.errors import UsageError
from rankscope.inputcounts.trial import trial
from rankscope.inputcounts.uses import WeightUses
from rankscope.matrices import Selection, select
from rankscope.records import MatrixSpec
from rankscope.runrecord import MatrixRecord

if TYPE_CHECKING:
    from torch.nn import Module, Parameter

# Batch norm needs two samples to take a variance. Two passes tell what depends on the number of
# samples from what does not; the third shows whether that is all there is.
SAMPLES = (2, 3, 4)


def matrix_records(
    model: Module, forward: Callable[[int], object], *, not_averaged: Collection[str] = ()
) -> tuple[MatrixRecord, ...]:
    """What `RunRecord.matrices` says of a model, inputs per sample included.

        matrix_records(model, lambda n: model(images[:n]), not_averaged=["fc.weight"])

    `forward` is run for 2, 3 and 4 samples, without gradients. It leaves parameters, buffers and
    PyTorch's random numbers as they were, and the model in the mode it is in: let it be the mode
    that it trains in where the two modes run different layers.

    A matrix that is applied to b inputs for each sample and to a inputs once per pass (a layer
    that makes weights, or works on learned queries) has a + b inputs per sample: the gradient of
    one sample comes through all of them, and a + b B is at most (a + b) B for every B. The sum is
    over all uses, those under another name of a tied weight included.

    Inputs per sample are None where a matrix is not used, where its number of inputs is not of
    the form a + b B (a mixture of experts) and where the rank of its gradient has no such bound:
    it is added to something, normalised, penalised, or multiplied in another shape than it is
    measured in. What PyTorch's dispatcher does not see (a kernel that is called directly) is not
    counted.

    Args:
        model: its names are those of `model.state_dict()`, which `SnapshotWriter` saves.
        forward: runs the model on a batch of so many samples, in the way that training does.
        not_averaged: names of matrices that do not count in the average over the trunk. A tied
            weight counts once, under the first of its names.

    Raises:
        UsageError: `not_averaged` has a name that no matrix has; a parameter has no numbers yet;
            or no matrix is applied to more inputs when there are more samples.
    """
    parameters, specs = _matrices(model)
    _check_names(not_averaged, specs)
    counted = _counted_once(parameters, not_averaged)
    # A tied weight has several names and is one parameter.
    weights = {id(parameters[name]): (parameters[name], spec) for name, spec in specs.items()}
    watched = [(parameter, bool(spec.index)) for parameter, spec in weights.values()]
    passes = [_uses(model, forward, samples, watched) for samples in SAMPLES]
    if watched:
        _check_passes(passes)
    found = {key: _inputs_per_sample(passes, number) for number, key in enumerate(weights)}
    return tuple(
        MatrixRecord(
            name,
            spec.kind,
            tuple(parameters[name].shape),
            found[id(parameters[name])],
            averaged=name in counted,
        )
        for name, spec in specs.items()
    )


def uncounted_records(model: Module) -> tuple[MatrixRecord, ...]:
    """As `matrix_records`, with the inputs per sample left open and nothing run.

    Raises:
        UsageError: a parameter has no numbers yet.
    """
    parameters, specs = _matrices(model)
    counted = _counted_once(parameters, ())
    return tuple(
        MatrixRecord(name, spec.kind, tuple(parameters[name].shape), averaged=name in counted)
        for name, spec in specs.items()
    )


def _counted_once(parameters: Mapping[str, Parameter], not_averaged: Collection[str]) -> set[str]:
    """The names in the average: a tied weight is one matrix, by the first of its names."""
    first: dict[int, str] = {}
    for name, parameter in parameters.items():
        if name not in not_averaged:
            first.setdefault(id(parameter), name)
    return set(first.values())


def _matrices(model: Module) -> tuple[dict[str, Parameter], dict[str, MatrixSpec]]:
    """The parameters that are measured, and for each its matrix, or one of a stack."""
    import torch

    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise UsageError(f"{name} has no numbers yet: run the model once, or load its weights")
    state = model.state_dict(keep_vars=True)
    specs, _ = select(MemoryCheckpoint(state).listing, Selection())
    found = {
        spec.tensor: spec for spec in specs if isinstance(state[spec.tensor], torch.nn.Parameter)
    }
    return {name: state[name] for name in found}, found


def _check_names(names: Collection[str], known: Mapping[str, object]) -> None:
    if isinstance(names, str):  # would be taken apart into characters
        raise UsageError(f"not_averaged is {names!r}, expected a collection: [{names!r}]")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise UsageError(f"not_averaged: the model has no matrix {name!r}{hint}")


def _check_passes(passes: Sequence[WeightUses]) -> None:
    """Refuse a forward that does not do what its argument says; its counts would be a batch's."""
    first, second, third = (uses.inputs for uses in passes)
    rising = any(first[key] < second[key] < third[key] for key in third)
    if not rising and (third or not passes[-1].lost):
        calls = ", ".join(f"forward({samples})" for samples in SAMPLES)
        raise UsageError(
            f"{calls} apply no weight matrix of this model to more inputs each time: "
            f"forward(n) has to run it on n samples, out of {SAMPLES[-1]} or more"
        )


def _inputs_per_sample(passes: Sequence[WeightUses], weight: int) -> int | None:
    """For a + b B inputs to a weight, a + b; in a stack, of the matrix that has the most."""
    if any(weight in uses.lost for uses in passes):
        return None
    most = 0
    for key in {key for uses in passes for key in uses.inputs if key[0] == weight}:
        first, second, third = (uses.inputs[key] for uses in passes)
        each = second - first
        fixed = first - SAMPLES[0] * each
        if third - second != each or each < 0 or fixed < 0:
            return None
        most = max(most, fixed + each)
    return most or None


def _uses(
    model: Module,
    forward: Callable[[int], object],
    samples: int,
    weights: Sequence[tuple[Parameter, bool]],
) -> WeightUses:
    """What one pass does with each weight; beside the weight, whether it is a stack of matrices."""
    uses = WeightUses()
    for number, (weight, stacked) in enumerate(weights):
        uses.watch(number, weight, stacked)
    with trial(model, uses.see):
        forward(samples)
    return uses
