"""What the tests of the way to a card share: devices, and a limit on what one allocates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rankscope.accelerator import streaming
from rankscope.accelerator.lanes import HostLane, lane_of
from rankscope.accelerator.rates import Rates
from rankscope.accelerator.streaming import grams_on
from rankscope.records import Matrix, Spectrum

Solver = Callable[[torch.Tensor], torch.Tensor]
Grams = Callable[[Sequence[Matrix]], list[Spectrum | None]]


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda:0",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> str:
    """The host's tensors, and a card's where there is one."""
    name: str = request.param
    return name


@pytest.fixture(params=[0, 8], ids=["float64", "float32"])
def slices(request: pytest.FixtureRequest) -> int:
    """The most slices that a block is split into: none, as many as ever."""
    count: int = request.param
    return count


def rates_for(slices: int) -> Rates:
    """The rates of a card on which so many slices are worth it."""
    return Rates(double=1.0, single=2.0 * slices**2, eigenvalues=1.0, exact=True)


@pytest.fixture
def grams(device: str, slices: int, monkeypatch: pytest.MonkeyPatch) -> Grams:
    """The spectra of matrices, in their order; None for one that is left to the CPU."""
    monkeypatch.setattr(streaming, "rates_of", lambda _: rates_for(slices))

    def run(matrices: Sequence[Matrix]) -> list[Spectrum | None]:
        found: dict[int, Spectrum] = {id(one): got for one, got in grams_on(device, matrices)}
        return [found.get(id(matrix)) for matrix in matrices]

    return run


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever card is named, the host's tensors take its place."""
    monkeypatch.setattr(
        streaming, "lane_of", lambda name: HostLane() if "cuda" in name else lane_of(name)
    )
    monkeypatch.setattr(streaming, "rates_of", lambda _: rates_for(0))


class Memory(TorchDispatchMode):  # type: ignore[no-untyped-call] # none there
    """A device of so many bytes a tensor: an operation that makes a larger one fails.

    Attributes:
        refused: how often it did.
    """

    def __init__(self, most: int, error: Exception | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # none there
        self.most = most
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        self.refused = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what is asked, and fail if the result is too large."""
        made = func(*args, **(kwargs or {}))
        for one in tensors(made):
            if one.numel() * one.element_size() > self.most:
                self.refused += 1
                raise self.error
        return made


def tensors(made: Any) -> Iterator[torch.Tensor]:
    """The tensors among what an operation returned."""
    if isinstance(made, torch.Tensor):
        yield made
    elif isinstance(made, tuple | list):
        for one in made:
            yield from tensors(one)
