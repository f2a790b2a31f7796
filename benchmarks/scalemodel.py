"""10,000 checkpoints of 70 B parameters on many cores: the work, and a simulation of the flow.

A discrete-event simulation of what happens to each matrix: the scheduler hands it out, storage
gives its bytes, a worker decomposes it, and the one client that writes the store takes the result.
Scheduler, storage and client serve one after the other at constant rates, so that each is a
time from which on it is free; workers are a heap of such times.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from rankscope.matrices import Selection, select
from rankscope.plan import matrix_flops, stored_bytes
from rankscope.rates import Rates
from rankscope.records import Listing, MatrixSpec, TensorInfo
from rankscope.taskcosts import Phases, Work, costs_of, spectrum_bytes, task_flops

# Llama 3 70B (Grattafiori et al. 2024, arXiv:2407.21783, table 3): 80 layers, grouped queries
# with 8 heads of keys of 128, and an output embedding of its own.
LAYERS, WIDTH, HIDDEN, KEYS, VOCABULARY = 80, 8192, 28672, 1024, 128256
CHECKPOINTS = 10_000
FILES = 30  # of each: 5 GB shards, as Hugging Face saves them

SIMULATED = 200  # checkpoints: 112,400 matrices, eleven for each of 10,000 cores


def tensors_70b() -> tuple[TensorInfo, ...]:
    """The tensors of a checkpoint, in bf16."""
    shapes = {
        "self_attn.q_proj": (WIDTH, WIDTH),
        "self_attn.k_proj": (KEYS, WIDTH),
        "self_attn.v_proj": (KEYS, WIDTH),
        "self_attn.o_proj": (WIDTH, WIDTH),
        "mlp.gate_proj": (HIDDEN, WIDTH),
        "mlp.up_proj": (HIDDEN, WIDTH),
        "mlp.down_proj": (WIDTH, HIDDEN),
    }
    norms = ("input_layernorm", "post_attention_layernorm")
    found = [TensorInfo("model.embed_tokens.weight", (VOCABULARY, WIDTH), "bfloat16")]
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}"
        found += [TensorInfo(f"{stem}.{n}.weight", s, "bfloat16") for n, s in shapes.items()]
        found += [TensorInfo(f"{stem}.{n}.weight", (WIDTH,), "bfloat16") for n in norms]
    found.append(TensorInfo("model.norm.weight", (WIDTH,), "bfloat16"))
    found.append(TensorInfo("lm_head.weight", (VOCABULARY, WIDTH), "bfloat16"))
    return tuple(found)


def specs_70b() -> tuple[MatrixSpec, ...]:
    """The matrices of a checkpoint."""
    return select(Listing("", "safetensors", tensors_70b()), Selection())[0]


@dataclass(frozen=True, slots=True)
class Totals:
    """What one checkpoint is.

    Attributes:
        matrices: how many.
        parameters: in them.
        bytes: to read.
        flops: of the Gram route.
        spectra: bytes in the store.
    """

    matrices: int
    parameters: int
    bytes: int
    flops: float
    spectra: int


def totals() -> Totals:
    """Of one checkpoint."""
    specs = specs_70b()
    return Totals(
        len(specs),
        sum(math.prod(spec.shape) for spec in specs),
        sum(map(stored_bytes, specs)),
        sum(map(matrix_flops, specs)),
        sum(map(spectrum_bytes, specs)),
    )


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster and its storage.

    Attributes:
        workers: cores, one process each.
        storage: bytes/s for all.
        scheduler: seconds a task.
        client: seconds a matrix: its row, and its spectrum into the store.
        speed: how many times as fast as the measured core a worker is.
        clients: that share the checkpoints, each with a scheduler and a store of its own.
    """

    workers: int
    storage: float
    scheduler: float
    client: float
    speed: float = 1.0
    clients: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """What a simulation says.

    Attributes:
        seconds: for all checkpoints.
        worker: the share of the time that workers compute.
        storage: that storage is busy.
        scheduler: that the scheduler is.
        client: that the client is.
    """

    seconds: float
    worker: float
    storage: float
    scheduler: float
    client: float

    @property
    def limit(self) -> str:
        """What is busiest."""
        shares = {
            "cores": self.worker,
            "storage": self.storage,
            "scheduler": self.scheduler,
            "client": self.client,
        }
        return max(shares, key=lambda name: shares[name])


@dataclass(frozen=True, slots=True)
class Kind:
    """Matrices of one cost: seconds of a core, bytes to read."""

    seconds: float
    size: int


def kinds_70b(rates: Rates) -> list[Kind]:
    """The matrices of a checkpoint in the order in which they are handed out, at these rates."""
    specs = sorted(specs_70b(), key=lambda spec: task_flops((spec,)), reverse=True)
    costs = costs_of(Work(tuple((spec,) for spec in specs), stored=True), rates)
    # One of many workers that fill their machines.
    phases = costs.phases(max(2, rates.cores))
    return [
        Kind(phases[kind].total, stored_bytes(spec))
        for kind, spec in zip(costs.kinds, specs, strict=True)
    ]


def phases_70b(rates: Rates) -> Phases:
    """Core-seconds of one checkpoint by phase."""
    costs = costs_of(Work(tuple((spec,) for spec in specs_70b()), stored=True), rates)
    phases = costs.phases(max(2, rates.cores))
    total = Phases()
    for kind in costs.kinds:
        total = total.plus(phases[kind])
    return total


def simulate(kinds: list[Kind], site: Site, checkpoints: int = SIMULATED) -> Run:
    """A number of checkpoints through a site in the order of `measure`; told for all of them.

    Of several clients one is simulated, with its share of the workers and of storage. A worker
    reads and then computes: nothing is fetched ahead.
    """
    free = [0.0] * max(1, site.workers // site.clients)
    rate = site.storage / site.clients
    scheduler = storage = client = busy = read = 0.0
    ended: list[float] = []
    for kind in sorted(kinds, key=lambda kind: kind.seconds, reverse=True):
        for _ in range(checkpoints):
            scheduler = max(scheduler, free[0]) + site.scheduler
            storage = max(storage, scheduler) + kind.size / rate
            end = storage + kind.seconds / site.speed
            heapq.heapreplace(free, end)
            ended.append(end)
            busy += kind.seconds / site.speed
            read += kind.size / rate
    for end in sorted(ended):
        client = max(client, end) + site.client
    share = CHECKPOINTS / site.clients / checkpoints
    return Run(
        client * share,
        busy / len(free) / client,
        read / client,
        len(ended) * site.scheduler / client,
        len(ended) * site.client / client,
    )
