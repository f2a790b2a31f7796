"""Matrices on a cluster: Dask distributed, on a workstation, by SLURM, or any that exists already.

Tasks carry paths and names, never arrays; workers read for themselves. What they find comes back
to this process, which alone writes the store.
"""

from __future__ import annotations

from rankscope.cluster.connecting import Where, connected
from rankscope.cluster.executor import DaskExecutor
from rankscope.cluster.faults import ClusterLost, ClusterUnavailable, WorkerMismatch

__all__ = [
    "ClusterLost",
    "ClusterUnavailable",
    "DaskExecutor",
    "Where",
    "WorkerMismatch",
    "connected",
]
