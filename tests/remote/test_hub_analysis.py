"""Models on the Hugging Face hub analysed as their user does, against a hub on this machine."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from rankscope import analyze, engines
from rankscope.checkpoints import needs_isolation
from rankscope.errors import InputRejected
from rankscope.executors import Executor
from rankscope.how import How
from rankscope.matrices import Selection, select
from rankscope.places import RemotePath
from rankscope.records import Spectrum, Unmeasured
from rankscope.remote.hub import forget_pins, pinned
from rankscope.series import Series, on_base
from rankscope.worker import Outcome, Task, list_checkpoint, measure_task
from tests.cli.conftest import Ended, Run
from tests.remote.hub import TOKEN, Files, Hub, client_of, git_id, running_hub

Tensors = dict[str, NDArray[np.float32]]

STEPS = (1000, 2000, 10000)
ROWS, COLUMNS = 300, 200  # 240 kB a matrix: more than is fetched for a header


def tensors(seed: int, names: tuple[str, ...] = ("a.weight", "b.weight", "c.weight")) -> Tensors:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((ROWS, COLUMNS)).astype(np.float32) for name in names}


def model(seed: int) -> Files:
    return {
        "config.json": b'{"model_type": "none"}',
        "model.safetensors": safetensors.numpy.save(tensors(seed)),
    }


def tensors_of(seed: int) -> Tensors:
    """What the sharded model holds."""
    return tensors(seed, tuple(f"layer.{i}.weight" for i in range(4)))


def sharded(seed: int) -> Files:
    names = list(tensors_of(seed))
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[2 * i : 2 * i + 2] for i in (0, 1)}
    held = tensors_of(seed)
    places = {name: shard for shard, some in shards.items() for name in some}
    files = {
        shard: safetensors.numpy.save({name: held[name] for name in some})
        for shard, some in shards.items()
    }
    index = json.dumps({"metadata": {}, "weight_map": places}).encode()
    return {**files, "model.safetensors.index.json": index, "config.json": b"{}"}


def span_of(body: bytes, entries: NDArray[np.float32]) -> str:
    """How the bytes of a tensor are asked for."""
    start = body.index(entries.tobytes())
    return f"bytes={start}-{start + entries.nbytes - 1}"


def beyond_heads(hub: Hub) -> set[str]:
    """What was asked of large files, but for their beginnings."""
    spans = {str(one.range) for one in hub.requests("/blob/")}
    return {span for span in spans if not span.startswith("bytes=0-")}


def put(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub, client_of(hub, home, monkeypatch):
        repository = hub.repository("org/model")
        for step in STEPS:
            repository.commit(model(step), f"step{step}-tokens{step // 500}B")
        repository.commit(model(0))
        forget_pins()
        yield hub
        forget_pins()


def table(ended: Ended) -> list[dict[str, Any]]:
    assert ended.code == 0, ended.err
    rows: list[dict[str, Any]] = json.loads(ended.out)["matrices"]
    return [{key: value for key, value in row.items() if key != "source"} for row in rows]


def told(ended: Ended) -> str:
    """The one line of a command that was refused."""
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.count("\n") == 1
    return ended.err.removeprefix("error: ").rstrip()


def test_a_series_of_revisions_is_that_of_the_same_files(
    hub: Hub,
    run: Run,
    tmp_path: Path,
    home: Path,
) -> None:
    for step in STEPS:
        put(model(step), tmp_path / "run" / f"step{step}")
    local = table(run("analyze", tmp_path / "run", "--no-store", "--json"))
    paths = [f"hf://org/model@step{step}-tokens{step // 500}B" for step in STEPS]
    remote = table(run("analyze", *paths, "--no-store", "--json"))
    assert remote == local
    assert [row["step"] for row in remote] == [step for step in STEPS for _ in range(3)]
    ended = run("analyze", "hf://org/model", "--revisions", "step*", "--no-store", "--json")
    assert table(ended) == local
    assert not any(file.is_file() for file in home.rglob("*"))


def test_what_is_shown_is_what_was_written(hub: Hub, run: Run) -> None:
    ended = run("analyze", "hf://org/model", "--revisions", "step?000-*", "--no-store")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("hf://org/model: average over 3 matrices")
    commits = hub.repositories["org/model"].commits
    assert not any(sha[:7] in ended.out + ended.err for sha in commits)
    ended = run("analyze", "hf://org/model@main", "--no-store", "--json")
    assert "hf://org/model@main" in ended.out
    assert not any(sha[:7] in ended.out + ended.err for sha in commits)


@pytest.mark.parametrize("path", ["a", "a/model.safetensors"])
def test_a_series_in_a_folder(hub: Hub, run: Run, path: str) -> None:
    repository = hub.repository("org/deep")
    for step in STEPS:
        files = {f"a/{name}": content for name, content in model(step).items()}
        repository.commit({**files, "b/model.safetensors": b"no weights"}, f"step{step}")
    found = table(
        run("analyze", f"hf://org/deep/{path}", "--revisions", "step*", "--no-store", "--json")
    )
    assert [row["step"] for row in found] == [step for step in STEPS for _ in range(3)]


def test_only_what_is_asked_for_is_fetched(hub: Hub, run: Run) -> None:
    path = "hf://org/model@main/model.safetensors"
    found = table(run("analyze", path, "--include", "b.*", "--no-store", "--json"))
    assert [row["name"] for row in found] == ["b.weight"]
    assert beyond_heads(hub) == {span_of(model(0)["model.safetensors"], tensors(0)["b.weight"])}


def test_nothing_is_fetched_twice_with_a_store(
    hub: Hub,
    run: Run,
    tmp_path: Path,
) -> None:
    command = ("analyze", "hf://org/model@main", "--store", tmp_path / "store", "--json")
    first = table(run(*command))
    assert hub.weight_bytes >= 3 * ROWS * COLUMNS * 4
    hub.asked.clear()
    assert table(run(*command)) == first
    # What the branch stands for now: that commit, of which all is known in this process.
    assert [one.path for one in hub.asked] == ["/api/models/org/model/revision/main"]
    # Nor when only what stands beside the weights has changed.
    hub.repositories["org/model"].commit({**model(0), "README.md": b"new"})
    assert table(run(*command)) == first
    assert hub.weight_bytes == 0
    hub.repositories["org/model"].commit(model(1))
    assert table(run(*command)) != first


def test_revisions_are_looked_at_together(hub: Hub, run: Run) -> None:
    together, most = 0, 0
    lock = threading.Lock()

    def slow(method: str, path: str) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.05)
        with lock:
            together -= 1

    hub.before = slow
    command = ("inspect", "hf://org/model", "--revisions", "step*", "--json")
    assert run(*command).code == 0
    assert most >= len(STEPS)
    asked = [one.path.split("/")[5] for one in hub.requests("/api/models/")]
    assert asked.count("tree") == len(STEPS)
    assert asked.count("revision") == 2 * len(STEPS)


def test_shards(hub: Hub, run: Run, tmp_path: Path) -> None:
    files = sharded(3)
    hub.repository("org/large").commit(files)
    put(files, tmp_path / "large")
    local = table(run("analyze", tmp_path / "large", "--no-store", "--json"))
    assert table(run("analyze", "hf://org/large", "--no-store", "--json")) == local
    hub.asked.clear()
    one = ("analyze", "hf://org/large", "--include", "layer.3.*", "--no-store", "--json")
    assert [row["name"] for row in table(run(*one))] == ["layer.3.weight"]
    body = files["model-00002-of-00002.safetensors"]
    assert beyond_heads(hub) == {span_of(body, tensors_of(3)["layer.3.weight"])}


@pytest.mark.parametrize("where", ["inline", "processes", "cluster"])
def test_a_push_in_the_middle_changes_nothing(
    hub: Hub, run: Run, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What is to be measured is known, and nothing of it is read yet: a push."""
    if where == "processes":
        monkeypatch.setattr("rankscope.engines.INLINE_FLOPS", 0.0)
    monkeypatch.setattr("rankscope.tasks.TASK_FLOPS", 1.0)  # a task for each matrix
    cluster = ("--cluster", "local") if where == "cluster" else ()
    command = ("analyze", "hf://org/model", "--no-store", "--json", "--workers", "2", *cluster)
    before = table(run(*command))
    outcomes = engines.outcomes
    pushed: list[str] = []

    def push(executor: Executor, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        if not pushed:
            pushed.append(hub.repositories["org/model"].commit(model(99)))
        return outcomes(executor, tasks)

    monkeypatch.setattr("rankscope.engines.outcomes", push)
    during = table(run(*command))
    assert pushed
    assert during == before
    after = table(run(*command))
    assert [row["frobenius_norm"] for row in after] != [row["frobenius_norm"] for row in before]


def test_a_push_between_two_reads_changes_nothing(hub: Hub, run: Run) -> None:
    command = ("analyze", "hf://org/model", "--no-store", "--json")
    before = table(run(*command))
    pushed: list[str] = []

    def push(method: str, path: str) -> None:
        if not pushed and "/resolve/" in path:  # the first header
            pushed.append(hub.repositories["org/model"].commit(model(99)))

    hub.before = push
    assert table(run(*command)) == before
    assert pushed


def test_a_task_refuses_other_files_than_were_listed(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(model(1)["model.safetensors"])
    found = list_checkpoint(file)
    assert not isinstance(found, InputRejected)
    listing, seen = found
    specs, _ = select(listing, Selection())
    task = Task(file, specs, "auto", (), listed=seen)
    assert all(isinstance(one.measurement, Spectrum) for one in measure_task(task))
    file.write_bytes(model(2)["model.safetensors"])
    reason = "changed since it was listed: try again"
    unreadable = [Unmeasured("unreadable", reason)] * len(specs)
    assert [one.measurement for one in measure_task(task)] == unreadable


def test_another_analysis_in_the_same_process_sees_the_push(hub: Hub) -> None:
    how = How(store=False, workers=1)
    norms = []
    for seed in (98, 99):
        hub.repositories["org/model"].commit(model(seed))
        rows = analyze("hf://org/model", how=how).to_document()["matrices"]
        norms.append([row["frobenius_norm"] for row in rows])
    expected = [
        [np.linalg.norm(entries.astype(float)) for entries in tensors(seed).values()]
        for seed in (98, 99)
    ]
    assert np.allclose(norms, expected, rtol=1e-12)


def test_what_may_not_be_read_is_one_line(
    hub: Hub,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.repository("org/secret", "private").commit(model(0))
    hub.repository("org/terms", "gated").commit(model(0))
    log_in = "log in with `hf auth login`"
    private = f"no such repository, or a private one: check its name, or {log_in}"
    for name in ("secret", "none"):
        for more in ((), ("--revisions", "step*")):
            assert private in told(run("analyze", f"hf://org/{name}", "--no-store", *more))
    gated = told(run("analyze", "hf://org/terms", "--no-store"))
    assert gated.endswith(f"gated: {log_in} and accept its terms on its page")
    assert "no branch, tag or commit 'stap'" in told(run("analyze", "hf://org/model@stap"))
    assert told(run("analyze", "hf://org/model/x.npy")).endswith("no such file or directory")
    assert "names no repository" in told(run("analyze", "hf://org"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name in ("secret", "terms"):
        assert len(table(run("analyze", f"hf://org/{name}", "--no-store", "--json"))) == 3


def test_no_revision_matches(hub: Hub, run: Run) -> None:
    ended = run("analyze", "hf://org/model", "--revisions", "stage*")
    assert (ended.code, ended.out) == (2, "")
    assert "none of its 4 branches and tags matches 'stage*'" in ended.err


def test_a_busy_hub_is_waited_for_in_silence(hub: Hub) -> None:
    """In a process of its own: the client's log goes to the screen by a way of its own."""
    busy = {"/revision/", "/tree/", "/resolve/"}  # each once

    def too_many(method: str, path: str) -> None:
        for part in [part for part in busy if part in path]:
            busy.remove(part)
            hub.busy += 1

    hub.before = too_many
    command = [sys.executable, "-m", "rankscope", "analyze", "hf://org/model@main", "--no-store"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "c.weight" in done.stdout
    assert [one.status for one in hub.asked].count(429) == 3


def test_whole_files_are_downloaded_when_asked_to(hub: Hub, run: Run, home: Path) -> None:
    command = ("analyze", "hf://org/model@main", "--no-store", "--json")
    streamed = table(run(*command))
    hub.asked.clear()
    assert table(run(*command, "--download")) == streamed
    assert hub.weight_bytes == len(model(0)["model.safetensors"])
    hub.asked.clear()
    assert table(run(*command, "--download")) == streamed
    assert hub.weight_bytes == 0
    hub.repositories["org/model"].commit(model(5))
    other = table(run(*command, "--download"))
    assert hub.weight_bytes == len(model(5)["model.safetensors"])
    assert other == table(run(*command)) != streamed
    assert not any(file.is_file() for file in home.rglob("*"))


def test_a_commit_is_a_revision_too(hub: Hub, run: Run) -> None:
    sha = hub.repositories["org/model"].branches["main"]
    assert len(sha) == len(git_id("commit", b""))
    at_name = table(run("analyze", "hf://org/model", "--no-store", "--json"))
    assert table(run("analyze", f"hf://org/model@{sha}", "--no-store", "--json")) == at_name


def keras(value: float) -> bytes:
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        file.create_dataset("d/kernel", data=np.full((4, 3), value, np.float32))
    return data.getvalue()


def test_a_child_process_lists_the_same_commit(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The child is not told what was looked up here; what is remembered goes by the branch."""
    repository = hub.repository("org/keras")
    repository.commit({"m.h5": keras(1)})

    def pushed_after(path: PurePath) -> bool:
        found = needs_isolation(path)
        repository.commit({"m.h5": keras(3)})
        return found

    def norms() -> list[int]:
        found = analyze(
            "hf://org/keras/m.h5",
            metrics=["frobenius_norm"],
            how=How(workers=1, store=tmp_path / "store"),
        )
        return [round(float(str(row["frobenius_norm"])) ** 2) for row in found.matrices]

    with monkeypatch.context() as patch:
        patch.setattr("rankscope.inventory.needs_isolation", pushed_after)
        assert norms() == [12]
    assert norms() == [108]
    assert norms() == [108]


def test_a_base_does_not_move_what_is_merged_into_it(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repository("org/base").commit(model(1))
    forget_pins()
    main = pinned(RemotePath("hf://org/model"))
    found = [Series(RemotePath("hf://org/model"), ())]
    hub.repositories["org/model"].commit(model(7))
    assert on_base(found, "hf://org/base") == found
    assert pinned(RemotePath("hf://org/model")) == main
    old = pinned(RemotePath("hf://org/base"))
    hub.repositories["org/base"].commit(model(2))
    on_base([Series(Path("here"), ())], "hf://org/base")  # nothing else asks anew
    assert pinned(RemotePath("hf://org/base")) != old
