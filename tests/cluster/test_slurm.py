"""The jobs that `--cluster slurm` makes of the documented configuration.

SLURM itself is not here: `sbatch` and `scancel` are stand-ins that start a job's script as SLURM
would, beside this process, and end it.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml

from rankscope.cluster import ClusterUnavailable, Where, connected
from rankscope.errors import UsageError
from tests.cli.processes import ROOT, until
from tests.contracts.executor import runs, square

SBATCH = """#!{python}
import subprocess, sys, pathlib
script = pathlib.Path(sys.argv[-1]).read_text()
if "-p nowhere" in script:
    sys.exit("sbatch: error: Batch job submission failed: Invalid partition name specified")
folder = pathlib.Path({folder!r})
with open(folder / "job.log", "ab") as log:
    job = subprocess.Popen(
        ["bash", "-c", script], stdout=log, stderr=log, start_new_session=True,
    )
(folder / f"job-{{job.pid}}.sh").write_text(script)
print("Submitted batch job", job.pid)
"""

SCANCEL = """#!{python}
import os, signal, sys
os.killpg(int(sys.argv[-1]), signal.SIGKILL)
"""


def documented() -> dict[str, Any]:
    """The first block of YAML of the page."""
    text = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(jobqueue:.*?)```", text, re.DOTALL)
    return dict(yaml.safe_load(block))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what was submitted; the user's cache is there, too."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text.format(python=sys.executable, folder=str(tmp_path)))
        file.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # What differs on every cluster: the network, the partition, the size of a job.
    import dask_jobqueue  # noqa: F401 - brings its part of the configuration

    described = documented()["jobqueue"]["slurm"]
    assert described["cores"]
    assert described["memory"]
    small = described | {"interface": "lo", "cores": 2, "processes": 2, "memory": "4GB"}
    with dask.config.set({"jobqueue.slurm": dask.config.get("jobqueue.slurm") | small}):
        yield tmp_path


def test_workers_are_jobs_and_all_is_encrypted(slurm: Path) -> None:
    said: list[str] = []
    with connected(Where(cluster="slurm", workers=2), said.append) as executor:
        executor.client.wait_for_workers(2, timeout=60)
        scheduler = executor.client.scheduler
        assert scheduler is not None
        assert scheduler.address.startswith("tls://")
        assert sorted(done.result or 0 for done in executor.run(square, range(4))) == [0, 1, 4, 9]
        workers = executor.client.scheduler_info()["workers"].values()
        assert [worker["resources"] for worker in workers] == [{"MEMORY": 2e9}] * 2
        (script,) = slurm.glob("job-*.sh")
        (key,) = (slurm / "cache").rglob("worker_key")
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    text = script.read_text()
    assert "#SBATCH --cpus-per-task=2" in text
    assert "#SBATCH --mem=4G" in text
    assert "--nthreads 1 " in text
    assert f"--tls-key {key}" in text
    assert "PRIVATE KEY" not in text
    assert not [one for one in (slurm / "cache").rglob("*") if one.is_file()]
    until(lambda: not runs(int(script.stem.removeprefix("job-"))))


def test_what_sbatch_refuses(slurm: Path) -> None:
    with (
        dask.config.set({"jobqueue.slurm.queue": "nowhere"}),
        pytest.raises(UsageError, match=r"refused the job: sbatch: error: .*Invalid partition"),
        connected(Where(cluster="slurm", workers=1), lambda _: None),
    ):
        pass
    assert not [one for one in (slurm / "cache").rglob("*") if one.is_file()]


def test_no_job_is_described(slurm: Path) -> None:
    with (
        dask.config.set({"jobqueue.slurm.cores": None}),
        pytest.raises(UsageError, match=r"describe a job under jobqueue\.slurm in ~/\.config"),
        connected(Where(cluster="slurm", workers=1), lambda _: None),
    ):
        pass


def test_no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(UsageError, match="there is no sbatch here"),
        connected(Where(cluster="slurm", workers=1), lambda _: None),
    ):
        pass


def test_jobs_that_stay_in_the_queue(slurm: Path) -> None:
    said: list[str] = []
    with (
        dask.config.set({"jobqueue.slurm.job-script-prologue": ["sleep 600"]}),
        pytest.raises(ClusterUnavailable, match=r"no worker .* came within 3 s"),
        connected(Where(cluster="slurm", workers=1, patience=3), said.append),
    ):
        pass
    assert len(said) == 1
    (script,) = slurm.glob("job-*.sh")
    until(lambda: not runs(int(script.stem.removeprefix("job-"))))
