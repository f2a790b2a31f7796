"""fp8 and int8 codes with scales, and MXFP4, against transformers and compressed-tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rankscope
from rankscope.how import How
from tests.checkpoints.quantised_files import encodings, library, model, skipped, weights

BLOCKS = {"quant_method": "fp8", "weight_block_size": [16, 32]}
COMPRESSED = {"quant_method": "compressed-tensors"}


def fp8(*shape: int, dtype: torch.dtype = torch.float8_e4m3fn) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return (torch.randn(shape, generator=generator) * 20).to(dtype)


def scales(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(7)) + 0.01


def by_transformers(codes: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    fp8 = library("transformers.integrations.finegrained_fp8")
    decoded: torch.Tensor = fp8.Fp8Dequantize(None)._dequantize_one(codes, table, torch.float32)
    return decoded


def unpacked_by_transformers(blocks: torch.Tensor, exponents: torch.Tensor) -> torch.Tensor:
    mxfp4 = library("transformers.integrations.mxfp4")
    decoded: torch.Tensor = mxfp4.convert_moe_packed_tensors(blocks, exponents, dtype=torch.float32)
    return decoded


class TestBlocks:
    def test_as_transformers_decodes_them(self, tmp_path: Path) -> None:
        codes, table = fp8(48, 96), scales(3, 3)
        expected = by_transformers(codes, table)
        path = model(tmp_path, {"q.weight": codes, "q.weight_scale_inv": table}, BLOCKS)
        np.testing.assert_array_equal(weights(path)["q.weight"], expected.numpy())
        assert encodings(path) == {"q.weight": "fp8 block 16x32"}
        assert skipped(path) == {"q.weight_scale_inv": "read with the weight that it scales"}

    def test_cut_off_at_the_edge(self, tmp_path: Path) -> None:
        # transformers refuses these; DeepSeek's kernel masks what lies outside.
        codes, table = fp8(40, 70), scales(3, 3)
        spread = table.repeat_interleave(16, 0)[:40].repeat_interleave(32, 1)[:, :70]
        path = model(tmp_path, {"q.weight": codes, "q.weight_scale_inv": table}, BLOCKS)
        expected = (codes.float() * spread).numpy()
        np.testing.assert_array_equal(weights(path)["q.weight"], expected)

    def test_experts(self, tmp_path: Path) -> None:
        codes, table = fp8(3, 32, 64), scales(3, 2, 2)
        tensors = {"experts.w": codes, "experts.w_scale_inv": table}
        found = weights(model(tmp_path, tensors, BLOCKS))
        for expert in range(3):
            expected = by_transformers(codes[expert], table[expert])
            np.testing.assert_array_equal(found[f"experts.w[{expert}]"], expected.numpy())

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float8_e8m0fnu])
    def test_scales_that_are_powers_of_two(self, tmp_path: Path, dtype: torch.dtype) -> None:
        codes = fp8(32, 64)
        exponents = torch.randint(100, 140, (32, 2), dtype=torch.uint8)
        expected = by_transformers(codes, exponents)
        tensors = {"q.weight": codes, "q.weight_scale_inv": exponents.view(dtype)}
        path = model(tmp_path, tensors, BLOCKS | {"weight_block_size": [1, 32]})
        np.testing.assert_array_equal(weights(path)["q.weight"], expected.numpy())

    @pytest.mark.parametrize(
        ("table", "config", "reason"),
        [
            ((2, 3), BLOCKS, "q.weight_scale_inv is of shape [2, 3], expected a scale for each"),
            ((3, 3), None, "q.weight_scale_inv is of shape [3, 3], expected a scale for each"),
            ((1, 1), BLOCKS, "q.weight_scale_inv has one element, expected one for each 16x32"),
            ((3, 3, 1), BLOCKS, "q.weight_scale_inv is of shape [3, 3, 1], which does not fit"),
            ((0, 3), BLOCKS, "is of shape [48, 96], q.weight_scale_inv of [0, 3]: nothing to"),
            ((3, 3), {"weight_block_size": [16, 0]}, "config.json says blocks of [16, 0]"),
            ((3, 3), {"weight_block_size": 16}, "config.json says blocks of 16, expected two"),
            ((3, 3), {"weight_block_size": [16, 2**70]}, "q.weight_scale_inv is of shape [3, 3]"),
        ],
    )
    def test_scales_that_do_not_fit(
        self, tmp_path: Path, table: tuple[int, ...], config: dict[str, Any] | None, reason: str
    ) -> None:
        tensors = {"q.weight": fp8(48, 96), "q.weight_scale_inv": scales(*table)}
        assert skipped(model(tmp_path, tensors, config))["q.weight"].startswith(reason)

    def test_a_scale_that_is_no_number(self, tmp_path: Path) -> None:
        table = scales(3, 3)
        table[1, 2] = torch.nan
        path = model(tmp_path, {"q.weight": fp8(48, 96), "q.weight_scale_inv": table}, BLOCKS)
        result = rankscope.analyze(path, how=How(store=False))
        assert [row["status"] for row in result.matrices] == ["nonfinite"]

    def test_a_stack_that_is_none(self, tmp_path: Path) -> None:
        # Without "experts" in its name and with so short a last axis it is a convolution.
        tensors = {"w": fp8(32, 32, 4), "w_scale_inv": scales(32, 2, 1)}
        result = rankscope.analyze(model(tmp_path, tensors, BLOCKS), how=How(store=False))
        (row,) = result.matrices
        assert row["notes"]["status"] == "scales a stack of matrices, which this is not"


class TestScaled:
    @pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
    @pytest.mark.parametrize("name", ["q.weight_scale", "q.scale_weight", "q.weight_scale_inv"])
    @pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
    def test_one_for_all(
        self, tmp_path: Path, dtype: torch.dtype, name: str, shape: tuple[int, ...]
    ) -> None:
        codes, table = fp8(24, 40, dtype=dtype), scales(*shape)
        path = model(tmp_path, {"q.weight": codes, name: table})
        expected = (codes.float() * table.item()).numpy()
        np.testing.assert_array_equal(weights(path)["q.weight"], expected)
        assert encodings(path) == {"q.weight": f"{str(dtype).removeprefix('torch.')} scaled"}

    @pytest.mark.parametrize("shape", [(24,), (24, 1)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_one_for_each_output(
        self, tmp_path: Path, shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        codes, table = fp8(24, 40), scales(*shape).to(dtype)
        path = model(tmp_path, {"q.weight": codes, "q.weight_scale": table}, COMPRESSED)
        expected = (codes.float() * table.float().reshape(24, 1)).numpy()
        np.testing.assert_array_equal(weights(path)["q.weight"], expected)

    @pytest.mark.parametrize("table", [(3,), (3, 1, 1), (3, 24, 1), (3, 1, 40)])
    def test_experts(self, tmp_path: Path, table: tuple[int, ...]) -> None:
        codes, factors = fp8(3, 24, 40), scales(*table)
        tensors = {"experts.w": codes, "experts.w_scale": factors}
        found = weights(model(tmp_path, tensors))
        expected = codes.float() * factors.reshape(3, *(table[1:] or (1, 1)))
        for expert in range(3):
            np.testing.assert_array_equal(found[f"experts.w[{expert}]"], expected[expert].numpy())

    @pytest.mark.parametrize("table", [(), (8,), (8, 1, 1, 1)])
    def test_a_convolution(self, tmp_path: Path, table: tuple[int, ...]) -> None:
        codes, factors = fp8(8, 5, 3, 3), scales(*table)
        path = model(tmp_path, {"q.weight": codes, "q.weight_scale": factors})
        expected = codes.float().reshape(8, 45) * (factors.reshape(-1, 1))
        np.testing.assert_array_equal(weights(path)["q.weight"], expected.numpy())

    @pytest.mark.parametrize(
        ("kind", "strategy", "more"),
        [
            ("float", "tensor", {}),
            ("float", "channel", {}),
            ("float", "block", {"block_structure": [8, 16]}),
            ("int", "tensor", {}),
            ("int", "channel", {}),
            ("int", "channel", {"symmetric": False}),
            ("int", "group", {"group_size": 16}),
        ],
    )
    def test_as_compressed_tensors_decodes_it(
        self, tmp_path: Path, kind: str, strategy: str, more: dict[str, Any]
    ) -> None:
        compressor = library("compressed_tensors.compressors").NaiveQuantizationCompressor
        quantization = library("compressed_tensors.quantization")
        args = quantization.QuantizationArgs(num_bits=8, type=kind, strategy=strategy, **more)
        form = f"{kind}-quantized"
        scheme = quantization.QuantizationScheme(targets=["Linear"], weights=args, format=form)
        sizes = {"tensor": (1,), "channel": (24, 1), "block": (3, 4), "group": (24, 4)}
        table = scales(*sizes[strategy])
        state = {"weight": torch.randn(24, 64), "weight_scale": table}
        if not args.symmetric:
            state["weight_zero_point"] = torch.randint(-9, 9, (24, 1), dtype=torch.int8)
        stored = compressor.compress(dict(state), scheme)
        expected = compressor.decompress(dict(stored), scheme)["weight"]
        config = COMPRESSED | {"config_groups": {"group_0": {"weights": more}}}
        path = model(tmp_path, {f"q.{name}": one for name, one in stored.items()}, config)
        np.testing.assert_allclose(weights(path)["q.weight"], expected.float().numpy(), rtol=1e-6)

    def test_groups_that_config_json_contradicts(self, tmp_path: Path) -> None:
        config = COMPRESSED | {"config_groups": {"a": {"weights": {"group_size": 32}}}}
        tensors = {"q.weight": fp8(24, 64), "q.weight_scale": scales(24, 4)}
        reason = skipped(model(tmp_path, tensors, config))["q.weight"]
        assert reason == (
            "q.weight_scale is of shape [24, 4], expected a scale for each output or block of "
            "[24, 64], blocks 1x32"
        )

    @pytest.mark.parametrize(
        ("name", "dtype", "reason"),
        [
            ("q.weight_scale", torch.int8, "int8 codes of an unknown tool, expected quant_method"),
            ("q.weight_scale_inv", torch.int8, "int8 codes of an unknown tool, expected"),
        ],
    )
    def test_codes_that_may_be_packed(
        self, tmp_path: Path, name: str, dtype: torch.dtype, reason: str
    ) -> None:
        tensors = {"q.weight": torch.ones(24, 40, dtype=dtype), name: scales(24, 1)}
        assert skipped(model(tmp_path, tensors))["q.weight"].startswith(reason)

    @pytest.mark.parametrize(
        ("tensors", "reason"),
        [
            (
                {"q.weight_scale": scales(), "q.scale_weight": scales()},
                "scaled by q.weight_scale and q.scale_weight, expected one",
            ),
            (
                {"q.weight_scale": scales(), "q.weight_scale_2": scales()},
                "scaled by q.weight_scale and q.weight_scale_2, expected one",
            ),
            (
                {"q.weight_scale": torch.ones(2, 2, dtype=torch.complex64)},
                "q.weight_scale is of type complex64, expected float32 or",
            ),
            (
                {"q.weight_scale": scales(), "q.weight_zero_point": scales(24)},
                "q.weight_zero_point is of type float32, expected float8_e4m3fn",
            ),
        ],
    )
    def test_tables_that_do_not_fit(
        self, tmp_path: Path, tensors: dict[str, torch.Tensor], reason: str
    ) -> None:
        path = model(tmp_path, {"q.weight": fp8(24, 40), **tensors})
        found = skipped(path)
        assert found["q.weight"].startswith(reason)
        assert all(found[name] == "scales of q.weight, no weights" for name in tensors)


def mxfp4(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    blocks = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8, generator=generator)
    return blocks, torch.randint(110, 135, shape, dtype=torch.uint8, generator=generator)


class TestMxfp4:
    NAME = "model.layers.0.mlp.experts.gate_up_proj"

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float8_e8m0fnu])
    def test_as_transformers_decodes_it(self, tmp_path: Path, dtype: torch.dtype) -> None:
        blocks, exponents = mxfp4(3, 20, 2)
        tensors = {f"{self.NAME}_blocks": blocks, f"{self.NAME}_scales": exponents.view(dtype)}
        path = model(tmp_path, tensors)
        found = weights(path)
        # transformers multiplies inputs from the left by (experts, in, out).
        expected = unpacked_by_transformers(blocks, exponents)
        assert expected.shape == (3, 64, 20)
        for expert in range(3):
            decoded = found[f"{self.NAME}[{expert}]"]
            np.testing.assert_array_equal(decoded, expected[expert].numpy().T)
        assert encodings(path) == {self.NAME: "MXFP4"}

    @pytest.mark.parametrize("shape", [(20, 2), (20, 5, 2)])
    def test_what_is_no_stack(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        blocks, exponents = mxfp4(*shape)
        found = weights(model(tmp_path, {"w_blocks": blocks, "w_scales": exponents}))
        whole = blocks.reshape(1, -1, 1, 16), exponents.reshape(1, -1, 1)
        expected = unpacked_by_transformers(*whole)[0].T
        assert set(found) <= {"w", *(f"w[{i}]" for i in range(20))}
        together = np.concatenate([found[name].ravel() for name in found])
        np.testing.assert_array_equal(together, expected.numpy().ravel())

    def test_a_scale_that_is_no_number(self, tmp_path: Path) -> None:
        blocks, exponents = mxfp4(1, 20, 2)
        exponents[0, 3, 1] = 255
        tensors = {f"{self.NAME}_blocks": blocks, f"{self.NAME}_scales": exponents}
        result = rankscope.analyze(model(tmp_path, tensors), how=How(store=False))
        assert [row["status"] for row in result.matrices] == ["nonfinite"]

    @pytest.mark.parametrize(
        ("blocks", "exponents", "reason"),
        [
            ((3, 20, 2, 16), (3, 20, 3), "w_scales is of shape [3, 20, 3], expected [3, 20, 2]"),
            ((3, 20, 2, 8), (3, 20, 2), "w_blocks is of shape [3, 20, 2, 8], expected [..., out"),
            ((20, 16), (20,), "w_blocks is of shape [20, 16], expected [..., out, in / 32, 16]"),
            ((0, 20, 2, 16), (0, 20, 2), "w_blocks is of shape [0, 20, 2, 16], expected"),
        ],
    )
    def test_shapes_that_do_not_fit(
        self, tmp_path: Path, blocks: tuple[int, ...], exponents: tuple[int, ...], reason: str
    ) -> None:
        tensors = {"w_blocks": torch.ones(blocks).byte(), "w_scales": torch.ones(exponents).byte()}
        found = skipped(model(tmp_path, tensors))
        assert found["w_blocks"].startswith(reason)
        assert found["w_scales"] == "scales of w_blocks, no weights"
