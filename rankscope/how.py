"""By which means matrices are measured."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rankscope.accelerator import check_device
from rankscope.answering import RouteChoice
from rankscope.errors import UsageError
from rankscope.executors import Executor

Progress = Callable[[float, float], None]


@dataclass(frozen=True, slots=True)
class How:
    """How to measure; none of it changes a number beyond its stated resolution.

    Attributes:
        route: auto, gram or direct.
        workers: processes; None for as many as there are cores and work for them.
        store: keep spectra; True where the run or the user's cache is, a path, or False.
        verify: read every file again, whatever is remembered of it.
        keyed: tell what each matrix's content is, `Measured.key`, also without a store.
        progress: called with the floating-point operations done and to be done.
        cores: of this machine, to be used together; None for all that this process may use.
        device: cpu, cuda, cuda:N, cuda:* for every one, or auto: whichever is sooner done.
        executor: where matrices are measured instead of this machine's own processes; ours, or
            any of `concurrent.futures`.
    """

    route: RouteChoice = "auto"
    workers: int | None = None
    store: bool | Path = True
    verify: bool = False
    keyed: bool = False
    progress: Progress | None = None
    cores: int | None = None
    device: str = "auto"
    executor: Executor | concurrent.futures.Executor | None = None

    def __post_init__(self) -> None:
        if self.route not in get_args(RouteChoice):
            choices = ", ".join(get_args(RouteChoice))
            raise UsageError(f"route is {self.route!r}, expected one of {choices}")
        check_device(self.device)
        engine = self.executor
        if isinstance(engine, type) or not (engine is None or _runs(engine)):
            raise UsageError(
                f"executor is {engine!r}, expected one of concurrent.futures that is open, or "
                "rankscope.cluster.DaskExecutor(client)"
            )
        for name, value in (("workers", self.workers), ("cores", self.cores)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}, expected at least 1")


def _runs(engine: object) -> bool:
    """Whether this is an executor: ours, or of `concurrent.futures`."""
    # A client of Dask is told apart by `submit`: its `run` is another thing.
    ours = callable(getattr(engine, "run", None)) and not hasattr(engine, "submit")
    return ours or isinstance(engine, concurrent.futures.Executor)
