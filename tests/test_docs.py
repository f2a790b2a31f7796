"""What the README and the docs say works, and everything there is is in them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from rankscope.checkpoints import READERS
from rankscope.cli.app import app
from rankscope.metrics import METRICS
from rankscope.records import Status
from rankscope.views import VIEWS
from tests.matrix import low_rank

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = {
    path.relative_to(ROOT / "docs").as_posix(): path.read_text()
    for path in (ROOT / "docs").rglob("*.md")
}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[str]:
    lines = [line for block in blocks(text, "console") for line in block.splitlines()]
    return [
        line.removeprefix("$ ").partition("  #")[0].strip() for line in lines if line[:2] == "$ "
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the README's commands name."""
    folder = tmp_path_factory.mktemp("readme")
    tensors = {"w": low_rank(20, 10, 3).astype(np.float32)}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    arguments = ["--out", "runs/digits", "--epochs", "2", "--snapshots", "2", "--width", "16"]
    subprocess.run(
        [sys.executable, "-m", "trainers", "digits", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    return folder


def in_place(place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(place / "cache")}
    return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [c for c in commands(README) if c.startswith("rankscope")])
def test_readme_commands_run(place: Path, command: str) -> None:
    _, *arguments = shlex.split(command)
    ended = in_place(place, sys.executable, "-m", "rankscope", *arguments)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == (f"wrote {arguments[-1]}\n" if "-o" in arguments else "")
    if "-o" in arguments:
        assert (place / arguments[-1]).stat().st_size > 0
    else:
        assert ended.stdout


def test_readme_make_targets_exist() -> None:
    targets = [c.split()[1] for c in commands(README) if c.startswith("make")]
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert f"\n{target}:" in makefile


def test_readme_python_runs(place: Path) -> None:
    setting = "import numpy as np\nstep, model = 0, {'w': np.ones((3, 2))}\n"
    for block in blocks(README, "python"):
        ended = in_place(place, sys.executable, "-c", setting + block)
        assert ended.returncode == 0, ended.stderr
    assert (place / "runs/mine/snapshots/step-00000000.safetensors").exists()


def test_links_lead_somewhere() -> None:
    pages = [((ROOT / "docs" / name).parent, text) for name, text in DOCS.items()]
    for folder, text in [(ROOT, README), *pages]:
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if not target.startswith("http"):
                assert (folder / target).exists(), target


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_documented(metric: object) -> None:
    name = metric.name  # type: ignore[attr-defined]
    assert re.search(rf"^\| \[`{name}`\]", DOCS["metrics.md"], re.MULTILINE)


@pytest.mark.parametrize("status", Status.__args__)  # type: ignore[attr-defined]
def test_every_status_is_documented(status: str) -> None:
    assert f"| `{status}` |" in DOCS["metrics.md"]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_every_suffix_is_documented(reader: object) -> None:
    for suffix in reader.suffixes:  # type: ignore[attr-defined]
        assert f"`{suffix}`" in DOCS["formats.md"]


def test_every_command_and_view_is_in_the_readme() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"rankscope {command.callback.__name__} " in README
    for view in VIEWS:
        assert view.suffix in DOCS["python.md"]


def test_nothing_is_empty() -> None:
    for name, text in DOCS.items():
        assert len(text) > 400, name
