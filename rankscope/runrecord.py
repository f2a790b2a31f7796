"""`run.json`, which says what was run: the model, its matrices, the hyperparameters.

Read as strictly as any other input: a wrong type is refused with the file and the key. A key
that this version does not know is ignored, so that later versions can add some.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Any, cast, get_args

from rankscope.jsonobject import JsonObject, read_json
from rankscope.places import place
from rankscope.presence import exists
from rankscope.records import Kind

SCHEMA = "rankscope/run/1"
RUN_FILE = "run.json"

# Far above any real run: a matrix takes some 120 bytes of it.
MAX_RUN_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class MatrixRecord:
    """One weight matrix of the model.

    Attributes:
        name: its tensor's name in the snapshots.
        kind: linear, convolution, embedding or stacked.
        shape: as stored.
        inputs_per_sample: m_l, the number of inputs that the layer is applied to for one sample:
            1 for a fully-connected layer, output height times width for a convolution, the
            sequence length for a layer applied per token; None when not known.
        averaged: whether it counts in the average over the model's trunk.
        trained: whether the updates are of it too; one that is frozen has no bound.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    inputs_per_sample: int | None = None
    averaged: bool = True
    trained: bool = True


@dataclass(frozen=True, slots=True)
class Optimiser:
    """The optimiser, in PyTorch's terms; P1's bound holds for `sgd` only.

    Attributes:
        name: lower case: sgd, adam, ...
        momentum: coefficient of the previous update, 0 for none.
        nesterov: whether the momentum is Nesterov's.
        dampening: PyTorch's dampening of the momentum.
    """

    name: str = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    dampening: float = 0.0


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What the bound on the rank depends on.

    Attributes:
        batch_size: samples per device and step, before accumulation.
        lr: the initial step size, mu.
        weight_decay: PyTorch's: SGD adds weight_decay * W to the gradient.
        world_size: number of devices whose gradients are averaged.
        accumulation: batches whose gradients make one step.
        schedule: (step, lr) pairs, ascending: lr holds from that step on; () when lr is constant;
            None when not recorded here (the log may have it).
    """

    batch_size: int
    lr: float
    weight_decay: float
    world_size: int = 1
    accumulation: int = 1
    schedule: tuple[tuple[int, float], ...] | None = None

    @property
    def samples_per_update(self) -> int:
        """The theorem's B: over all devices and accumulated batches."""
        return self.batch_size * self.world_size * self.accumulation

    @property
    def lambda_(self) -> float:
        """The theorem's lambda, the factor of ||W||^2 in the loss: half of weight_decay."""
        return self.weight_decay / 2


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What was run; everything may be left out.

    Attributes:
        model: the architecture's name.
        matrices: its weight matrices.
        optimiser: None when not recorded.
        hyperparameters: None when not recorded.
        data: the data set, in words.
        seed: of the initialisation and the order of the samples.
        versions: package name -> version; `SnapshotWriter` adds rankscope, python and torch.
    """

    model: str | None = None
    matrices: tuple[MatrixRecord, ...] = ()
    optimiser: Optimiser | None = None
    hyperparameters: Hyperparameters | None = None
    data: str | None = None
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What stands in run.json: weight decay in both conventions, each under its name."""
        content = {"schema": SCHEMA, **asdict(self)}
        if self.hyperparameters is not None:
            both = {"lambda": self.hyperparameters.lambda_, **content["hyperparameters"]}
            content["hyperparameters"] = both
        return content

    @staticmethod
    def from_json(value: object, path: PurePath | str) -> RunRecord:
        """The record from parsed JSON; `InputRejected` names `path` and the key that is wrong."""
        root = JsonObject(path, "", value)
        if root.text("schema") != SCHEMA:
            raise root.wrong("schema", f'"{SCHEMA}": perhaps a newer rankscope wrote it')
        optimiser = root.object("optimiser")
        hyperparameters = root.object("hyperparameters")
        versions = root.object("versions")
        return RunRecord(
            model=root.text("model"),
            matrices=tuple(_matrix(item) for item in root.objects("matrices")),
            optimiser=None if optimiser is None else _optimiser(optimiser),
            hyperparameters=None if hyperparameters is None else _hyperparameters(hyperparameters),
            data=root.text("data"),
            seed=root.integer("seed", -(2**63)),
            versions={} if versions is None else versions.texts(),
        )


def read_run_record(run_dir: PurePath | str) -> RunRecord | None:
    """What `run_dir/run.json` says; None when there is no such file."""
    path = place(run_dir) / RUN_FILE
    return RunRecord.from_json(read_json(path, MAX_RUN_BYTES), path) if exists(path) else None


def _matrix(item: JsonObject) -> MatrixRecord:
    kind, shape = item.text("kind"), item.array("shape")
    if kind not in get_args(Kind):
        raise item.wrong("kind", f"one of {', '.join(get_args(Kind))}")
    if not shape or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise item.wrong("shape", "a list of sizes")
    return MatrixRecord(
        name=item.needed("name", item.text("name")),
        kind=cast("Kind", kind),
        shape=tuple(shape),
        inputs_per_sample=item.integer("inputs_per_sample", 1),
        averaged=item.flag("averaged", default=True),
        trained=item.flag("trained", default=True),
    )


def _optimiser(item: JsonObject) -> Optimiser:
    return Optimiser(
        name=item.needed("name", item.text("name")),
        momentum=item.number("momentum", 0.0) or 0.0,
        nesterov=item.flag("nesterov", default=False),
        dampening=item.number("dampening", 0.0) or 0.0,
    )


def _hyperparameters(item: JsonObject) -> Hyperparameters:
    weight_decay = item.needed("weight_decay", item.number("weight_decay", 0.0))
    lambda_ = item.number("lambda", 0.0)
    if lambda_ is not None and not math.isclose(weight_decay, 2 * lambda_):
        raise item.wrong("lambda", f"{weight_decay / 2:g}, half of weight_decay {weight_decay:g}")
    return Hyperparameters(
        batch_size=item.needed("batch_size", item.integer("batch_size", 1)),
        lr=item.needed("lr", item.number("lr", 0.0)),
        weight_decay=weight_decay,
        world_size=item.integer("world_size", 1) or 1,
        accumulation=item.integer("accumulation", 1) or 1,
        schedule=_schedule(item),
    )


def _schedule(item: JsonObject) -> tuple[tuple[int, float], ...] | None:
    if item.value.get("schedule") is None:
        return None
    pairs = item.array("schedule")
    previous = -1
    for pair in pairs:
        if not _is_change(pair) or pair[0] <= previous:
            raise item.wrong("schedule", "[step, lr] pairs with ascending steps")
        previous = pair[0]
    return tuple((step, float(lr)) for step, lr in pairs)


def _is_change(pair: object) -> bool:
    return (
        isinstance(pair, list)
        and [type(part) for part in pair] in ([int, float], [int, int])
        and 0 <= pair[0] < 2**63
        and 0 <= pair[1] < 2**63
    )
