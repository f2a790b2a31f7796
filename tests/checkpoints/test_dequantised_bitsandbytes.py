"""LLM.int8, nf4 and fp4, against bitsandbytes and a model that transformers saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rankscope
from rankscope.checkpoints.dequantisation import bitsandbytes
from rankscope.how import How
from tests.checkpoints.quantised_files import encodings, library, model, skipped, weights

bnb = library("bitsandbytes.functional")
Tensors = dict[str, torch.Tensor]


def four_bit(
    shape: tuple[int, ...], kind: str = "nf4", block: int = 64, nested: bool = False
) -> tuple[Tensors, torch.Tensor]:
    """A weight as bitsandbytes stores it, and what bitsandbytes decodes it to."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    packed, state = bnb.quantize_4bit(weight, None, None, block, nested, kind)
    tensors = {"q.weight": packed}
    tensors |= {f"q.weight.{name}": table for name, table in state.as_dict(packed=True).items()}
    return tensors, decoded(packed, state)


def decoded(packed: torch.Tensor, state: Any) -> torch.Tensor:
    """By the library's implementation for any device.

    That for CPUs (0.50.2) takes the scale of another block in rows that are no whole blocks.
    """
    absmax = state.absmax
    if state.nested:
        absmax = bnb.dequantize_blockwise(absmax, state.state2) + state.offset
    code, size, shape = state.code, state.blocksize, state.shape
    compute = library("bitsandbytes.backends.default.ops")._dequantize_4bit_compute
    weight: torch.Tensor = compute(packed.reshape(-1), absmax, code, size, shape, torch.float32)
    return weight


def with_state(tensors: Tensors, **changes: Any) -> Tensors:
    """The tensors with other members in their JSON."""
    name = "q.weight.quant_state.bitsandbytes__nf4"
    state = json.loads(bytes(tensors[name].tolist())) | changes
    data = json.dumps(state).encode()
    return tensors | {name: torch.frombuffer(bytearray(data), dtype=torch.uint8)}


class TestFourBit:
    @pytest.mark.parametrize("nested", [False, True])
    @pytest.mark.parametrize("kind", ["nf4", "fp4"])
    @pytest.mark.parametrize(
        ("shape", "block"),
        [((24, 64), 64), ((64, 24), 64), ((7, 33), 64), ((3, 3), 64), ((150, 130), 32)],
    )
    def test_as_the_library_decodes_it(
        self, tmp_path: Path, kind: str, nested: bool, shape: tuple[int, int], block: int
    ) -> None:
        tensors, expected = four_bit(shape, kind, block, nested)
        path = model(tmp_path, tensors)
        # The library adds the offset of nested scales in another order: one rounding apart.
        np.testing.assert_allclose(weights(path)["q.weight"], expected.numpy(), rtol=3e-7)
        assert encodings(path) == {"q.weight": f"bnb {kind}"}
        tables = set(tensors) - {"q.weight"}
        assert skipped(path) == dict.fromkeys(tables, "read with the weight that it scales")

    def test_experts(self, tmp_path: Path) -> None:
        tensors, expected = four_bit((3, 20, 32))
        named = {name.replace("q.weight", "experts.w"): one for name, one in tensors.items()}
        found = weights(model(tmp_path, named))
        for expert in range(3):
            np.testing.assert_array_equal(found[f"experts.w[{expert}]"], expected[expert].numpy())

    def test_codes_in_another_type(self, tmp_path: Path) -> None:
        weight = torch.randn(16, 64)
        packed, state = bnb.quantize_4bit(weight, blocksize=64, quant_storage=torch.bfloat16)
        tensors = {f"q.weight.{name}": one for name, one in state.as_dict(packed=True).items()}
        path = model(tmp_path, {"q.weight": packed, **tensors})
        expected = decoded(packed.view(torch.uint8), state)
        np.testing.assert_array_equal(weights(path)["q.weight"], expected.numpy())

    @pytest.mark.parametrize(("limit", "size"), [("SPAN", 100), ("CHUNK", 70), ("WIDE", 32)])
    def test_a_few_rows_at_a_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, size: int
    ) -> None:
        monkeypatch.setattr(bitsandbytes, limit, size)
        tensors, expected = four_bit((13, 33))
        found = weights(model(tmp_path, tensors))["q.weight"]
        np.testing.assert_array_equal(found, expected.numpy())

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"shape": [8, 63]}, "holds 512 codes, its state says shape [8, 63]"),
            ({"shape": [2**40, 2**40]}, "holds 512 codes, its state says shape"),
            ({"shape": [-8, -64]}, "its state says shape [-8, -64], expected 2 or 3 sizes"),
            ({"shape": 512}, "its state says shape 512"),
            ({"shape": [512]}, "its state says shape [512]"),
            ({"shape": [True, 512]}, "its state says shape [True, 512]"),
            ({"blocksize": 0}, "its state says blocksize 0, expected 32 to 4096"),
            ({"blocksize": 2**70}, "its state says blocksize 11805"),
            ({"nested_blocksize": 2**70, "nested_offset": 0.5}, "its state says nested_blocksize"),
            ({"blocksize": 64.0}, "its state says blocksize 64.0"),
            ({"blocksize": 128}, "q.weight.absmax is of shape [8], expected [4]"),
            ({"nested_blocksize": 256}, "its state says nested_blocksize 256 and nested_offset"),
            (
                {"nested_blocksize": 256, "nested_offset": 0.5},
                "q.weight.absmax is of type float32, expected uint8",
            ),
        ],
    )
    def test_a_state_that_does_not_fit(
        self, tmp_path: Path, changes: dict[str, Any], reason: str
    ) -> None:
        tensors, _ = four_bit((8, 64))
        found = skipped(model(tmp_path, with_state(tensors, **changes)))
        assert found["q.weight"].startswith(reason)
        assert found["q.weight.absmax"] == "scales of q.weight, no weights"

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"{", "state is not JSON"),
            (b"[1]", "is a JSON list, expected an object"),
            (b"\xff", "state is not UTF-8"),
            (b"[" * 9999, "state is nested too deeply"),
            (b" " * 10001, "has 10001 bytes, expected JSON of at most 10000"),
            (b'{"shape": [1, 2], "shape": [2, 1]}', "name stands twice"),
            (b"", "state is not JSON"),
        ],
    )
    def test_a_state_that_is_no_json(self, tmp_path: Path, data: bytes, reason: str) -> None:
        tensors, _ = four_bit((8, 64))
        name = "q.weight.quant_state.bitsandbytes__nf4"
        tensors[name] = torch.tensor(list(data), dtype=torch.uint8)
        assert reason in skipped(model(tmp_path, tensors))["q.weight"]

    @pytest.mark.parametrize("table", ["absmax", "quant_map"])
    def test_a_table_that_is_not_there(self, tmp_path: Path, table: str) -> None:
        tensors, _ = four_bit((8, 64))
        del tensors[f"q.weight.{table}"]
        reason = skipped(model(tmp_path, tensors))["q.weight"]
        assert reason == f"needs q.weight.{table}: not in the checkpoint"

    def test_scales_that_are_not_numbers(self, tmp_path: Path) -> None:
        tensors, _ = four_bit((8, 64))
        tensors["q.weight.absmax"][3] = torch.nan
        result = rankscope.analyze(model(tmp_path, tensors), how=How(store=False))
        assert [row["status"] for row in result.matrices] == ["nonfinite"]


class TestInt8:
    def tensors(self) -> tuple[Tensors, torch.Tensor]:
        weight = torch.randn(24, 40, generator=torch.Generator().manual_seed(1))
        codes, scales, _ = bnb.int8_vectorwise_quant(weight.to(torch.float16))
        tensors = {"q.weight": codes, "q.SCB": scales, "q.weight_format": torch.tensor(0).byte()}
        return tensors, bnb.int8_vectorwise_dequant(codes, scales)

    def test_as_the_library_decodes_it(self, tmp_path: Path) -> None:
        tensors, expected = self.tensors()
        path = model(tmp_path, tensors)
        # The library multiplies by the rounded 1 / 127.
        np.testing.assert_allclose(weights(path)["q.weight"], expected.numpy(), rtol=3e-7)
        assert encodings(path) == {"q.weight": "bnb int8"}

    def test_codes_that_are_tiled(self, tmp_path: Path) -> None:
        tensors, _ = self.tensors()
        tensors["q.weight_format"] += 2
        reason = "q.weight_format is not 0, expected the codes row by row"
        assert skipped(model(tmp_path, tensors))["q.weight"] == reason

    def test_scales_of_another_length(self, tmp_path: Path) -> None:
        tensors, _ = self.tensors()
        tensors["q.SCB"] = tensors["q.SCB"][:-1]
        reason = "q.SCB is of shape [23], expected [24]"
        assert skipped(model(tmp_path, tensors))["q.weight"] == reason


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_model_that_transformers_saved(tmp_path: Path, kind: str) -> None:
    transformers = library("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=32,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    how = (
        transformers.BitsAndBytesConfig(load_in_8bit=True)
        if kind == "int8"
        else transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=True
        )
    )
    quantised = transformers.LlamaForCausalLM.from_pretrained(
        tmp_path / "base", quantization_config=how, device_map="cpu", local_files_only=True
    )
    quantised.save_pretrained(tmp_path / kind)
    quantised.dequantize(dtype=torch.float32)
    expected = {name: one.float().numpy() for name, one in quantised.state_dict().items()}
    found = weights(tmp_path / kind)
    assert len(found) == 7
    for name, weight in found.items():
        # It decodes to the type that the model computes with, some of them bfloat16.
        np.testing.assert_allclose(weight, expected[name], rtol=2**-8, atol=2**-12)


def test_a_module_in_memory() -> None:
    layer = library("bitsandbytes.nn").Linear4bit(64, 8, bias=False, quant_type="nf4")
    layer.to("cpu")
    if layer.weight.quant_state is None:  # quantised when it is moved to a device
        layer.weight._quantize("cpu")
    result = rankscope.analyze(layer, metrics=["rank"])
    assert [(row["name"], row["dtype"], row["rank"]) for row in result.matrices] == [
        ("weight", "bnb nf4", 8)
    ]
