"""From options to a cluster that is ready, and back to nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from rankscope.cluster.executor import DaskExecutor
from rankscope.cluster.faults import ClusterUnavailable, WorkerMismatch, lacks_rankscope
from rankscope.cluster.quiet import quiet
from rankscope.cluster.work import versions
from rankscope.errors import InputRejected, UsageError
from rankscope.extras import needs

if TYPE_CHECKING:
    from distributed import Client, Security

CONNECT_SECONDS = 10.0  # a scheduler that is there answers in milliseconds
MOMENT_SECONDS = 2.0  # workers that come sooner need no message

# How long to wait for the first worker. One of this machine starts within seconds; jobs stand in
# a queue overnight.
LOCAL_SECONDS = 60.0
SCHEDULER_SECONDS = 300.0
QUEUE_SECONDS = 24 * 3600.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster: exactly one of the first three.

    Attributes:
        scheduler: the address of one that runs, as `tcp://host:8786`.
        scheduler_file: the file in which one that runs has written its address.
        cluster: one that is made for this, and ends with it.
        workers: how many workers of one that is made; None for one per core of this machine.
        patience: seconds to wait for the first worker; None for what is usual for such a cluster.
    """

    scheduler: str | None = None
    scheduler_file: Path | None = None
    cluster: Literal["local", "slurm"] | None = None
    workers: int | None = None
    patience: float | None = None

    def __post_init__(self) -> None:
        given = [
            name
            for name, value in (
                ("--scheduler", self.scheduler),
                ("--scheduler-file", self.scheduler_file),
                ("--cluster", self.cluster),
            )
            if value is not None
        ]
        if len(given) != 1:
            told = " and ".join(given) or "none of them"
            raise UsageError(f"one of --scheduler, --scheduler-file, --cluster; given: {told}")
        if self.cluster is None and self.workers is not None:
            raise UsageError(f"--workers: {given[0]} names a cluster that has its workers already")
        if self.cluster == "slurm" and self.workers is None:
            raise UsageError("--cluster slurm: say how many with --workers N")


@contextmanager
def connected(where: Where, say: Say) -> Iterator[DaskExecutor]:
    """An executor on a cluster's workers; in the end, what was made for it is gone.

    Args:
        where: which cluster.
        say: called with what there is to wait for, one line at a time.

    Raises:
        UsageError: a part of the package is missing, or an address or a configuration is no such.
        InputRejected: the scheduler file is none.
        ClusterUnavailable: nobody answers, or no worker came.
        WorkerMismatch: a worker has other versions.
    """
    needs("A cluster", "distributed", "dask")
    with ExitStack() as stack:
        stack.enter_context(quiet())
        client, limit = _client(where, stack)
        address = client.scheduler.address if client.scheduler else ""
        _wait_for_worker(client, address, where.patience or limit, say)
        _compare_versions(client)
        yield DaskExecutor(client)


def _client(where: Where, stack: ExitStack) -> tuple[Client, float]:
    """A client of the cluster, and how long its first worker may take."""
    if where.cluster is None:
        address = where.scheduler
        if where.scheduler_file is not None:
            address = _address_in(where.scheduler_file)
        client = _client_of(_checked(address))
        stack.callback(_close, client)
        return client, SCHEDULER_SECONDS
    from rankscope.cluster.local import local_cluster
    from rankscope.cluster.slurm import slurm_cluster

    local = where.cluster == "local"
    cluster = stack.enter_context(
        local_cluster(where.workers) if local else slurm_cluster(where.workers or 1)
    )
    from distributed import Client

    client = Client(cluster, set_as_default=False)
    stack.callback(_close, client)
    return client, LOCAL_SECONDS if local else QUEUE_SECONDS


def _client_of(address: str) -> Client:
    from distributed import Client

    security = _security_for(address)
    try:
        with warnings.catch_warnings():
            # Dask's own list of versions: those that matter here are compared by us.
            warnings.simplefilter("ignore")
            return Client(address, timeout=CONNECT_SECONDS, security=security, set_as_default=False)
    except (OSError, ImportError) as error:
        raise ClusterUnavailable(
            f"no scheduler answers at {address} within {CONNECT_SECONDS:.0f} s "
            f"({_first_line(error)}): is it running, and reachable from here?"
        ) from error


def _security_for(address: str) -> Security:
    """Dask's configuration of TLS, if it fits the address.

    Looked at here because a client that fails for it half made blocks the next one, when it is
    collected in the thread of that.
    """
    from distributed import Security

    try:
        security = Security()
        speaks = security.get_connection_args("client")["ssl_context"] is not None
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise UsageError(f"distributed.comm.tls of Dask's configuration: {error}") from error
    encrypted = address.startswith("tls:")
    if encrypted and not speaks:
        raise UsageError(f"{address} needs distributed.comm.tls of Dask's configuration")
    if security.require_encryption and not encrypted:
        raise UsageError(f"{address}: Dask's configuration requires encryption, a tls:// address")
    return security


def _close(client: Client) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client.close()


def _checked(address: str | None) -> str:
    """An address as Dask takes it."""
    whole = address if address and "://" in address else f"tcp://{address or ''}"
    try:
        parts = urlsplit(whole)
        sound = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
    except ValueError:
        sound = False
    if not sound:
        raise UsageError(
            f"--scheduler is {address!r}, expected an address as in tcp://host:8786 or "
            "tls://host:8786"
        )
    return whole


def _address_in(file: Path) -> str:
    """The address that a scheduler has written (`dask scheduler --scheduler-file`)."""
    import json

    try:
        told = json.loads(file.read_bytes())
    except OSError as error:
        raise InputRejected(file, f"no scheduler file: {error.strerror or error}") from error
    except ValueError as error:
        raise InputRejected(file, "no scheduler file: it is not JSON") from error
    address = told.get("address") if isinstance(told, dict) else None
    if not isinstance(address, str):
        raise InputRejected(file, 'no scheduler file: no "address" in it')
    return address


def _wait_for_worker(client: Client, address: str, limit: float, say: Say) -> None:
    """Go on when there is one; others may join at any time."""
    from distributed import TimeoutError as Late

    try:
        client.wait_for_workers(1, timeout=min(MOMENT_SECONDS, limit))
    except Late:
        say(f"waiting for workers of the scheduler at {address} (Ctrl-C to give up)")
        try:
            client.wait_for_workers(1, timeout=limit)
        except (Late, OSError) as error:
            raise ClusterUnavailable(
                f"no worker of the scheduler at {address} came within {limit:.0f} s"
            ) from error


def _compare_versions(client: Client) -> None:
    """Refuse before any work what each task would refuse by itself."""
    expected = versions()
    found: dict[str, object] = client.run(versions, on_error="return")
    for worker, told in found.items():
        if isinstance(told, Exception) and lacks_rankscope(told):
            raise WorkerMismatch(worker, "it has no such RankScope", expected)
        if isinstance(told, str) and told != expected:
            raise WorkerMismatch(worker, f"it has {told}", expected)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]
