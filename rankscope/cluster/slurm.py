"""A cluster whose workers are jobs of SLURM."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from rankscope.cluster.local import ALLOWED_FAILURES
from rankscope.cluster.quiet import NOTHING
from rankscope.cluster.workers import MEMORY
from rankscope.errors import UsageError
from rankscope.extras import needs

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster
    from distributed import Security

CONFIGURATION = "~/.config/dask/jobqueue.yaml"  # where Dask looks for it


@contextmanager
def slurm_cluster(workers: int) -> Iterator[SLURMCluster]:
    """Workers in jobs, as jobqueue.slurm of Dask's configuration describes these.

    The scheduler is in this process and must be reached from other machines, so all that is said
    is encrypted, by a key that exists as long as the cluster: whoever has it may run anything.

    Args:
        workers: how many; as many jobs as that takes.

    Raises:
        UsageError: there is no SLURM here, it refuses the job, or no job is described.
    """
    needs("--cluster slurm", "dask_jobqueue", "dask")
    if shutil.which("sbatch") is None:
        raise UsageError(
            "--cluster slurm: there is no sbatch here: run it where jobs are submitted"
        )
    with _shared_folder() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = _cluster(folder)
        try:
            _submit(cluster, workers)
            yield cluster
        finally:
            cluster.close()


def _cluster(folder: Path) -> SLURMCluster:
    import dask
    from dask_jobqueue import SLURMCluster

    configured: dict[str, Any] = dask.config.get("jobqueue.slurm")
    if not (configured.get("cores") and configured.get("memory")):
        raise UsageError(
            f"--cluster slurm: describe a job under jobqueue.slurm in {CONFIGURATION}: at least "
            "its cores and memory (docs/cluster.md has an example)"
        )
    # Its pages are neither encrypted nor wanted.
    options = {"dashboard_address": "127.0.0.1:0", "allowed_failures": ALLOWED_FAILURES}
    settings = {"distributed.scheduler.http.routes": [], "temporary-directory": str(folder)}
    try:
        with dask.config.set(settings):
            return SLURMCluster(
                security=_key_in(folder),
                scheduler_options=(configured.get("scheduler-options") or {}) | options,
                worker_extra_args=_worker_arguments(configured),
                silence_logs=NOTHING,
            )
    except (ValueError, TypeError) as error:
        raise UsageError(f"jobqueue.slurm in {CONFIGURATION}: {error}") from error


def _worker_arguments(configured: dict[str, Any]) -> list[str]:
    """As configured; the memory of a worker process is told as a resource, unless others are."""
    from dask.utils import parse_bytes

    given = [str(argument) for argument in configured.get("worker-extra-args") or ()]
    given += ["--dashboard-address", "127.0.0.1:0"]
    if configured.get("memory") is None or "--resources" in given:
        return given
    share = parse_bytes(configured["memory"]) // (configured.get("processes") or 1)
    return [*given, "--resources", f"{MEMORY}={share}"]


def _submit(cluster: SLURMCluster, workers: int) -> None:
    """Have the jobs started; what sbatch says against them is raised, which scaling alone hides."""

    async def submitted() -> None:
        await cluster
        for job in cluster.workers.values():
            await job  # one that is there already does nothing more

    from distributed.core import Status

    cluster.scale(n=workers)
    try:
        cluster.sync(submitted)
    except RuntimeError as error:
        for job in cluster.workers.values():
            job.status = Status.failed  # as closing expects of one that never was
        lines = [line for line in str(error).splitlines() if "error" in line.lower()]
        raise UsageError(
            f"--cluster slurm: sbatch refused the job: {(lines or ['?'])[-1]}"
        ) from error


def _key_in(folder: Path) -> Security:
    """A key for all parts of one cluster, in files that only the user's own jobs can read."""
    from distributed import Security

    made = Security.temporary()
    files: dict[str, str] = {}
    for name in ("ca_file", "worker_cert", "worker_key"):
        file = folder / name
        file.touch(0o600)
        file.write_text(getattr(made, f"tls_{name}"))
        files[name] = str(file)
    return Security(
        require_encryption=True,
        tls_ca_file=files["ca_file"],
        **{
            f"tls_{role}_{part}": files[f"worker_{part}"]
            for role in ("client", "scheduler", "worker")
            for part in ("cert", "key")
        },
    )


@contextmanager
def _shared_folder() -> Iterator[Path]:
    """Where the jobs find their key: as configured, or in the user's cache.

    It has to be on a disk that the machines of the cluster share, as homes are.
    """
    import dask

    configured = dask.config.get("jobqueue.slurm.shared-temp-directory", None)
    if configured is None:
        parent = platformdirs.user_cache_path("rankscope")
        parent.mkdir(parents=True, exist_ok=True)
    else:
        parent = Path(os.path.expandvars(configured)).expanduser()
    with tempfile.TemporaryDirectory(prefix="rankscope-cluster-", dir=parent) as folder:
        yield Path(folder)
