"""Where work runs: one file an executor.

In this process or its threads, or in worker processes of this machine.
"""

from __future__ import annotations

from rankscope.executors.base import Done, Executor, available_cores
from rankscope.executors.inline import InlineExecutor
from rankscope.executors.processes import ProcessExecutor
from rankscope.executors.threads import ThreadExecutor

__all__ = [
    "Done",
    "Executor",
    "InlineExecutor",
    "ProcessExecutor",
    "ThreadExecutor",
    "available_cores",
]
