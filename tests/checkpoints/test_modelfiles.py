"""What stands beside the weights, where it is no file, and where it is made to fill the memory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from rankscope.checkpoints import open_checkpoint
from rankscope.checkpoints.adapter_config import (
    MAX_MATCHES,
    NotScaled,
    check_work,
    scale_of,
    why_not_merged,
)
from rankscope.checkpoints.dequantisation import dequantised
from rankscope.checkpoints.dequantisation.packed import MAX_GROUPS
from rankscope.checkpoints.layout_table import Layout
from rankscope.checkpoints.layouts import laid_out
from rankscope.checkpoints.memory import MemoryCheckpoint
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.errors import InputRejected

LONG = "x" * 1_000_000
ADAPTER = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}


def files(directory: Path, name: str, document: Any) -> ModelFiles:
    (directory / name).write_text(json.dumps(document))
    return ModelFiles(directory)


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json", "quantize_config.json"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "not a regular file"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "cannot be opened: No such file"),
        (lambda path: path.symlink_to(path.name), "cannot be opened: Too many levels"),
    ],
    ids=["fifo", "directory", "device", "dangling", "loop"],
)
def test_what_is_no_file_is_refused(
    tmp_path: Path, name: str, make: Callable[[Path], None], reason: str
) -> None:
    """Measuring the weights as if it were not there would give other numbers in silence."""
    arrays: dict[str, Any] = {"q.qweight": np.ones((8, 16), np.int32)}
    arrays |= {"q.scales": np.ones((2, 16), np.float16)}
    if name.startswith("adapter"):
        arrays = {"a.lora_A.weight": np.ones((2, 4)), "a.lora_B.weight": np.ones((4, 2))}
    save_file(arrays, tmp_path / "model.safetensors")
    make(tmp_path / name)
    with pytest.raises(InputRejected, match=f"{name}: {reason}"):
        open_checkpoint(tmp_path)


class TestReasonsAreShort:
    """One stands beside every weight: the value itself would fill the memory."""

    GPTQ = ("qweight", "qzeros", "scales")

    @pytest.mark.parametrize(
        ("names", "config"),
        [
            (GPTQ, {"quant_method": LONG}),
            (GPTQ, {"quant_method": [LONG] * 3}),
            (GPTQ, {"quant_method": "gptq", "bits": LONG}),
            (GPTQ, {"quant_method": "gptq", "bits": 10**4000}),
            (GPTQ, {"quant_method": "gptq", "checkpoint_format": LONG, "bits": 4}),
            (GPTQ, {"quant_method": "gptq", "bits": 4, "group_size": 10**4000}),
            (GPTQ, {"quant_method": "awq", "version": LONG}),
            (("weight", "weight_scale_inv"), {"weight_block_size": [10**4000, 1]}),
            (("weight", "weight_scale_inv"), {"weight_block_size": LONG}),
        ],
    )
    def test_of_a_weight(
        self, tmp_path: Path, names: tuple[str, ...], config: dict[str, Any]
    ) -> None:
        import ml_dtypes

        if names is self.GPTQ:
            arrays: dict[str, Any] = {"qweight": np.ones((8, 16), np.int32)}
            arrays |= {"qzeros": np.ones((2, 2), np.int32), "scales": np.ones((2, 16), np.float16)}
        else:
            arrays = {"weight": np.ones((8, 8), ml_dtypes.float8_e4m3fn)}
            arrays["weight_scale_inv"] = np.ones((2, 2), np.float32)
        beside = files(tmp_path, "config.json", {"quantization_config": config})
        listing = dequantised(MemoryCheckpoint(arrays), beside).listing
        assert {item.name for item in listing.skipped} == set(arrays)
        assert all(len(item.reason) < 200 for item in listing.skipped)

    @pytest.mark.parametrize(
        "config",
        [
            {"peft_type": LONG},
            {**ADAPTER, "r": LONG},
            {**ADAPTER, "lora_alpha": [LONG] * 9},
            {**ADAPTER, "rank_pattern": {LONG: 2}},
            {**ADAPTER, "alpha_pattern": {"(" * 2: 2}},
        ],
    )
    def test_of_a_product(self, config: dict[str, Any]) -> None:
        with pytest.raises(NotScaled) as raised:
            scale_of(config, "a.q", 2)
        assert len(str(raised.value)) < 200

    def test_of_a_merge(self) -> None:
        reason = why_not_merged({**ADAPTER, "init_lora_weights": LONG})
        assert reason is not None
        assert len(reason) < 200


class TestTime:
    def test_too_many_groups_of_layers(self, tmp_path: Path) -> None:
        """They are gone through for every weight."""
        arrays = {
            "l.weight_packed": np.ones((8, 4), np.int32),
            "l.weight_shape": np.array([8, 32]),
            "l.weight_scale": np.ones((8, 2), np.float32),
        }
        for count, reason in ((MAX_GROUPS, ""), (MAX_GROUPS + 1, "257 config_groups")):
            groups = {str(i): {"weights": {"num_bits": 4}} for i in range(count)}
            section = {"quant_method": "compressed-tensors", "config_groups": groups}
            beside = files(tmp_path, "config.json", {"quantization_config": section})
            listing = dequantised(MemoryCheckpoint(arrays), beside).listing
            told = {item.name: item.reason for item in listing.skipped}
            assert reason in told.get("l.weight_packed", "")
            assert ("l.weight_packed" in told) is bool(reason)

    def test_too_many_target_parameters(self) -> None:
        config = {**ADAPTER, "target_parameters": ["a.b"] * 1000}
        check_work(config, MAX_MATCHES // 1000)
        with pytest.raises(NotScaled, match="1000 target_parameters for 1001 modules"):
            check_work(config, MAX_MATCHES // 1000 + 1)

    def test_a_name_is_matched_once_for_each_layout(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not once for each of the models in one config.json."""
        calls: list[str] = []
        names = Layout.names

        def counted(layout: Layout, name: str) -> bool:
            calls.append(name)
            return names(layout, name)

        monkeypatch.setattr(Layout, "names", counted)
        models = {f"{i}_config": {"model_type": "gpt2", "n_embd": 8} for i in range(40)}
        beside = files(tmp_path, "config.json", models)
        arrays = {"h.0.attn.c_attn.weight": np.ones((8, 24)), "x": np.ones((3, 4))}
        listing = laid_out(MemoryCheckpoint(arrays), beside).listing
        assert [len(tensor.parts) for tensor in listing.tensors] == [3, 0]
        assert len(calls) == 2 * (4 + 1)  # gpt2 has four layouts, any model one

    def test_many_modules_that_are_saved_whole(self, tmp_path: Path) -> None:
        """Each is looked for among all names of the base."""
        base, adapter = tmp_path / "base", tmp_path / "adapter"
        one = np.ones((2, 2), np.float32)
        for directory in (base, adapter):
            directory.mkdir()
        count = 4000
        save_file({f"m.{i}.weight": one for i in range(count)}, base / "model.safetensors")
        own = {f"base_model.model.new.{i}.weight": one for i in range(count)}
        save_file(own, adapter / "adapter_model.safetensors")
        config = {**ADAPTER, "modules_to_save": ["new", *map(str, range(100_000, 300_000))]}
        (adapter / "adapter_config.json").write_text(json.dumps(config))
        start = time.perf_counter()
        with open_checkpoint(adapter, base=base) as checkpoint:
            assert len(checkpoint.listing.tensors) == 2 * count
        assert time.perf_counter() - start < 5  # above 20 s when all are gone through for each


def test_two_that_stand_for_one_weight(tmp_path: Path) -> None:
    """GPTQ's codes and compressed-tensors' of one name: which is meant, nothing tells."""
    arrays = {
        "l.qweight": np.ones((8, 16), np.int32),
        "l.qzeros": np.ones((2, 2), np.int32),
        "l.scales": np.ones((2, 16), np.float16),
        "l.weight_packed": np.ones((8, 4), np.int32),
        "l.weight_shape": np.array([8, 32]),
        "l.weight_scale": np.ones((8, 2), np.float32),
    }
    section = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    beside = files(tmp_path, "config.json", {"quantization_config": section})
    listing = dequantised(MemoryCheckpoint(arrays), beside).listing
    assert listing.tensors == ()
    told = {item.name: item.reason for item in listing.skipped}
    assert told.keys() == arrays.keys()
    assert told["l.qweight"] == "stands for l.weight, as l.weight_packed does"
    assert told["l.weight_packed"] == "stands for l.weight, as l.qweight does"
    assert told["l.scales"] == "scales of l.qweight, no weights"


def test_two_that_an_adapter_holds_for_one_tensor(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    one = np.ones((2, 2), np.float32)
    for directory in (base, adapter):
        directory.mkdir()
    save_file({"head.weight": one}, base / "model.safetensors")
    own = {"base_model.model.head.weight": one, "head.weight": 2 * one}
    save_file(own, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps(ADAPTER))
    with pytest.raises(InputRejected, match=r"stands for head\.weight, as .*head\.weight does"):
        open_checkpoint(adapter, base=base)
