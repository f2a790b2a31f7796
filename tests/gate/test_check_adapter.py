"""An adapter as it is released: by itself, and merged into its base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import rankscope
from rankscope.how import How
from tests.checkpoints import peft_models
from tests.checkpoints.peft_models import Saved

NO_STORE = How(store=False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A LoRA of rank 4 on a tiny Llama, with what it adds random instead of zero."""
    directory = tmp_path_factory.mktemp("adapter")
    return peft_models.save(directory, peft_models.llama(), r=4, target_modules=["v_proj"])


def test_by_itself(saved: Saved, tmp_path: Path) -> None:
    ranks = tmp_path / "ranks.json"
    kept = rankscope.baseline(saved.adapter, how=NO_STORE)
    rankscope.write_baseline(kept, ranks)
    assert {row["numerical_rank"] for row in kept.matrices.values()} == {4}
    assert rankscope.check(saved.adapter, ranks, how=NO_STORE).unchanged == len(kept.matrices)
    file = saved.adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    lost = next(name for name in tensors if "lora_B" in name)
    tensors[lost][:, 1:] = 0  # one direction of four is left
    copy = tmp_path / "adapter"
    copy.mkdir()
    (copy / "adapter_config.json").write_bytes((saved.adapter / "adapter_config.json").read_bytes())
    save_file(tensors, copy / file.name)
    verdict = rankscope.check(copy, ranks, how=NO_STORE)
    assert {one.metric for one in verdict.failures} >= {"rank", "numerical_rank"}
    assert len({one.name for one in verdict.failures}) == 1


def test_merged_into_its_base(saved: Saved, tmp_path: Path) -> None:
    ranks = tmp_path / "ranks.json"
    rankscope.write_baseline(rankscope.baseline(saved.base, how=NO_STORE), ranks)
    verdict = rankscope.check(saved.adapter, ranks, base=saved.base, how=NO_STORE)
    assert len(verdict.names) - verdict.unchanged == len(saved.deltas)
    kept = rankscope.baseline(saved.adapter, base=saved.base, how=NO_STORE)
    for name in saved.deltas:
        oracle = np.linalg.norm(saved.merged[name].astype(float))
        assert kept.matrices[name]["frobenius_norm"] == pytest.approx(oracle, rel=1e-4)
