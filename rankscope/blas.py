"""How many threads NumPy's BLAS uses.

Several matrices at once on one thread each beat one matrix on several threads: the reduction to
tridiagonal form waits for memory, and on a shared machine BLAS threads wait for each other.
"""

from __future__ import annotations

import functools
import os
from contextlib import AbstractContextManager, nullcontext

# Every BLAS that NumPy is built with reads one of these when it is loaded.
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def start_with_one_thread() -> None:
    """Have a BLAS that is not loaded yet start with one thread, unless the user says otherwise."""
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, "1")


def blas_threads(count: int) -> AbstractContextManager[object]:
    """So many threads within the context."""
    if all(os.environ.get(variable) == str(count) for variable in THREAD_VARIABLES):
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(count)
    return limits


@functools.cache
def keep_to_one_thread() -> None:
    """One thread from here on, for good: in a worker process that takes one matrix at a time.

    Looking through the libraries that are loaded takes a millisecond, so it is done once.
    """
    from threadpoolctl import threadpool_limits

    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # for what is loaded later
    threadpool_limits(1)
