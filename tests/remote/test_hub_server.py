"""The stand-in for the hub is honest: what other people's clients make of it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from tests.remote.hub import STRANGER, TOKEN, Hub, client_of, running_hub

WEIGHTS = {"w": np.arange(12, dtype=np.float32).reshape(3, 4)}
SAVED = safetensors.numpy.save(WEIGHTS)
CONFIG = json.dumps({"model_type": "bert", "hidden_size": 24}).encode()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub, client_of(hub, tmp_path / "home", monkeypatch):
        model = hub.repository("org/model")
        model.commit({"config.json": b"{}", "sub/model.safetensors": b"old"}, "step10")
        model.commit({"config.json": CONFIG, "sub/model.safetensors": SAVED})
        model.tags["v1"] = model.branches["step10"]
        model.commit({"config.json": b"[]"}, "refs/pr/1")
        model.commit({"config.json": b"[1]"}, "feature/x")
        yield hub


def test_info_and_names_of_revisions(hub: Hub) -> None:
    api = HfApi()
    sha = hub.repositories["org/model"].branches["main"]
    found = api.repo_info("org/model")
    assert (found.sha, found.id) == (sha, "org/model")
    assert api.repo_info("org/model", revision=sha[:40]).sha == sha
    refs = api.list_repo_refs("org/model")
    assert {one.name for one in refs.branches} == {"main", "step10", "feature/x"}
    assert [one.name for one in refs.tags] == ["v1"]
    assert refs.pull_requests is None
    more = api.list_repo_refs("org/model", include_pull_requests=True)
    assert [one.ref for one in more.pull_requests or ()] == ["refs/pr/1"]
    assert api.revision_exists("org/model", "v1")
    assert not api.revision_exists("org/model", "v2")


def test_a_tree_tells_sizes_and_digests(hub: Hub) -> None:
    api = HfApi()
    found = {one.path: one for one in api.list_repo_tree("org/model", recursive=True)}
    assert set(found) == {"config.json", "sub", "sub/model.safetensors"}
    weights, config = found["sub/model.safetensors"], found["config.json"]
    assert isinstance(weights, RepoFile)
    assert isinstance(config, RepoFile)
    assert weights.size == len(SAVED)
    assert weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(SAVED).hexdigest()
    (told,) = api.get_paths_info("org/model", "sub/model.safetensors")
    assert told == weights
    assert config.lfs is None
    # The oracle of a blob's name is git itself.
    git = subprocess.run(
        ["git", "hash-object", "--stdin"], input=CONFIG, capture_output=True, check=True
    )
    assert config.blob_id == git.stdout.decode().strip()


def test_a_long_tree_comes_in_pages(hub: Hub) -> None:
    many = hub.repository("org/many")
    many.commit({f"f{i}.json": b"{}" for i in range(25)})
    hub.page = 10
    assert len(list(HfApi().list_repo_tree("org/many"))) == 25
    assert len(hub.requests("/api/models/org/many/tree")) == 3


def test_downloads(hub: Hub, tmp_path: Path) -> None:
    file = hf_hub_download("org/model", "sub/model.safetensors", cache_dir=tmp_path / "cache")
    assert np.array_equal(safetensors.numpy.load_file(file)["w"], WEIGHTS["w"])
    old = hf_hub_download("org/model", "config.json", revision="v1", cache_dir=tmp_path / "cache")
    assert Path(old).read_bytes() == b"{}"
    folder = snapshot_download("org/model", cache_dir=tmp_path / "cache", max_workers=1)
    held = sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())
    assert held == ["config.json", "sub/model.safetensors"]
    pull = hf_hub_download(
        "org/model", "config.json", revision="refs/pr/1", cache_dir=tmp_path / "c"
    )
    assert Path(pull).read_bytes() == b"[]"


def test_the_file_system(hub: Hub) -> None:
    files = HfFileSystem()
    assert files.ls("org/model", detail=False) == ["org/model/config.json", "org/model/sub"]
    path = "org/model@step10/sub/model.safetensors"
    assert files.cat_file(path) == b"old"
    assert files.find("org/model@v1", detail=False) == [
        "org/model@v1/config.json",
        "org/model@v1/sub/model.safetensors",
    ]
    assert files.cat_file("org/model@feature%2Fx/config.json") == b"[1]"
    assert files.cat_file("org/model@refs/pr/1/config.json") == b"[]"
    whole = files.cat_file("org/model/sub/model.safetensors")
    with files.open("org/model/sub/model.safetensors", "rb", cache_type="none") as file:
        file.seek(8)
        assert file.read(5) == whole[8:13]
    (last,) = [one for one in hub.asked if one.range is not None and one.status == 206]
    assert (last.range, last.sent) == ("bytes=8-12", 5)


def test_who_may_see_what(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for access in ("private", "gated"):
        hub.repository(f"org/{access}", access).commit({"config.json": CONFIG, "a.bin": SAVED})
    api = HfApi()
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("org/private")
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("org/none")
    with pytest.raises(RevisionNotFoundError):
        api.repo_info("org/model", revision="none")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("org/model", "none.json")
    assert api.repo_info("org/gated").gated == "manual"
    for token in (None, STRANGER):
        with pytest.raises(GatedRepoError):
            hf_hub_download("org/gated", "config.json", token=token)
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        api.repo_info("org/model", token="hf_bad")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert api.repo_info("org/private").private
    assert Path(hf_hub_download("org/gated", "a.bin")).read_bytes() == SAVED
    # The CDN refuses a token: the client keeps it to itself.
    assert [one.status for one in hub.requests("/blob/")] == [200]


def test_too_many_requests_at_once_then_fine(hub: Hub) -> None:
    hub.busy = 1
    assert [one.path for one in HfApi().list_repo_tree("org/model")] == ["config.json", "sub"]
    assert [one.status for one in hub.asked] == [429, 200]


def test_transformers_reads_a_configuration(hub: Hub) -> None:
    code = (
        "from transformers import AutoConfig\n"
        "print(AutoConfig.from_pretrained('org/model').hidden_size)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == "24", done.stderr
