"""Paths of the Hugging Face hub: revisions, commits, refusals; against a hub on this machine."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfFileSystem, parse_hf_uri
from huggingface_hub.utils import logging as remarks

from rankscope.errors import InputRejected, UsageError
from rankscope.places import RemotePath
from rankscope.remote import hub as hubs
from rankscope.remote import hubanswers
from rankscope.remote.hubanswers import HubRefused
from tests.remote.hub import STRANGER, TOKEN, Hub, client_of, running_hub

MODEL = RemotePath("hf://org/model")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub, client_of(hub, tmp_path / "home", monkeypatch):
        model = hub.repository("org/model")
        for step in (1000, 200, 30):
            model.commit({"a/model.safetensors": str(step).encode()}, f"step{step}")
        model.commit({"model.safetensors": b"final"})
        model.commit({"model.safetensors": b"x"}, "feature/x")
        model.commit({"model.safetensors": b"p"}, "refs/pr/1")
        model.tags["v1"] = model.branches["step30"]
        model.tags["step4-rc"] = model.branches["step30"]
        hubs.forget_pins()
        yield hub
        hubs.forget_pins()


def texts(paths: list[RemotePath]) -> list[str]:
    return [str(path) for path in paths]


def test_revisions_are_branches_and_tags_in_natural_order(hub: Hub) -> None:
    assert texts(hubs.revisions(MODEL, "step*")) == [
        "hf://org/model@step4-rc",
        "hf://org/model@step30",
        "hf://org/model@step200",
        "hf://org/model@step1000",
    ]
    assert len(hub.asked) == 1


def test_revisions_of_a_path_in_a_repository(hub: Hub) -> None:
    assert texts(hubs.revisions(MODEL / "a" / "model.safetensors", "step[12]*")) == [
        "hf://org/model@step200/a/model.safetensors",
        "hf://org/model@step1000/a/model.safetensors",
    ]


def test_a_slash_in_a_revision(hub: Hub) -> None:
    (found,) = hubs.revisions(MODEL, "feature/*")
    assert str(found) == "hf://org/model@feature%2Fx"
    assert parse_hf_uri(str(found)).revision == "feature/x"
    refs = hub.repositories["org/model"]
    assert hubs.pinned(found / "f").name == "f"
    assert str(hubs.pinned(found)) == f"hf://org/model@{refs.branches['feature/x']}"
    for written in ("refs/pr/1", "refs%2Fpr%2F1"):
        pull = RemotePath(f"hf://org/model@{written}") / "model.safetensors"
        there = f"hf://org/model@{refs.pulls['refs/pr/1']}/model.safetensors"
        assert str(hubs.pinned(pull)) == there
        assert HfFileSystem().cat_file(there) == b"p"


def test_no_revision_matches(hub: Hub) -> None:
    with pytest.raises(UsageError) as caught:
        hubs.revisions(MODEL, "step_*")
    assert str(caught.value) == (
        "hf://org/model: none of its 7 branches and tags matches 'step_*'; "
        "the nearest: step30, step200, step4-rc"
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("s3://bucket/run", "has no revisions, expected a path as hf://org/model"),
        ("hf://org/model@main", "names the revision 'main' already, expected it without one"),
        ("hf://buckets/org/b", "a bucket has no revisions, expected a repository"),
    ],
)
def test_what_has_no_revisions(hub: Hub, path: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        hubs.revisions(RemotePath(path), "*")
    assert str(caught.value) == f"{path}: {reason}"
    assert hub.asked == []


def test_a_path_is_pinned_to_the_commit_that_it_first_was_at(hub: Hub) -> None:
    model = hub.repositories["org/model"]
    first = model.branches["main"]
    assert str(hubs.pinned(MODEL)) == f"hf://org/model@{first}"
    model.commit({"model.safetensors": b"moved"})
    assert str(hubs.pinned(MODEL / "x")) == f"hf://org/model@{first}/x"
    assert HfFileSystem().cat_file(str(hubs.pinned(MODEL / "model.safetensors"))) == b"final"
    hubs.forget_pins()
    assert str(hubs.pinned(MODEL)) == f"hf://org/model@{model.branches['main']}"
    assert model.branches["main"] != first


def test_what_is_at_a_commit_already_needs_no_request(hub: Hub) -> None:
    path = hubs.pinned(MODEL)
    hub.asked.clear()
    assert hubs.pinned(path / "x") == path / "x"
    assert hubs.pinned(RemotePath("hf://buckets/org/b/x")) == RemotePath("hf://buckets/org/b/x")
    assert hub.asked == []


def test_one_request_for_all_of_a_revision(hub: Hub) -> None:
    for name in ("a", "b", "c"):
        hubs.pinned(MODEL / name)
    assert len(hub.asked) == 1


def test_a_tag_tells_the_content_and_not_the_commit(hub: Hub) -> None:
    model = hub.repositories["org/model"]
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    model.commit({**files, "README.md": b"a"}, "one")
    model.commit({**files, "README.md": b"b"}, "two")
    model.commit({**files, "model.safetensors": b"Weights"}, "three")
    seen = {
        (name, revision): hubs.tag(HfFileSystem().info(f"org/model@{revision}/{name}"))
        for name in files
        for revision in ("one", "two", "three")
    }
    for name in files:
        assert seen[name, "one"] == seen[name, "two"] != ""
    assert seen["config.json", "one"] == seen["config.json", "three"]
    assert seen["model.safetensors", "one"] != seen["model.safetensors", "three"]


GATED = "gated: log in with `hf auth login` and accept its terms on its page"
MISSING = "no such repository, or a private one: check its name, or log in with `hf auth login`"


@pytest.mark.parametrize("token", [None, STRANGER])
def test_what_cannot_be_seen(hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    for name, access in (("secret", "private"), ("terms", "gated")):
        made = hub.repository(f"org/{name}", access)  # type: ignore[arg-type]
        made.commit({"model.safetensors": b"x"})
    for name in ("secret", "none"):
        path = RemotePath(f"hf://org/{name}")
        with pytest.raises(InputRejected) as caught:
            hubs.revisions(path, "*")
        assert str(caught.value) == f"{path}: {MISSING}"
        with pytest.raises(HubRefused) as refused:
            hubs.pinned(path)
        assert refused.value.strerror == MISSING
    # Names of what is gated are told to everybody, its content is not.
    assert texts(hubs.revisions(RemotePath("hf://org/terms"), "*")) == ["hf://org/terms@main"]
    url = str(hubs.pinned(RemotePath("hf://org/terms/model.safetensors")))
    with pytest.raises(HubRefused) as refused:
        hubanswers.asked(lambda: HfFileSystem().cat_file(url, 0, 1, cache_type="none"))
    assert refused.value.strerror == GATED
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert HfFileSystem().cat_file(url, 0, 1, cache_type="none") == b"x"
    assert hubs.pinned(RemotePath("hf://org/secret")).name.startswith("secret@")


def test_no_such_revision(hub: Hub) -> None:
    with pytest.raises(HubRefused) as refused:
        hubs.pinned(RemotePath("hf://org/model@step100"))
    assert refused.value.strerror == (
        "no branch, tag or commit 'step100'; the nearest: step1000, step200, step30"
    )


def test_a_token_that_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with pytest.raises(HubRefused, match=r"does not let this token read it: log in"):
        hubs.pinned(MODEL)


@pytest.mark.parametrize("path", ["hf://", "hf://org", "hf://a b/c", "hf://org/model@/x"])
def test_what_names_no_repository(hub: Hub, path: str) -> None:
    with pytest.raises(HubRefused) as refused:
        hubs.pinned(RemotePath(path))
    assert refused.value.strerror == (
        "names no repository, expected hf://org/model[@revision][/path]"
    )


def test_a_busy_hub_is_asked_again_in_silence(
    hub: Hub, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    hub.busy = 2
    hub.told_to_wait = 55
    hubs.pinned(MODEL)
    assert [one.status for one in hub.asked] == [429, 429, 200]
    assert waited == [55, 55]
    hubs.forget_pins()
    hub.busy = 99
    with pytest.raises(HubRefused, match="too many requests from here: wait five minutes, or log"):
        hubs.pinned(MODEL)
    assert capfd.readouterr() == ("", "")


def test_the_client_says_nothing_unless_it_is_asked_to() -> None:
    before = remarks.get_verbosity()
    at_commit = RemotePath(f"hf://org/model@{'0' * 40}")
    try:
        remarks.set_verbosity(logging.WARNING)
        hubs.pinned(at_commit)
        assert remarks.get_verbosity() > logging.ERROR
        remarks.set_verbosity(logging.INFO)
        hubs.pinned(at_commit)
        assert remarks.get_verbosity() == logging.INFO
    finally:
        remarks.set_verbosity(before)


def test_a_hub_that_is_not_there(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub() as gone:
        pass
    with client_of(gone, tmp_path / "other", monkeypatch), pytest.raises(HubRefused) as refused:
        hubs.pinned(MODEL)
    assert str(refused.value.strerror).startswith("the hub cannot be reached: ")


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubRefused) as refused:
        hubs.pinned(MODEL)
    assert refused.value.strerror == "the client is offline: unset HF_HUB_OFFLINE"


def test_a_commit_that_is_none_is_not_believed(hub: Hub) -> None:
    model = hub.repositories["org/model"]
    model.commits["main/../x"] = {}
    model.branches["main"] = "main/../x"
    with pytest.raises(HubRefused, match=r"names no commit of it, but 'main/\.\./x'"):
        hubs.pinned(MODEL)


def test_the_users_own_settings_lead_the_client_there(hub: Hub, tmp_path: Path) -> None:
    """A child process, in which nothing is replaced: HF_ENDPOINT alone tells the place."""
    code = (
        "from rankscope.places import RemotePath\n"
        "from rankscope.remote.hub import pinned, revisions\n"
        "print(*revisions(RemotePath('hf://org/model'), 'step*'))\n"
        "print(pinned(RemotePath('hf://org/model')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    sha = hub.repositories["org/model"].branches["main"]
    assert done.stdout.splitlines()[-1] == f"hf://org/model@{sha}", done.stderr
    assert done.stderr == ""
    written = [file.name for file in (tmp_path / "home").rglob("*") if file.is_file()]
    assert written == []
