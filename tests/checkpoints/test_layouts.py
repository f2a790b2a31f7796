"""Orientation and fused layers, against the forward pass of the models that own the layouts.

The output of a fused layer is replaced by the number of each row; whatever arrives as query, key
and value then says which rows these are. transformers writes config.json and the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints.layout_models import (
    GPT2,
    GROUPED,
    SMALL,
    TOKENS,
    Rows,
    build,
    matrices,
    numbered,
    numbers,
    parts_in,
    rows_of,
    specs,
)


def cached(model: Any, fused: Any, rows: int) -> Rows:
    """What becomes key and value of the first token, which a rotation leaves as it is."""
    import torch

    numbered(fused)
    layer = model(torch.tensor([[1]]), use_cache=True).past_key_values.layers[0]
    key, value = numbers(layer.keys), numbers(layer.values)
    query = sorted(set(range(rows)) - set(key) - set(value))
    return {"q": query, "k": key, "v": value}


# model, config, its settings, the path of the fused layer
DECODERS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2, "transformer.h.0.attn.c_attn"),
    "phi3": (
        "Phi3ForCausalLM",
        "Phi3Config",
        GROUPED,
        "model.layers.0.self_attn.qkv_proj",
    ),
    "phi3, all heads": (
        "Phi3ForCausalLM",
        "Phi3Config",
        {**SMALL, "intermediate_size": 48},
        "model.layers.0.self_attn.qkv_proj",
    ),
    "gpt_neox": (
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        {**SMALL, "intermediate_size": 48},
        "gpt_neox.layers.0.attention.query_key_value",
    ),
    "gpt_neox_japanese": (
        "GPTNeoXJapaneseForCausalLM",
        "GPTNeoXJapaneseConfig",
        SMALL,
        "gpt_neox_japanese.layers.0.attention.query_key_value",
    ),
    "bloom": (
        "BloomForCausalLM",
        "BloomConfig",
        {"hidden_size": 32, "n_head": 4, "n_layer": 1, "vocab_size": 40},
        "transformer.h.0.self_attention.query_key_value",
    ),
    "persimmon": (
        "PersimmonForCausalLM",
        "PersimmonConfig",
        {**SMALL, "intermediate_size": 48, "qk_layernorm": False},
        "model.layers.0.self_attn.query_key_value",
    ),
    "falcon": (
        "FalconForCausalLM",
        "FalconConfig",
        SMALL,
        "transformer.h.0.self_attention.query_key_value",
    ),
    "falcon, a key for each head": (
        "FalconForCausalLM",
        "FalconConfig",
        {**SMALL, "multi_query": False},
        "transformer.h.0.self_attention.query_key_value",
    ),
    "falcon, grouped": (
        "FalconForCausalLM",
        "FalconConfig",
        {**SMALL, "num_kv_heads": 2, "new_decoder_architecture": True},
        "transformer.h.0.self_attention.query_key_value",
    ),
    "mpt": (
        "MptForCausalLM",
        "MptConfig",
        {"d_model": 32, "n_heads": 4, "n_layers": 1, "vocab_size": 40, "max_seq_len": 16},
        "transformer.blocks.0.attn.Wqkv",
    ),
    "codegen": (
        "CodeGenForCausalLM",
        "CodeGenConfig",
        {**GPT2, "rotary_dim": 4},
        "transformer.h.0.attn.qkv_proj",
    ),
    "gpt_bigcode": (
        "GPTBigCodeForCausalLM",
        "GPTBigCodeConfig",
        GPT2,
        "transformer.h.0.attn.c_attn",
    ),
    "gpt_bigcode, a key for each head": (
        "GPTBigCodeForCausalLM",
        "GPTBigCodeConfig",
        {**GPT2, "multi_query": False},
        "transformer.h.0.attn.c_attn",
    ),
    "dbrx": (
        "DbrxForCausalLM",
        "DbrxConfig",
        {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 1,
            "vocab_size": 40,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 1e9, "rope_theta": 1e4},
            "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 24, "moe_num_experts": 3},
        },
        "transformer.blocks.0.norm_attn_norm.attn.Wqkv",
    ),
}


class TestDecoders:
    """Key and value are what the model puts into its cache."""

    @pytest.mark.parametrize("family", DECODERS)
    def test_queries_keys_and_values(self, family: str, tmp_path: Path) -> None:
        model, config, settings, layer = DECODERS[family]
        made = build(tmp_path, model, config, settings | TOKENS)
        found = parts_in(tmp_path, layer)
        rows = sum(len(part) for part in found.values())
        assert found == cached(made, made.get_submodule(layer), rows)
        assert sorted(found) == ["k", "q", "v"]
        assert [len(part) > 0 for part in found.values()] == [True] * 3

    @pytest.mark.parametrize("family", ["gpt2", "phi3", "falcon, grouped", "codegen"])
    def test_what_is_read_is_what_the_model_multiplies_with(
        self, family: str, tmp_path: Path
    ) -> None:
        """Not only the numbers of the rows: their content."""
        import torch

        model, config, settings, layer = DECODERS[family]
        made = build(tmp_path, model, config, settings | TOKENS)
        x = torch.randn(1, 1, 32)
        seen = made.get_submodule(layer)
        expected = (seen(x) - seen(torch.zeros_like(x))).detach().numpy().ravel()
        read, placed = matrices(tmp_path), specs(tmp_path)
        for part in "qkv":
            name = f"{layer}.weight:{part}"
            np.testing.assert_allclose(
                read[name] @ x.numpy().ravel(), expected[rows_of(placed[name])], atol=1e-4
            )


class Spy:
    """Keeps the rows that arrive where a model attends, and attends to nothing."""

    def __init__(self) -> None:
        self.rows: Rows = {}

    def __call__(
        self, module: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any
    ) -> tuple[Any, None]:
        self.rows = {"q": numbers(query), "k": numbers(key), "v": numbers(value)}
        return query.transpose(1, 2), None


@pytest.fixture
def spy() -> Spy:
    """As the attention function `spy` of transformers."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    made = Spy()
    ALL_ATTENTION_FUNCTIONS.register("spy", made)
    return made


TOWERS = {
    "Qwen2VisionTransformerPretrainedModel": ("qwen2_vl", "Qwen2VLVisionConfig", "embed_dim"),
    "Qwen2_5_VisionTransformerPretrainedModel": ("qwen2_5_vl", "Qwen2_5_VLVisionConfig", ""),
    "Qwen3VLVisionModel": ("qwen3_vl", "Qwen3VLVisionConfig", ""),
    "Qwen3VLMoeVisionModel": ("qwen3_vl_moe", "Qwen3VLMoeVisionConfig", ""),
    "Qwen3_5VisionModel": ("qwen3_5", "Qwen3_5VisionConfig", ""),
    "Qwen3_5MoeVisionModel": ("qwen3_5_moe", "Qwen3_5MoeVisionConfig", ""),
    "Glm4vVisionModel": ("glm4v", "Glm4vVisionConfig", ""),
}
EYES = {
    "Blip2VisionModel": "Blip2VisionConfig",
    "InstructBlipVisionModel": "InstructBlipVisionConfig",
}


class TestOtherAttention:
    """Query, key and value are what the model hands to its attention function."""

    @pytest.mark.parametrize("model", TOWERS)
    def test_vision_towers(self, model: str, spy: Spy, tmp_path: Path) -> None:
        import torch

        family, config, width = TOWERS[model]
        sizes = {"depth": 1, "num_heads": 4, "intermediate_size": 48, "patch_size": 2}
        sizes |= {width: 32} if width else {"hidden_size": 32, "out_hidden_size": 48}
        made = build(tmp_path, f"models.{family}.modeling_{family}.{model}", config, sizes)
        layer = "blocks.0.attn.qkv"
        found = parts_in(tmp_path, layer)
        attention = made.blocks[0].attn
        attention.config._attn_implementation = "spy"
        numbered(attention.qkv)
        still = (torch.ones(1, 8), torch.zeros(1, 8))
        attention(torch.ones(1, 32), cu_seqlens=torch.tensor([0, 1]), position_embeddings=still)
        assert found == spy.rows
        assert len(found["q"]) == len(found["v"]) == 32

    @pytest.mark.parametrize("model", EYES)
    def test_blip(self, model: str, spy: Spy, tmp_path: Path) -> None:
        import torch

        sizes = {**SMALL, "intermediate_size": 48, "image_size": 4, "patch_size": 2}
        made = build(tmp_path, model, EYES[model], sizes)
        found = parts_in(tmp_path, "layers.0.self_attn.qkv")
        attention = made.encoder.layers[0].self_attn
        attention.config._attn_implementation = "spy"
        numbered(attention.qkv)
        attention(torch.ones(1, 1, 32))
        assert found == spy.rows
        assert len(found["q"]) == len(found["v"]) == 32

    def test_modernbert(self, spy: Spy, tmp_path: Path) -> None:
        import torch

        sizes = {**SMALL, "intermediate_size": 48, "pad_token_id": 0}
        made = build(tmp_path, "ModernBertModel", "ModernBertConfig", sizes)
        found = parts_in(tmp_path, "layers.0.attn.Wqkv")
        made.config._attn_implementation = "spy"
        numbered(made.layers[0].attn.Wqkv)
        made(torch.tensor([[1]]))
        assert found == spy.rows
        assert len(found["q"]) == len(found["v"]) == 32

    def test_decision_transformer(self, spy: Spy, tmp_path: Path) -> None:
        import torch

        sizes = {"hidden_size": 32, "n_layer": 1, "n_head": 4}
        made = build(tmp_path, "DecisionTransformerModel", "DecisionTransformerConfig", sizes)
        found = parts_in(tmp_path, "encoder.h.0.attn.c_attn")
        attention = made.encoder.h[0].attn
        attention.config._attn_implementation = "spy"
        numbered(attention.c_attn)
        attention(torch.ones(1, 1, 32))
        assert found == spy.rows
        assert len(found["q"]) == len(found["v"]) == 32

    @pytest.mark.parametrize(
        ("model", "config"),
        [("OpenAIGPTModel", "OpenAIGPTConfig"), ("ImageGPTModel", "ImageGPTConfig")],
    )
    def test_with_an_attention_of_their_own(
        self, model: str, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch

        made = build(tmp_path, model, config, GPT2)
        found = parts_in(tmp_path, "h.0.attn.c_attn")
        kept: Rows = {}

        def attend(query: Any, key: Any, value: Any, *_: Any) -> list[Any]:
            kept.update(q=numbers(query), k=numbers(key), v=numbers(value))
            return [query, None]

        monkeypatch.setattr(made.h[0].attn, "_attn", attend)
        numbered(made.h[0].attn.c_attn)
        made(torch.tensor([[1]]))
        assert found == kept
        assert len(found["q"]) == len(found["v"]) == 32

    def test_cross_attention_has_keys_and_values(self, spy: Spy, tmp_path: Path) -> None:
        import torch

        made = build(tmp_path, "GPT2Model", "GPT2Config", {**GPT2, "add_cross_attention": True})
        found = parts_in(tmp_path, "h.0.crossattention.c_attn")
        attention = made.h[0].crossattention
        attention.config._attn_implementation = "spy"
        numbered(attention.c_attn)
        attention(torch.ones(1, 1, 32), encoder_hidden_states=torch.ones(1, 1, 32))
        assert found == {part: spy.rows[part] for part in "kv"}
        assert sorted(found["k"] + found["v"]) == list(range(64))


LINEAR = {
    **GROUPED,
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 4,
    "layer_types": ["linear_attention"],
}


class TestLinearAttention:
    def test_qwen_3_5(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Behind a convolution over time, made the identity, and silu, which rounds to it."""
        import torch
        from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

        made = build(tmp_path, "Qwen3_5ForCausalLM", "Qwen3_5TextConfig", LINEAR | TOKENS)
        found = parts_in(tmp_path, "linear_attn.in_proj_qkv")
        kept: Rows = {}

        def attend(query: Any, key: Any, value: Any, **_: Any) -> tuple[Any, None]:
            kept.update(q=numbers(query), k=numbers(key), v=numbers(value))
            return value, None

        monkeypatch.setattr(modeling, "torch_chunk_gated_delta_rule", attend)
        layer = made.model.layers[0].linear_attn
        numbered(layer.in_proj_qkv)
        taps = torch.zeros_like(layer.conv1d.weight)
        taps[..., -1] = 1
        layer.conv1d.weight = torch.nn.Parameter(taps)
        made(torch.tensor([[1]]), use_cache=False)
        # Key heads may be repeated for the values that share them; each row counts once.
        assert found == kept
        assert [len(found[part]) for part in "qkv"] == [16, 16, 16]

    def test_qwen3_next(self, tmp_path: Path) -> None:
        import torch

        sizes = LINEAR | TOKENS | {"num_experts": 0, "shared_expert_intermediate_size": 8}
        made = build(tmp_path, "Qwen3NextForCausalLM", "Qwen3NextConfig", sizes)
        found = parts_in(tmp_path, "linear_attn.in_proj_qkvz")
        rows = torch.arange(64.0).expand(1, 1, -1)
        layer = made.model.layers[0].linear_attn
        split = layer.fix_query_key_value_ordering(rows, torch.zeros(1, 1, 8))
        assert found == dict(zip("qkvz", map(numbers, split[:4]), strict=True))


class TestConv1d:
    """Every matrix of a GPT-2 times an input is the layer's output, whatever way it is stored."""

    @pytest.mark.parametrize(
        ("model", "config", "sizes", "layers"),
        [
            ("GPT2Model", "GPT2Config", {**GPT2, "n_inner": 48, "add_cross_attention": True}, 7),
            ("OpenAIGPTModel", "OpenAIGPTConfig", GPT2, 4),
            ("ImageGPTModel", "ImageGPTConfig", {**GPT2, "n_inner": 48}, 4),
            ("DecisionTransformerModel", "DecisionTransformerConfig",
             {"hidden_size": 32, "n_layer": 1, "n_head": 4, "n_inner": 48}, 4),
        ],
    )  # fmt: skip
    def test_is_seen_as_out_and_in(
        self, model: str, config: str, sizes: dict[str, Any], layers: int, tmp_path: Path
    ) -> None:
        import torch
        from transformers.pytorch_utils import Conv1D

        made = build(tmp_path, model, config, sizes)
        read, placed = matrices(tmp_path), specs(tmp_path)
        seen = [name for name, module in made.named_modules() if isinstance(module, Conv1D)]
        assert len(seen) == layers
        for layer in seen:
            module = made.get_submodule(layer)
            x = torch.randn(module.weight.shape[0])
            expected = (module(x) - module.bias).detach().numpy()
            mine = [name for name in read if name.partition(":")[0] == f"{layer}.weight"]
            assert mine
            for name in mine:
                rows = slice(None) if ":" not in name else rows_of(placed[name])
                np.testing.assert_allclose(read[name] @ x.numpy(), expected[rows], atol=1e-4)

    def test_clvp_has_some_in_its_decoder(self, tmp_path: Path) -> None:
        sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "n_inner": 48}
        build(tmp_path, "ClvpForCausalLM", "ClvpDecoderConfig", sizes | {"vocab_size": 40} | TOKENS)
        shapes = {name: spec.shape for name, spec in specs(tmp_path).items() if ".mlp.c_" in name}
        assert list(shapes.values()) == [(48, 32), (32, 48)]
