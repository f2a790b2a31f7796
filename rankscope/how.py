"""By which means matrices are measured."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rankscope.accelerator import check_device
from rankscope.errors import UsageError
from rankscope.executors import Executor
from rankscope.worker import RouteChoice

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
        for name, value in (("workers", self.workers), ("cores", self.cores)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}, expected at least 1")
