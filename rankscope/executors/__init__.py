"""Where work runs: one file an executor.

In this process or its threads, or in worker processes of this machine.
"""

from __future__ import annotations

from rankscope.executors.base import Done, Executor, available_cores
from rankscope.executors.futures import FuturesExecutor
from rankscope.executors.inline import InlineExecutor
from rankscope.executors.processes import ProcessExecutor
from rankscope.executors.sidebyside import SideBySideExecutor
from rankscope.executors.threads import ThreadExecutor

__all__ = [
    "Done",
    "Executor",
    "FuturesExecutor",
    "InlineExecutor",
    "ProcessExecutor",
    "SideBySideExecutor",
    "ThreadExecutor",
    "available_cores",
]
