"""Integers packed into words: GPTQ and AWQ as their papers' tools pack them, compressed-tensors.

No package that owns GPTQ's or AWQ's format installs without a GPU's compiler, so that their files
are packed here, number by number, from the published description.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import rankscope
from rankscope.checkpoints.dequantisation.bits import unpacked, words_of
from rankscope.how import How
from tests.checkpoints.quantised_files import encodings, library, model, skipped, weights

Tensors = dict[str, torch.Tensor]
Codes = NDArray[np.int64]

RNG = np.random.default_rng(3)


def stream(numbers: Codes, bits: int) -> list[int]:
    """The words that hold these numbers, one after the other, lowest bit first."""
    whole = sum(int(number) << (bits * place) for place, number in enumerate(numbers))
    count = -(-len(numbers) * bits // 32)
    return [whole >> (32 * word) & 0xFFFFFFFF for word in range(count)]


def as_int32(words: list[list[int]]) -> torch.Tensor:
    return torch.from_numpy(np.array(words, np.uint32).view(np.int32))


class TestUnpacked:
    @pytest.mark.parametrize("bits", range(1, 9))
    def test_any_numbers_of_a_stream(self, bits: int) -> None:
        numbers = RNG.integers(0, 2**bits, 77)
        words = np.array(stream(numbers, bits), np.uint32).view(np.int32)[:, None]
        for start in range(0, 77, 5):
            for stop in range(start + 1, 77, 7):
                wanted = slice(start, stop)
                found = unpacked(words[words_of(bits, wanted)], bits, wanted)
                np.testing.assert_array_equal(found[:, 0], numbers[wanted])


def gptq(
    outputs: int, inputs: int, bits: int, group_size: int, order: Codes | None = None
) -> tuple[Tensors, NDArray[np.float64]]:
    """A weight as AutoGPTQ stores it (version 1), and the weight."""
    groups = -(-inputs // group_size)
    codes = RNG.integers(0, 2**bits, (inputs, outputs))
    zeros = RNG.integers(1, 2**bits, (groups, outputs))  # as used: stored less 1
    scales = RNG.uniform(0.01, 0.1, (groups, outputs)).astype(np.float16)
    group = np.arange(inputs) // group_size if order is None else order
    weight = np.empty((outputs, inputs))
    for o in range(outputs):
        for i in range(inputs):
            g = group[i]
            weight[o, i] = float(scales[g, o]) * (int(codes[i, o]) - int(zeros[g, o]))
    columns = [stream(codes[:, o], bits) for o in range(outputs)]
    tensors = {
        "q.qweight": as_int32(columns).T,
        "q.qzeros": as_int32([stream(zeros[g] - 1, bits) for g in range(groups)]),
        "q.scales": torch.from_numpy(scales),
        "q.g_idx": torch.from_numpy(group.astype(np.int32)),
    }
    return tensors, weight


def gptq_config(bits: Any, group_size: int, **more: Any) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": bits, "group_size": group_size} | more


class TestGptq:
    @pytest.mark.parametrize("bits", [2, 3, 4, 8])
    def test_groups_in_a_row(self, tmp_path: Path, bits: int) -> None:
        tensors, weight = gptq(32, 96, bits, 32)
        path = model(tmp_path, tensors, gptq_config(bits, 32))
        np.testing.assert_array_equal(weights(path)["q.weight"], weight)
        assert encodings(path) == {"q.weight": f"GPTQ int{bits}"}
        tables = ("q.g_idx", "q.qzeros", "q.scales")
        assert skipped(path) == dict.fromkeys(tables, "read with the weight that it scales")

    @pytest.mark.parametrize(
        "order",
        # The second has windows that touch groups 0 and 2, and none between.
        [RNG.permutation(np.arange(64) // 16), np.array([0, 2] * 16 + [3, 1] * 16)],
    )
    def test_the_order_of_activations(self, tmp_path: Path, order: Codes) -> None:
        tensors, weight = gptq(16, 64, 4, 16, order)
        path = model(tmp_path, tensors, gptq_config(4, 16, desc_act=True))
        np.testing.assert_array_equal(weights(path)["q.weight"], weight)

    @pytest.mark.parametrize(("size", "said"), [(64, -1), (48, 48), (64, 64), (64, 2**70)])
    def test_without_an_order(self, tmp_path: Path, size: int, said: int) -> None:
        tensors, weight = gptq(16, 64, 4, size)
        del tensors["q.g_idx"]
        path = model(tmp_path, tensors, gptq_config(4, said))
        np.testing.assert_array_equal(weights(path)["q.weight"], weight)

    def test_the_second_version(self, tmp_path: Path) -> None:
        tensors, weight = gptq(16, 64, 4, 32)
        words = tensors["q.qzeros"].numpy().view(np.uint32) + np.uint32(0x11111111)
        tensors["q.qzeros"] = torch.from_numpy(words.view(np.int32))
        # 15 + 1 would carry; the weight above has no zero point of 16.
        path = model(tmp_path, tensors, gptq_config(4, 32, checkpoint_format="gptq_v2"))
        np.testing.assert_array_equal(weights(path)["q.weight"], weight)

    def test_what_quantize_config_says(self, tmp_path: Path) -> None:
        tensors, weight = gptq(16, 64, 4, 32)
        path = model(tmp_path, tensors)
        (tmp_path / "quantize_config.json").write_text('{"bits": 4, "group_size": 32}')
        np.testing.assert_array_equal(weights(path)["q.weight"], weight)

    @pytest.mark.parametrize(
        ("config", "reason"),
        [
            (None, "packed by an unknown tool: quantization_config is not there"),
            (gptq_config(4, 32, quant_method="vptq"), "packed by an unknown tool"),
            (gptq_config(4, 32, quant_method=[1]), "packed by an unknown tool"),
            (gptq_config(5, 32), "5 bits, expected one of 2, 3, 4, 8"),
            (gptq_config("4", 32), "quantization_config says bits '4', expected a whole"),
            ({"quant_method": "gptq"}, "needs bits from config.json"),
            (gptq_config(8, 32), "q.scales is of shape [2, 16], expected [1, 16]"),
            (gptq_config(4, 0), "quantization_config says group_size 0"),
            (gptq_config(4, -2), "quantization_config says group_size -2"),
            (gptq_config(4, 16), "q.scales is of shape [2, 16], expected [4, 16]"),
            (gptq_config(4, 32, checkpoint_format="marlin"), "checkpoint_format is 'marlin'"),
            (gptq_config(4, 32, checkpoint_format=[]), "checkpoint_format is []"),
        ],
    )
    def test_a_configuration_that_does_not_fit(
        self, tmp_path: Path, config: dict[str, Any] | None, reason: str
    ) -> None:
        tensors, _ = gptq(16, 64, 4, 32)
        found = skipped(model(tmp_path, tensors, config))
        assert found["q.qweight"].startswith(reason)
        assert found["q.scales"] == "scales of q.qweight, no weights"

    @pytest.mark.parametrize(
        ("name", "tensor", "reason"),
        [
            ("q.qzeros", None, "needs q.qzeros: not in the checkpoint"),
            ("q.scales", None, "needs q.scales: not in the checkpoint"),
            ("q.g_idx", None, "needs q.g_idx, for quantization_config says desc_act"),
            ("q.g_idx", torch.zeros(63, dtype=torch.int32), "q.g_idx is of shape [63], expected"),
            ("q.g_idx", torch.zeros(64), "q.g_idx is of type float32, expected int32 or int64"),
            ("q.qzeros", torch.zeros(2, 4, dtype=torch.int32), "q.qzeros is of shape [2, 4]"),
            ("q.qzeros", torch.zeros(2, 2), "q.qzeros is of type float32, expected int32"),
            ("q.scales", torch.zeros(2, 16).long(), "q.scales is of type int64, expected float32"),
            ("q.qweight", torch.zeros(0, 16, dtype=torch.int32), "q.qweight is of shape [0, 16]"),
            ("q.qweight", torch.zeros(8, dtype=torch.int32), "q.qweight is of shape [8]"),
            ("q.weight", torch.zeros(16, 64), "stands for q.weight, which is a tensor of its own"),
        ],
    )
    def test_tables_that_do_not_fit(
        self, tmp_path: Path, name: str, tensor: torch.Tensor | None, reason: str
    ) -> None:
        tensors, _ = gptq(16, 64, 4, 32)
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor
        found = skipped(model(tmp_path, tensors, gptq_config(4, 32, desc_act=True)))
        assert found["q.qweight"].startswith(reason)

    @pytest.mark.parametrize(
        ("name", "number", "reason"),
        [
            ("q.g_idx", -1, "group -1, expected 0 to 1"),
            ("q.g_idx", 2, "group 2, expected 0 to 1"),
            ("q.qzeros", -1, "holds 15, a zero point that kernels disagree on: save it as gptq_v2"),
        ],
    )
    def test_numbers_that_make_no_sense(
        self, tmp_path: Path, name: str, number: int, reason: str
    ) -> None:
        tensors, _ = gptq(16, 64, 4, 32)
        tensors[name].view(-1)[3] = number
        path = model(tmp_path, tensors, gptq_config(4, 32))
        result = rankscope.analyze(path, how=How(store=False))
        assert [(row["status"], row["notes"]["status"]) for row in result.matrices] == [
            ("unreadable", reason)
        ]


def awq(outputs: int, inputs: int, group_size: int) -> tuple[Tensors, NDArray[np.float64]]:
    """A weight as AutoAWQ stores it for GEMM, and the weight."""
    groups = inputs // group_size
    codes = RNG.integers(0, 16, (inputs, outputs))
    zeros = RNG.integers(0, 16, (groups, outputs))
    scales = RNG.uniform(0.01, 0.1, (groups, outputs)).astype(np.float16)

    def packed(numbers: Codes) -> torch.Tensor:
        words = [
            [
                sum(int(row[8 * word + [0, 2, 4, 6, 1, 3, 5, 7][i]]) << (4 * i) for i in range(8))
                for word in range(outputs // 8)
            ]
            for row in numbers
        ]
        return as_int32(words)

    weight = np.empty((outputs, inputs))
    for o in range(outputs):
        for i in range(inputs):
            g = i // group_size
            weight[o, i] = float(scales[g, o]) * (int(codes[i, o]) - int(zeros[g, o]))
    tensors = {"q.qweight": packed(codes), "q.qzeros": packed(zeros)}
    return tensors | {"q.scales": torch.from_numpy(scales)}, weight


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm", "zero_point": True}


class TestAwq:
    def test_as_packed(self, tmp_path: Path) -> None:
        tensors, weight = awq(24, 64, 16)
        path = model(tmp_path, tensors, AWQ)
        np.testing.assert_array_equal(weights(path)["q.weight"], weight)
        assert encodings(path) == {"q.weight": "AWQ int4"}

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"version": "gemv"}, "AWQ version 'gemv', whose packing is another; expected 'gemm'"),
            ({"version": 1}, "AWQ version 1, whose"),
            ({"bits": 8}, "AWQ with 8 bits, expected 4"),
            ({"zero_point": False}, "AWQ without zero points"),
            ({"group_size": 32}, "q.scales is of shape [4, 24], expected [2, 24]"),
            ({"group_size": 0}, "quantization_config says group_size 0"),
        ],
    )
    def test_a_configuration_that_does_not_fit(
        self, tmp_path: Path, changes: dict[str, Any], reason: str
    ) -> None:
        tensors, _ = awq(24, 64, 16)
        found = skipped(model(tmp_path, tensors, AWQ | changes))
        assert found["q.qweight"].startswith(reason)

    def test_gptq_is_not_taken_for_it(self, tmp_path: Path) -> None:
        tensors, _ = gptq(16, 64, 4, 16)
        reason = "q.scales is of shape [4, 16], expected [1, 128]"
        assert skipped(model(tmp_path, tensors, AWQ))["q.qweight"] == reason


def pack_quantised(
    bits: int, group_size: int | None, symmetric: bool
) -> tuple[Tensors, torch.Tensor, dict[str, Any]]:
    """A weight as compressed-tensors stores it, what it decodes it to, and its configuration."""
    compressor = library("compressed_tensors.compressors").PackedQuantizationCompressor
    quantization = library("compressed_tensors.quantization")
    strategy = "channel" if group_size is None else "group"
    args = quantization.QuantizationArgs(
        num_bits=bits, strategy=strategy, group_size=group_size, symmetric=symmetric
    )
    scheme = quantization.QuantizationScheme(
        targets=["Linear"], weights=args, format="pack-quantized"
    )
    generator = torch.Generator().manual_seed(5)
    groups = 1 if group_size is None else 64 // group_size
    state = {
        "weight": torch.randn(24, 64, generator=generator),
        "weight_scale": torch.rand(24, groups, generator=generator) * 0.1 + 0.05,
    }
    if not symmetric:
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
        zeros = torch.randint(low, high, (24, groups), generator=generator)
        state["weight_zero_point"] = zeros.to(torch.int8)
    packed = compressor.compress(dict(state), scheme)
    expected = compressor.decompress(dict(packed), scheme)["weight"]
    config = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": {"num_bits": bits}}},
    }
    return {f"q.{name}": one for name, one in packed.items()}, expected, config


class TestCompressedTensors:
    @pytest.mark.parametrize("symmetric", [True, False])
    @pytest.mark.parametrize("group_size", [16, None])
    @pytest.mark.parametrize("bits", [4, 8])
    def test_as_the_library_decodes_it(
        self, tmp_path: Path, bits: int, group_size: int | None, symmetric: bool
    ) -> None:
        tensors, expected, config = pack_quantised(bits, group_size, symmetric)
        path = model(tmp_path, tensors, config)
        np.testing.assert_allclose(weights(path)["q.weight"], expected.numpy(), rtol=1e-6)
        assert encodings(path) == {"q.weight": f"compressed-tensors int{bits}"}

    def test_the_order_of_activations(self, tmp_path: Path) -> None:
        # As the library did up to 0.16, which sorted the inputs by group and then scaled runs.
        order = torch.from_numpy(RNG.permutation(np.arange(64) // 16).astype(np.int32))
        tensors, _, config = pack_quantised(4, 16, False)
        helpers = library("compressed_tensors.compressors.pack_quantized.helpers")
        codes, zeros = (
            helpers.unpack_from_int32(tensors[f"q.weight_{name}"], 4, torch.Size(shape), axis)
            for name, shape, axis in (("packed", (24, 64), 1), ("zero_point", (24, 4), 0))
        )
        run = torch.argsort(order, stable=True)
        expected = torch.empty(24, 64)
        for place, column in enumerate(run):
            number = codes[:, column].float() - zeros[:, place // 16].float()
            expected[:, column] = number * tensors["q.weight_scale"][:, place // 16]
        path = model(tmp_path, {**tensors, "q.weight_g_idx": order}, config)
        np.testing.assert_allclose(weights(path)["q.weight"], expected.numpy(), rtol=1e-6)

    @pytest.mark.parametrize(
        ("numbers", "reason"),
        [
            ([4] * 16 + [0] * 48, "group 4, expected 0 to 3"),
            ([-2] * 16 + [0] * 48, "group -2, expected 0 to 3"),
            ([0] * 17 + [1] * 47, "groups of other sizes, expected 16 inputs"),
        ],
    )
    def test_an_order_that_makes_no_sense(
        self, tmp_path: Path, numbers: list[int], reason: str
    ) -> None:
        tensors, _, config = pack_quantised(4, 16, True)
        tensors["q.weight_g_idx"] = torch.tensor(numbers, dtype=torch.int32)
        result = rankscope.analyze(model(tmp_path, tensors, config), how=How(store=False))
        assert [row["notes"]["status"] for row in result.matrices] == [reason]

    def test_an_order_never_filled_in(self, tmp_path: Path) -> None:
        tensors, expected, config = pack_quantised(4, 16, True)
        tensors["q.weight_g_idx"] = torch.full((64,), -1, dtype=torch.int32)
        path = model(tmp_path, tensors, config)
        np.testing.assert_allclose(weights(path)["q.weight"], expected.numpy(), rtol=1e-6)

    @pytest.mark.parametrize(
        ("name", "tensor", "reason"),
        [
            ("weight_scale", None, "needs q.weight_scale: not in the checkpoint"),
            ("weight_shape", None, "needs q.weight_shape: not in the checkpoint"),
            ("weight_shape", torch.tensor([24, 65]), "q.weight_packed is of shape [24, 8] for a"),
            ("weight_shape", torch.tensor([24, -64]), "q.weight_shape says [24, -64], expected"),
            ("weight_shape", torch.tensor([2**62, 2**62]), "q.weight_packed is of shape [24, 8]"),
            ("weight_shape", torch.tensor([24, 64, 1]), "q.weight_shape is of shape [3]"),
            ("weight_scale", torch.ones(24, 5), "q.weight_scale is of shape [24, 5], expected"),
            ("weight_scale", torch.ones(24), "q.weight_scale is of shape [24], expected 2 axes"),
            ("weight_zero_point", torch.ones(24, 4), "q.weight_zero_point is of type float32"),
            ("weight_zero_point", torch.ones(2, 4).int(), "q.weight_zero_point is of shape [2, 4]"),
            ("weight_global_scale", torch.ones(1), "q.weight_global_scale scales the scales"),
            ("weight_packed", torch.ones(24, 8).byte(), "q.weight_packed is of type uint8"),
        ],
    )
    def test_tables_that_do_not_fit(
        self, tmp_path: Path, name: str, tensor: torch.Tensor | None, reason: str
    ) -> None:
        tensors, _, config = pack_quantised(4, 16, False)
        if tensor is None:
            del tensors[f"q.{name}"]
        else:
            tensors[f"q.{name}"] = tensor
        assert skipped(model(tmp_path, tensors, config))["q.weight_packed"].startswith(reason)

    def test_a_configuration_of_other_bits(self, tmp_path: Path) -> None:
        tensors, _, _ = pack_quantised(4, 16, True)
        _, _, config = pack_quantised(8, 16, True)
        reason = "holds codes of 4 bits, which config.json does not speak of"
        assert skipped(model(tmp_path, tensors, config))["q.weight_packed"] == reason

    @pytest.mark.parametrize("groups", [5, {"a": 5}, {"a": {"weights": 5}}, {"a": {}}])
    def test_a_configuration_that_says_nothing(self, tmp_path: Path, groups: Any) -> None:
        tensors, expected, _ = pack_quantised(4, 16, True)
        path = model(tmp_path, tensors, {"config_groups": groups})
        np.testing.assert_allclose(weights(path)["q.weight"], expected.numpy(), rtol=1e-6)
