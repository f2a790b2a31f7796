"""The page on hooks: every example runs by itself, as it is pasted, and leaves what it says."""

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
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

# What each block leaves, by a word that stands in no other: its run, and the steps in it.
LEAVES = {
    '"runs/plain"': range(0, 101, 20),
    '"runs/resumed"': range(0, 201, 20),
    '"runs/llama"': range(0, 21, 5),
    '"runs/lightning"': range(0, 33, 8),
    '"runs/shown"': range(0, 41, 10),
    '"runs/logged"': range(0, 41, 10),
    '"runs/past"': range(0, 30, 10),
    '"runs/mine"': range(3),
    '"runs/printed"': range(1),
}

SHOWN = {
    '"runs/shown"': "tb/shown/spectra/events.out.tfevents.*",
    '"runs/logged"': "wandb/**/*.wandb",
    '"runs/past"': "tb/past/events.out.tfevents.*",
    '"runs/mine"': "tb/mine/events.out.tfevents.*",
}

BOUNDED = ('"runs/plain"', '"runs/llama"', '"runs/lightning"')


def run(place: Path, block: str) -> str:
    """A block in a process of its own, where nothing else is; what it prints."""
    setting = "import torch as t; t.set_num_threads(1); t.manual_seed(0); del t\n"
    done = subprocess.run(
        [sys.executable, "-c", setting + block],
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


@pytest.mark.parametrize("word", LEAVES)
def test_a_block_stands_alone(tmp_path: Path, word: str) -> None:
    (block,) = (block for block in BLOCKS if word in block)
    printed = run(tmp_path, block)
    run_dir = tmp_path / word.strip('"')
    assert steps_in(run_dir) == list(LEAVES[word])
    if word in SHOWN:
        assert list(tmp_path.glob(SHOWN[word]))
    if word in BOUNDED:
        assert asked(run_dir).runs[0]["no_bound"] == ""
    if word == '"runs/printed"':
        step, name, rank = printed.split()
        assert (step, name, int(rank)) == ("0", "layer", 10)


def test_no_block_is_left_out() -> None:
    assert len(BLOCKS) == len(LEAVES)


def test_every_hook_and_sink_is_on_the_page() -> None:
    modules = {path.stem for path in (ROOT / "rankscope" / "integrations").glob("*.py")}
    for module in modules & {"pytorch", "transformers", "lightning", "tensorboard", "wandb"}:
        assert f"from rankscope.integrations.{module} import " in PAGE
