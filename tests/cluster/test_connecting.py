"""From options to a cluster: what is refused, what is encrypted, and what is left of it."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import pytest

from rankscope.cluster import (
    ClusterUnavailable,
    DaskExecutor,
    Where,
    WorkerMismatch,
    connected,
    connecting,
)
from rankscope.cluster.quiet import quiet
from rankscope.errors import InputRejected, UsageError
from tests.cli.processes import ROOT, below, session, started, until
from tests.cluster import clusters
from tests.cluster.functions import Weight, span, threads_of_blas
from tests.contracts.executor import square, tells_pid


def unsaid(line: str) -> None:
    raise AssertionError(f"said {line!r}")


def squares(executor: DaskExecutor) -> list[int]:
    return sorted(done.result or 0 for done in executor.run(square, range(5)))


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "given: none of them"),
            ({"scheduler": "tcp://a:1", "cluster": "local"}, "given: --scheduler and --cluster"),
            ({"scheduler": "tcp://a:1", "workers": 2}, "has its workers already"),
            ({"cluster": "slurm"}, "say how many with --workers"),
        ],
    )
    def test_options_that_make_no_sense(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            Where(**options)

    @pytest.mark.parametrize("address", ["host", "tcp://host", "ftp://h:1", "tcp://h:port", ""])
    def test_what_is_no_address(self, address: str) -> None:
        with (
            pytest.raises(UsageError, match=r"expected an address as in tcp://host:8786"),
            connected(Where(scheduler=address), unsaid),
        ):
            pass

    def test_where_nobody_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1.0)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
            message = rf"no scheduler answers at tcp://{address} within 1 s"
            with (
                pytest.raises(ClusterUnavailable, match=message) as caught,
                connected(Where(scheduler=address), unsaid),
            ):
                pass
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 4

    @pytest.mark.parametrize(
        ("text", "reason"),
        [(None, "No such file"), ("{", "not JSON"), ("[]", 'no "address"'), ("{}", 'no "address"')],
    )
    def test_what_is_no_scheduler_file(self, tmp_path: Path, text: str | None, reason: str) -> None:
        file = tmp_path / "scheduler.json"
        if text is not None:
            file.write_text(text)
        with (
            pytest.raises(InputRejected, match=reason),
            connected(Where(scheduler_file=file), unsaid),
        ):
            pass

    def test_a_cluster_to_which_no_worker_comes(self, folder: Path) -> None:
        said: list[str] = []
        with (
            clusters.scheduler(folder / "empty") as scheduler,
            pytest.raises(ClusterUnavailable, match=r"no worker .* came within 3 s"),
            connected(Where(scheduler=scheduler.address, patience=3), said.append),
        ):
            pass
        assert said == [
            f"waiting for workers of the scheduler at {scheduler.address} (Ctrl-C to give up)"
        ]

    def test_a_worker_without_rankscope(self, folder: Path) -> None:
        """Under its name, it has another module. One that joins late is found out by its task."""
        from distributed import Client

        shadow = folder / "shadow"
        shadow.mkdir()
        (shadow / "rankscope.py").touch()
        with (
            clusters.scheduler(folder / "other") as scheduler,
            clusters.workers(scheduler, folder / "other", PYTHONPATH=str(shadow)),
        ):
            refused = pytest.raises(WorkerMismatch, match="it has no such RankScope, but here is")
            where = Where(scheduler=scheduler.address)
            with refused, connected(where, lambda _: None):
                pass
            with refused, quiet(), Client(scheduler.address, set_as_default=False) as client:
                squares(DaskExecutor(client))

    def test_a_worker_of_another_version(
        self, scheduler: clusters.Scheduler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rankscope.cluster.work.__version__", "99")
        with (
            pytest.raises(WorkerMismatch, match=r"it has rankscope .*, but here is rankscope 99"),
            connected(Where(scheduler=scheduler.address), lambda _: None),
        ):
            pass


def test_a_scheduler_file(scheduler: clusters.Scheduler) -> None:
    with connected(Where(scheduler_file=scheduler.file), lambda _: None) as executor:
        assert squares(executor) == [0, 1, 4, 9, 16]


@pytest.fixture(scope="module")
def credentials(folder: Path) -> dict[str, Any]:
    """Of `Security.temporary`, in files; as `distributed.comm` of Dask's configuration."""
    from distributed import Security

    secret = Security.temporary()
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_text(secret.tls_client_cert)
    key.write_text(secret.tls_client_key)
    role = {"cert": str(cert), "key": str(key)}
    tls = {"ca-file": str(cert), "client": role, "scheduler": role, "worker": role}
    return {"tls": tls, "require-encryption": True}


def dotted(name: str, value: Any) -> dict[str, Any]:
    """Configuration by its whole names, so that what is beside it stays."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, part in value.items() for k, v in dotted(f"{name}.{key}", part).items()}


@pytest.fixture(scope="module")
def encrypted(folder: Path, credentials: dict[str, Any]) -> Iterator[clusters.Scheduler]:
    """A scheduler that speaks TLS only; its worker has two threads and declares what it has."""
    place = folder / "encrypted"
    place.mkdir()
    (place / "dask.json").write_text(json.dumps({"distributed": {"comm": credentials}}))
    environment = {"DASK_CONFIG": str(place / "dask.json"), "OPENBLAS_NUM_THREADS": "2"}
    declared = ("--nthreads", "2", "--resources", "MEMORY=100 GPU=1")
    with (
        clusters.scheduler(place, "--protocol", "tls", **environment) as scheduler,
        clusters.workers(scheduler, place, *declared, **environment),
    ):
        yield scheduler


class TestEncrypted:
    @pytest.fixture
    def executor(
        self, encrypted: clusters.Scheduler, credentials: dict[str, Any]
    ) -> Iterator[DaskExecutor]:
        with (
            dask.config.set(dotted("distributed.comm", credentials)),
            connected(Where(scheduler=encrypted.address), lambda _: None) as executor,
        ):
            yield executor

    def test_with_credentials(self, executor: DaskExecutor) -> None:
        assert executor.client.scheduler is not None
        assert executor.client.scheduler.address.startswith("tls://")
        assert squares(executor) == [0, 1, 4, 9, 16]

    def test_without(self, encrypted: clusters.Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1.0)
        with (
            pytest.raises(UsageError, match=r"needs distributed\.comm\.tls"),
            connected(Where(scheduler=encrypted.address), unsaid),
        ):
            pass
        plain = encrypted.address.replace("tls://", "tcp://")
        with (
            pytest.raises(ClusterUnavailable, match="no scheduler answers"),
            connected(Where(scheduler=plain), unsaid),
        ):
            pass

    def test_no_more_at_a_time_than_there_is_memory_for(self, executor: DaskExecutor) -> None:
        light = [Weight(i, 40) for i in range(4)]
        heavy = [Weight(i, 60) for i in range(4)]
        assert overlaps(executor, light) > 0
        assert overlaps(executor, heavy) == 0

    def test_what_needs_more_than_there_is_runs_by_itself(self, executor: DaskExecutor) -> None:
        assert overlaps(executor, [Weight(i, 10**12) for i in range(3)]) == 0

    def test_one_at_a_time_on_a_gpu(self, executor: DaskExecutor) -> None:
        assert overlaps(executor, [Weight(i, 1, "cuda:0") for i in range(4)]) == 0

    def test_each_task_has_one_blas_thread(self, executor: DaskExecutor) -> None:
        found = [done.result for done in executor.run(threads_of_blas, range(3))]
        assert found == [{1}] * 3


def overlaps(executor: DaskExecutor, items: list[Weight]) -> int:
    """How many pairs of items were at work at the same moment."""
    spans = [done.result for done in executor.run(span, items)]
    times = sorted((one[1], one[2]) for one in spans if one)
    assert len(times) == len(items)
    return sum(later[0] < sooner[1] for sooner, later in itertools.pairwise(times))


class TestLocal:
    def test_it_is_there_and_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        environment = dict(os.environ)
        threads = set(threading.enumerate())
        with connected(Where(cluster="local", workers=2), lambda _: None) as executor:
            executor.client.wait_for_workers(2)
            pids = {done.result for done in executor.run(tells_pid, range(8))}
            info = executor.client.scheduler_info()["workers"].values()
            assert [worker["nthreads"] for worker in info] == [1, 1]
            assert all(w["resources"] == {"MEMORY": w["memory_limit"]} for w in info)
            assert listening(os.getpid()) == {"127.0.0.1"}
            assert any(tmp_path.iterdir())
        assert len(pids) == 2
        assert not set(below(os.getpid())) & pids
        assert list(tmp_path.iterdir()) == []
        assert dict(os.environ) == environment
        until(lambda: not [one for one in set(threading.enumerate()) - threads if not one.daemon])


def listening(root: int) -> set[str]:
    """The addresses that a process and those below it listen at."""
    inodes = set()
    for pid in (root, *below(root)):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # the folder itself, open while it was listed
                inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            packed = bytes.fromhex(fields[1].partition(":")[0])[::-1]
            found.add(socket.inet_ntoa(packed))
    return found


SCRIPT = """
import sys
from rankscope.cluster import Where, connected
from tests.cluster.functions import shouts
from tests.contracts.executor import dies_on_negative, leaves_a_mark
from pathlib import Path

def main():
    folder = Path(sys.argv[1])
    with connected(Where(cluster="local", workers=2), print) as executor:
        lost = [done.item for done in executor.run(dies_on_negative, [1, -2, 3, 4]) if done.lost]
        print("lost", lost, flush=True)
        list(executor.run(shouts, range(3)))
        list(executor.run(leaves_a_mark, [folder / str(i) for i in range(2000)]))

if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_nothing_on_the_screen_when_workers_die_nor_at_ctrl_c(tmp_path: Path) -> None:
    """The signal reaches the whole process group, as from a terminal."""
    marks = tmp_path / "marks"
    marks.mkdir()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with started(script, marks, env=environment) as child:
        until(lambda: child.poll() is not None or any(marks.iterdir()))
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=30)
        assert (out, err) == ("lost [-2]\ninterrupted\n", "")
        until(lambda: not session(child.pid))
    assert {file.name for file in tmp_path.iterdir()} == {"marks", "script.py"}
