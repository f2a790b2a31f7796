"""A small training, and its run directory written by hand: what every hook is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

import rankscope
from rankscope.api import Analysis
from rankscope.how import How
from rankscope.snapshots import Contents, LogRecord, RunRecord, SnapshotWriter

BATCH = 8
LR, WEIGHT_DECAY = 0.5, 1.2  # so large that the bound says something after a few steps

State = dict[str, Any]

DECOMPOSITIONS = [
    *((np.linalg, name) for name in ("svd", "svdvals", "eigh", "eigvalsh", "qr")),
    *((scipy.linalg, name) for name in ("svd", "svdvals", "eigh", "eigvalsh", "qr")),
    *((torch.linalg, name) for name in ("svd", "svdvals", "eigh", "eigvalsh", "qr")),
]


def network(seed: int = 0) -> torch.nn.Sequential:
    """Two matrices, a batch norm with its buffers, and a dropout that draws random numbers."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(12, 16),
        torch.nn.BatchNorm1d(16),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.25),
        torch.nn.Linear(16, 10),
    )


def samples(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and classes, the same at each call, without PyTorch's random numbers."""
    rng = np.random.default_rng(7)
    inputs = torch.from_numpy(rng.standard_normal((count, 12)).astype(np.float32))
    return inputs, torch.from_numpy(rng.integers(10, size=count))


def sgd(model: torch.nn.Module, lr: float = LR, **options: Any) -> torch.optim.SGD:
    """The optimizer of the small training."""
    return torch.optim.SGD(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY, **options)


def batch_of(step: int, size: int = BATCH) -> tuple[torch.Tensor, torch.Tensor]:
    """The samples of an update, counted from 1."""
    inputs, classes = samples()
    start = (step - 1) * size % len(inputs)
    return inputs[start : start + size], classes[start : start + size]


def update(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int, size: int = BATCH
) -> float:
    """One update; its loss."""
    inputs, classes = batch_of(step, size)
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(inputs), classes)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def state_of(model: torch.nn.Module) -> State:
    """The tensors as they are now, copied."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def trained(steps: int, *, lr: float = LR) -> dict[int, State]:
    """The states of the small training after every step, from 0 on, with no hook in it."""
    model = network()
    optimizer = sgd(model, lr)
    states = {0: state_of(model)}
    for step in range(1, steps + 1):
        update(model, optimizer, step)
        states[step] = state_of(model)
    return states


def by_hand(
    run_dir: Path,
    record: RunRecord,
    states: Mapping[int, State],
    lines: Mapping[int, LogRecord],
    contents: Contents = "weights",
) -> Path:
    """The run directory that the plain writer makes of these states."""
    with SnapshotWriter(run_dir, record, contents=contents) as writer:
        for step, line in lines.items():
            writer.log(step, line)
        for step, state in states.items():
            writer.save(step, state)
    return run_dir


def asked(run_dir: Path) -> Analysis:
    """An analysis that leaves no store behind."""
    return rankscope.analyze(run_dir, how=How(store=False, workers=1))


def told(table: Analysis) -> dict[str, list[dict[str, Any]]]:
    """All rows of an analysis, but for where they come from."""
    document = table.to_document()
    return {
        part: [{key: row[key] for key in row if key != "source"} for row in document[part]]
        for part in ("matrices", "skipped", "summary", "runs")
    }


def steps_in(run_dir: Path) -> list[int]:
    """The steps of the snapshots, and that nothing else lies beside them."""
    files = sorted((run_dir / "snapshots").iterdir())
    found = [int(file.name.removeprefix("step-").partition(".")[0]) for file in files]
    assert all(file.name.endswith(".safetensors") for file in files), files
    return found


@contextmanager
def decompositions(
    monkeypatch: pytest.MonkeyPatch, allowed: Callable[[], bool]
) -> Iterator[list[str]]:
    """Watch every decomposition of this process; one that is not allowed where it is raises."""
    seen: list[str] = []

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            seen.append(name)
            if not allowed():
                raise AssertionError(f"{name} in the training's thread")
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for module, name in DECOMPOSITIONS:
            function = getattr(module, name, None)  # NumPy 1 has no svdvals
            if function is not None:
                patched.setattr(module, name, watched(name, function))
        yield seen
