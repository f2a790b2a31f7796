"""Checkpoints as trainers leave them, through the command line: numbers and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter

from tests.checkpoints.dcp_dirs import craft, save
from tests.checkpoints.gguf_files import finished
from tests.cli.conftest import Run


def ranks(out: str) -> dict[tuple[str, int | None], int]:
    return {(row["name"], row["step"]): row["rank"] for row in json.loads(out)["matrices"]}


def weights(rank: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(rank)
    return {
        "net.0.weight": torch.randn(9, rank) @ torch.randn(rank, 8),
        "net.0.bias": torch.randn(9),
    }


def test_a_run_whose_last_distributed_checkpoint_was_cut_short(run: Run, tmp_path: Path) -> None:
    for step, rank in ((10, 5), (20, 3)):
        save(tmp_path / "run" / f"step-{step}", {"model": weights(rank), "train_state": step})
    last = save(tmp_path / "run" / "step-30", {"model": weights(2)})
    (last / ".metadata").unlink()
    ended = run("analyze", tmp_path / "run", "--json")
    assert ended.code == 0
    assert ranks(ended.out) == {("net.0.weight", 10): 5, ("net.0.weight", 20): 3}
    skipped = {item["name"]: item["reason"] for item in json.loads(ended.out)["skipped"]}
    assert skipped["step-30"].startswith("incomplete: 1 .distcp files without .metadata")
    for command in ("analyze", "inspect"):
        ended = run(command, last)
        assert ended.code == 3
        assert ended.err.startswith(f"error: {last}: incomplete: 1 .distcp")


def test_a_distributed_checkpoint_that_lacks_a_file(run: Run, tmp_path: Path) -> None:
    boxes = [((0, 0), (2, 4)), ((2, 0), (2, 4))]
    craft(tmp_path / "m", {"a": (torch.eye(4)[:2], boxes[:1]), "b": (torch.eye(4), boxes)})
    assert run("analyze", tmp_path / "m").code == 0
    (tmp_path / "m" / "__1_0.distcp").unlink()
    ended = run("analyze", tmp_path / "m", "--json")
    assert ended.code == 4
    assert ranks(ended.out) == {("a", None): 2}
    assert "__1_0.distcp is missing" in ended.out


def test_a_distributed_checkpoint_that_lacks_every_file(run: Run, tmp_path: Path) -> None:
    folder = save(tmp_path / "m", {"model": weights(3)})
    assert run("baseline", folder, "-o", tmp_path / "ranks.json").code == 0
    (chunks,) = folder.glob("*.distcp")
    chunks.unlink()
    reason = f"{chunks.name} is missing"
    for arguments in (
        ("analyze", folder),
        ("inspect", folder),
        ("check", folder, "--baseline", tmp_path / "ranks.json"),
        ("check", folder, "--baseline", tmp_path / "ranks.json", "--headers"),
    ):
        ended = run(*arguments)
        assert (ended.code, reason in ended.out) == (4, True), arguments
    ended = run("baseline", folder, "-o", tmp_path / "no.json")
    assert ended.code == 3
    assert reason in ended.err
    assert not (tmp_path / "no.json").exists()


def test_one_of_a_run_that_lacks_every_file(run: Run, tmp_path: Path) -> None:
    for step, rank in ((10, 5), (20, 3)):
        save(tmp_path / "run" / f"step-{step}", {"model": weights(rank)})
    next((tmp_path / "run" / "step-20").glob("*.distcp")).unlink()
    ended = run("analyze", tmp_path / "run", "--json")
    assert ended.code == 4
    assert ranks(ended.out) == {("net.0.weight", 10): 5}


def test_what_it_was_joined_into_is_the_model(run: Run, tmp_path: Path) -> None:
    """Whoever has joined the chunks may delete them."""
    folder = save(tmp_path / "m", {"model": weights(3)})
    next(folder.glob("*.distcp")).unlink()
    torch.save(weights(2), folder / "joined.pt")
    ended = run("analyze", folder, "--json")
    assert ended.code == 0
    assert ranks(ended.out) == {("net.0.weight", None): 2}


def test_accelerates_folder_that_lacks_every_file(run: Run, tmp_path: Path) -> None:
    inner = save(tmp_path / "checkpoint-5" / "pytorch_model_fsdp_0", {"model": weights(3)})
    (tmp_path / "checkpoint-5" / "trainer_state.json").write_text("{}")
    next(inner.glob("*.distcp")).unlink()
    ended = run("analyze", tmp_path / "checkpoint-5")
    assert ended.code == 4
    assert "distcp is missing" in ended.out


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"torch\n" * 99])
def test_metadata_of_something_else_is_no_checkpoint(
    run: Run, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / ".metadata").write_bytes(content)
    ended = run("analyze", tmp_path / "m")
    assert ended.code == 3
    assert "holds no weights" in ended.err


def test_a_gguf_model_that_lacks_a_part(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    writer = GGUFWriter(folder / "m.gguf", "llama", split_max_tensors=1)
    for i in range(3):
        writer.add_tensor(f"blk.{i}.w", np.eye(9, dtype=np.float32))
    finished(writer, folder / "m.gguf")
    assert run("baseline", folder, "-o", tmp_path / "ranks.json").code == 0
    part = folder / "m-00002-of-00003.gguf"
    part.unlink()
    for arguments in (
        ("analyze", folder),
        ("inspect", folder),
        ("check", folder, "--baseline", tmp_path / "ranks.json"),
        ("check", folder, "--baseline", tmp_path / "ranks.json", "--headers"),
    ):
        ended = run(*arguments)
        assert (ended.code, "is not there (parts missing: 1 of 3)" in ended.out) == (4, True)
        assert "removed" not in ended.out
    ended = run("baseline", folder, "-o", tmp_path / "no.json")
    assert (ended.code, part.name in ended.err) == (3, True)


def test_lightning(run: Run, tmp_path: Path) -> None:
    """The dictionary that Lightning 2.6's `dump_checkpoint` makes, less its progress counters."""
    folder = tmp_path / "lightning_logs" / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    (folder.parent / "hparams.yaml").write_text("width: 9\n")
    for epoch, rank in ((0, 5), (1, 3)):
        state = weights(rank)
        moments = {"exp_avg": torch.randn(9, 8), "step": torch.tensor(4.0)}
        checkpoint = {
            "epoch": epoch,
            "global_step": 2 * epoch + 2,
            "pytorch-lightning_version": "2.6.6",
            "state_dict": state,
            "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
            "callbacks": {"ModelCheckpoint{'monitor': None}": {"kth_value": torch.tensor(0.0)}},
            "optimizer_states": [{"state": {0: moments}, "param_groups": [{"lr": 0.1}]}],
            "lr_schedulers": [{"last_epoch": epoch, "_last_lr": [0.1]}],
            "hparams_name": "kwargs",
            "hyper_parameters": {"width": 9},
        }
        torch.save(checkpoint, folder / f"epoch={epoch}-step={2 * epoch + 2}.ckpt")
    ended = run("analyze", folder, "--json")
    assert ended.code == 0
    assert ranks(ended.out) == {("net.0.weight", 2): 5, ("net.0.weight", 4): 3}


def test_deepspeed_up_to_zero_2(run: Run, tmp_path: Path) -> None:
    """The dictionary that DeepSpeed's `_save_checkpoint` makes, and what stands beside it."""
    folder = tmp_path / "global_step7"
    folder.mkdir()
    state = weights(4)
    checkpoint = {
        "module": state,
        "buffer_names": [],
        "optimizer": None,
        "param_shapes": [{name: tensor.shape for name, tensor in state.items()}],
        "lr_scheduler": None,
        "dp_world_size": 2,
        "mp_world_size": 1,
        "global_steps": 7,
        "ds_config": {"zero_optimization": {"stage": 2}},
        "ds_version": "0.16.0",
    }
    torch.save(checkpoint, folder / "mp_rank_00_model_states.pt")
    for rank in range(2):
        moments = {"optimizer_state_dict": {"fp32_flat_groups": [torch.zeros(100)]}}
        torch.save(moments, folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    ended = run("analyze", folder, "--json")
    assert ended.code == 0
    assert ranks(ended.out) == {("net.0.weight", 7): 4}


def test_fsdp_in_a_trainers_folder_is_read_with_the_config_beside_it(
    run: Run, tmp_path: Path
) -> None:
    """GPT-2's Conv1D is stored as (in, out), which config.json tells."""
    folder = tmp_path / "checkpoint-5"
    weight = torch.randn(8, 24)
    save(folder / "pytorch_model_fsdp_0", {"model": {"transformer.h.0.attn.c_attn.weight": weight}})
    (folder / "trainer_state.json").write_text("{}")
    (folder / "config.json").write_text('{"model_type": "gpt2", "n_embd": 8, "n_head": 2}')
    rows = json.loads(run("analyze", folder, "--json").out)["matrices"]
    assert [row["shape"] for row in rows] == [[8, 8]] * 3
