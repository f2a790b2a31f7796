"""The hooks, run by pre-commit itself in repositories made for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.gatemodels import save_models

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / ".pre-commit-hooks.yaml"

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123\n"


def call(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PRE_COMMIT_HOME": str(cwd.parent / "home"),
        "XDG_CACHE_HOME": str(cwd.parent / "cache"),
        "PATH": os.pathsep.join([str(cwd.parent / "programs"), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a model and its baseline, and `rankscope` as it stands in this tree."""
    programs = tmp_path / "programs"
    programs.mkdir()
    program = programs / "rankscope"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rankscope "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "repository"
    folder.mkdir()
    save_models(folder)
    (folder / "model.safetensors").write_bytes((folder / "good.safetensors").read_bytes())
    (folder / "notes.txt").write_text("no model")
    assert call("git", "init", "-q", cwd=folder).returncode == 0
    return folder


def hooked(repository: Path, hook: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a hook over everything; its program is on the path instead of being installed."""
    (found,) = (one for one in yaml.safe_load(MANIFEST.read_text("utf-8")) if one["id"] == hook)
    hooks = [found | {"language": "system"} | settings]
    config = repository / ".pre-commit-config.yaml"
    config.write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": hooks}]}))
    assert call("git", "add", "-A", cwd=repository).returncode == 0
    return call(sys.executable, "-m", "pre_commit", "run", "--all-files", hook, cwd=repository)


def test_the_manifest_is_valid(repository: Path) -> None:
    command = ["validate-manifest", str(MANIFEST)]
    ended = call(sys.executable, "-m", "pre_commit", *command, cwd=repository)
    assert ended.returncode == 0, ended.stdout


def test_sound_models_pass(repository: Path) -> None:
    ended = hooked(repository, "rankscope-headers")
    assert ended.returncode == 0, ended.stdout
    assert "Passed" in ended.stdout


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("m.safetensors", POINTER.encode(), "git-LFS pointer"),
        ("m.safetensors", b"\xff" * 64, "m.safetensors"),
        ("m.npz", b"PK\x03\x04", "m.npz"),
        ("m w.safetensors", b"", "m w.safetensors"),
    ],
)
def test_what_is_not_sound_is_refused(
    repository: Path, name: str, content: bytes, reason: str
) -> None:
    (repository / name).write_bytes(content)
    ended = hooked(repository, "rankscope-headers")
    assert ended.returncode == 1
    assert reason in ended.stdout


def test_a_model_as_in_its_baseline_passes(repository: Path) -> None:
    arguments = ["model.safetensors", "--baseline", "ranks.json"]
    ended = hooked(repository, "rankscope-baseline", args=arguments)
    assert ended.returncode == 0, ended.stdout
    # Another model, of which the baseline's matrices are gone, is not.
    (repository / "model.safetensors").unlink()
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"w": np.eye(3)}, repository / "model.safetensors")
    ended = hooked(repository, "rankscope-baseline", args=arguments)
    assert ended.returncode == 1
    assert "fails: 8 of 9 matrices break a rule" in ended.stdout


def test_weights_are_not_read(repository: Path) -> None:
    """A matrix that lost rank has the header that it had; reading weights is the gate's work."""
    arguments = ["bad.safetensors", "--baseline", "ranks.json"]
    assert hooked(repository, "rankscope-baseline", args=arguments).returncode == 0
