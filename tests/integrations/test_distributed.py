"""Several processes that train together: one writes, and it writes the whole model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from rankscope.runlog import read_log
from rankscope.runrecord import read_run_record
from rankscope.snapshots import Hyperparameters
from tests.integrations.runs import BATCH, LR, WEIGHT_DECAY, asked, network, state_of, steps_in

ROOT = Path(__file__).parents[2]

CODE = """
import sys
import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from rankscope.integrations.pytorch import Recorder
from tests.integrations.runs import BATCH, network, sgd, update

kind, rank, run_dir, meeting = sys.argv[1:]
torch.set_num_threads(1)
distributed.init_process_group("gloo", f"file://{meeting}", rank=int(rank), world_size=2)
model = network()
if kind == "fsdp":
    mesh = distributed.init_device_mesh("cpu", (2,))
    model = fully_shard(model, mesh=mesh)
else:
    model = DistributedDataParallel(model)
optimizer = sgd(model)
options = {"optimizer": optimizer, "batch_size": BATCH}
with Recorder(model, run_dir, every=2, **options):
    for step in range(1, 4):
        update(model, optimizer, step)
distributed.destroy_process_group()
"""


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_the_first_process_writes_the_whole_model(tmp_path: Path, kind: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, kind, str(rank), tmp_path / "run", tmp_path / "meeting"],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert steps_in(tmp_path / "run") == [0, 2, 3]
    saved = safetensors.torch.load_file(tmp_path / "run/snapshots/step-00000000.safetensors")
    expected = state_of(network())
    assert saved.keys() == expected.keys()
    assert all(torch.equal(saved[name], expected[name]) for name in expected)
    record = read_run_record(tmp_path / "run")
    assert record is not None
    assert record.hyperparameters == Hyperparameters(BATCH, LR, WEIGHT_DECAY, world_size=2)
    assert [line["step"] for line in read_log(tmp_path / "run")] == [2, 3]
    assert not asked(tmp_path / "run").incomplete
