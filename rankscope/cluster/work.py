"""What a worker of the cluster runs."""

from __future__ import annotations

import pickle
import platform
import time
from dataclasses import dataclass
from typing import Any

from rankscope.blas import keep_to_one_thread
from rankscope.cluster.faults import WorkerMismatch
from rankscope.version import __version__


def versions() -> str:
    """Of what decides about the numbers, in this process."""
    import numpy as np

    return f"rankscope {__version__}, numpy {np.__version__}"


@dataclass(frozen=True, slots=True)
class Performed:
    """What a task comes back with.

    Attributes:
        seconds: that it took.
        results: of each argument.
    """

    seconds: float
    results: tuple[Any, ...]


def perform(expected: str, payload: bytes) -> Performed:
    """Do a task, if this worker would find what the client would.

    The versions come first and the task is pickled by itself: another version's records may not
    even be read as they were written.

    Args:
        expected: the client's versions.
        payload: a pickle of a function and its arguments, one after the other, by the client.

    Raises:
        WorkerMismatch: this worker has others. It may have joined late.
    """
    found = versions()
    if found != expected:
        raise WorkerMismatch(platform.node(), f"it has {found}", expected)
    # Dask runs as many tasks in a worker as it has threads; each gets one of them.
    keep_to_one_thread()
    function, items = pickle.loads(payload)  # noqa: S301 - from the client that commands us
    start = time.perf_counter()
    results = tuple(function(item) for item in items)
    return Performed(time.perf_counter() - start, results)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A call of `perform`, made where its pickle is loaded.

    So the function that Dask is given is `pickle.loads`, which every scheduler and worker has.
    One of ours that a worker cannot import would cut its connection and end it, and not ours alone.
    """

    expected: str
    payload: bytes

    def __reduce__(self) -> tuple[object, ...]:
        return perform, (self.expected, self.payload)
