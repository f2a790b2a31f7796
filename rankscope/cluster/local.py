"""A cluster of this machine's own processes."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rankscope.blas import THREAD_VARIABLES
from rankscope.cluster.quiet import DEAF_WORKER, NOTHING
from rankscope.cluster.workers import MEMORY
from rankscope.executors.base import available_cores
from rankscope.executors.processes import MALLOC_KEEPS, interrupts_held

if TYPE_CHECKING:
    from distributed import LocalCluster

# Deaths of its workers that Dask overlooks: an item on which two have died is tried alone.
ALLOWED_FAILURES = 1


@contextmanager
def local_cluster(workers: int | None) -> Iterator[LocalCluster]:
    """Single-thread worker processes and a scheduler that listen on 127.0.0.1 only.

    Args:
        workers: how many; None for as many as there are cores.
    """
    import dask
    from distributed import LocalCluster
    from distributed.system import MEMORY_LIMIT

    count = workers or available_cores()
    share = MEMORY_LIMIT // count
    settings: dict[str, object] = {
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        # It looks into the worker a hundred times a second for pictures that nobody draws.
        "distributed.worker.profile.enabled": False,
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREAD_VARIABLES, "1") | MALLOC_KEEPS,
    }
    with (
        _environment_kept(),
        tempfile.TemporaryDirectory(prefix="rankscope-") as folder,
        dask.config.set(settings | {"temporary-directory": folder}),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        with interrupts_held():
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                silence_logs=NOTHING,
                memory_limit=share,
                resources={MEMORY: share},
                preload=[DEAF_WORKER],
                scheduler_kwargs={"allowed_failures": ALLOWED_FAILURES},
            )
        try:
            yield cluster
        finally:
            cluster.close()


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Dask sets what its workers are to have in this process, and leaves it there."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
