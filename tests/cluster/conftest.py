"""One cluster for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rankscope.cluster import Where, connected
from tests.cluster import clusters

if TYPE_CHECKING:
    from distributed import Client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def scheduler(folder: Path) -> Iterator[clusters.Scheduler]:
    """With two workers, each with a nanny that starts it again."""
    with (
        clusters.scheduler(folder) as scheduler,
        clusters.workers(scheduler, folder, "--nworkers", "2", "--nthreads", "1"),
    ):
        yield scheduler


@pytest.fixture(scope="module")
def client(scheduler: clusters.Scheduler) -> Iterator[Client]:
    with connected(Where(scheduler=scheduler.address), lambda _: None) as executor:
        executor.client.wait_for_workers(2, timeout=60)
        yield executor.client
