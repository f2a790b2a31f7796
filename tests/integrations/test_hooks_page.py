"""The page on hooks: every example runs, in their order, and leaves what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integrations.runs import asked, steps_in

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "hooks.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def run(place: Path, *sections: str) -> str:
    """The examples of these sections in one process, one after the other; what they print."""
    text = "".join(SECTIONS[section] for section in sections)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    setting = "import torch\ntorch.set_num_threads(1)\ntorch.manual_seed(0)\n"
    done = subprocess.run(
        [sys.executable, "-c", setting + "".join(blocks)],
        cwd=place,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "WANDB_MODE": "offline",
            "WANDB_SILENT": "true",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plain_loops_and_sinks(tmp_path: Path) -> None:
    printed = run(
        tmp_path, "Any PyTorch loop", "TensorBoard and Weights & Biases", "After the fact"
    )
    assert steps_in(tmp_path / "runs/plain") == list(range(0, 201, 20))
    assert asked(tmp_path / "runs/plain").runs[0]["no_bound"] == ""
    assert steps_in(tmp_path / "runs/shown") == [0, 10, 20, 30, 40]
    for folder in ("shown/spectra", "plain", "mine"):
        assert list((tmp_path / "tb" / folder).glob("events.out.tfevents.*")), folder
    assert list((tmp_path / "wandb").rglob("*.wandb"))
    lines = [line.split() for line in printed.splitlines()]
    assert [line[:2] for line in lines if line[1].endswith("weight")] == [
        [str(step), name] for step in range(0, 201, 20) for name in ("0.weight", "2.weight")
    ]


@pytest.mark.parametrize(
    ("section", "run_dir", "steps"),
    [
        ("Transformers", "runs/llama", [0, 5, 10, 15, 20]),
        ("Lightning", "runs/lightning", [0, 8, 16, 24, 32]),
    ],
)
def test_trainers(tmp_path: Path, section: str, run_dir: str, steps: list[int]) -> None:
    run(tmp_path, section)
    assert steps_in(tmp_path / run_dir) == steps
    assert asked(tmp_path / run_dir).runs[0]["no_bound"] == ""


def test_every_hook_and_sink_is_on_the_page() -> None:
    modules = {path.stem for path in (ROOT / "rankscope" / "integrations").glob("*.py")}
    for module in modules & {"pytorch", "transformers", "lightning", "tensorboard", "wandb"}:
        assert f"from rankscope.integrations.{module} import " in PAGE
