"""Gates and experts: what we read, put together again, computes what the model's layer computes."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rankscope import analyze
from rankscope.checkpoints.layout_table import GLM, GRANITE, STACKED
from tests.checkpoints.layout_models import GROUPED, TOKENS, build, matrices, specs

MIXTURE = {**GROUPED, **TOKENS, "num_local_experts": 3, "num_experts_per_tok": 2}
QWEN = {**GROUPED, **TOKENS, "num_experts": 3, "num_experts_per_tok": 2, "head_dim": 8}
QWEN |= {"moe_intermediate_size": 20, "decoder_sparse_step": 1}


def gated(module: Any, gate: Any, up: Any, x: Any) -> Any:
    """What a gated layer has before its last matrix."""
    import torch

    activate = getattr(module, "activation_fn", None) or module.act_fn
    return activate(torch.from_numpy(gate) @ x) * (torch.from_numpy(up) @ x)


class TestDense:
    @pytest.mark.parametrize(
        ("model", "config", "sizes", "module", "name"),
        [
            ("Phi3ForCausalLM", "Phi3Config", GROUPED, "model.layers.0.mlp", "gate_up_proj"),
            ("GlmForCausalLM", "GlmConfig", {**GROUPED, "head_dim": 8}, "model.layers.0.mlp",
             "gate_up_proj"),
            ("Glm4ForCausalLM", "Glm4Config", {**GROUPED, "head_dim": 8}, "model.layers.0.mlp",
             "gate_up_proj"),
        ],
    )  # fmt: skip
    def test_gate_and_up(
        self,
        model: str,
        config: str,
        sizes: dict[str, Any],
        module: str,
        name: str,
        tmp_path: Path,
    ) -> None:
        import torch

        made = build(tmp_path, model, config, sizes | TOKENS)
        layer, read, x = made.get_submodule(module), matrices(tmp_path), torch.randn(32)
        gate, up = (read[f"{module}.{name}.weight:{part}"] for part in ("gate", "up"))
        down = torch.from_numpy(read[f"{module}.down_proj.weight"])
        layer.act_fn = layer.activation_fn
        torch.testing.assert_close(down @ gated(layer, gate, up, x), layer(x))

    def test_granite_shares_one_of_them(self, tmp_path: Path) -> None:
        import torch

        sizes = MIXTURE | {"shared_intermediate_size": 24}
        made = build(tmp_path, "GraniteMoeSharedForCausalLM", "GraniteMoeSharedConfig", sizes)
        layer, read, x = made.model.layers[0].shared_mlp, matrices(tmp_path), torch.randn(32)
        name = "model.layers.0.shared_mlp"
        gate, up = (read[f"{name}.input_linear.weight:{part}"] for part in ("gate", "up"))
        layer.act_fn = layer.activation
        down = torch.from_numpy(read[f"{name}.output_linear.weight"])
        torch.testing.assert_close(down @ gated(layer, gate, up, x), layer(x))


# model, config, sizes, the module of the experts, the names of their tensors in the file
EXPERTS: dict[str, tuple[str, str, dict[str, Any], str, str, str]] = {
    "gpt_oss": (
        "GptOssForCausalLM",
        "GptOssConfig",
        {**MIXTURE, "head_dim": 8, "layer_types": ["full_attention"]},
        "model.layers.0.mlp.experts",
        "model.layers.0.mlp.experts.gate_up_proj",
        "model.layers.0.mlp.experts.down_proj",
    ),
    "gpt_oss, as wide inside": (
        "GptOssForCausalLM",
        "GptOssConfig",
        {**MIXTURE, "intermediate_size": 32, "head_dim": 8, "layer_types": ["full_attention"]},
        "model.layers.0.mlp.experts",
        "model.layers.0.mlp.experts.gate_up_proj",
        "model.layers.0.mlp.experts.down_proj",
    ),
    "gemma4": (
        "Gemma4ForCausalLM",
        "Gemma4TextConfig",
        {
            **QWEN,
            "top_k_experts": 2,
            "enable_moe_block": True,
            "layer_types": ["full_attention"],
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 40,
        },
        "model.layers.0.experts",
        "model.layers.0.experts.gate_up_proj",
        "model.layers.0.experts.down_proj",
    ),
    "granitemoe": (
        "GraniteMoeForCausalLM",
        "GraniteMoeConfig",
        MIXTURE,
        "model.layers.0.block_sparse_moe.experts",
        "model.layers.0.block_sparse_moe.input_linear.weight",
        "model.layers.0.block_sparse_moe.output_linear.weight",
    ),
    "granitemoe, more experts than rows": (
        "GraniteMoeForCausalLM",
        "GraniteMoeConfig",
        {**MIXTURE, "num_local_experts": 40, "intermediate_size": 8},
        "model.layers.0.block_sparse_moe.experts",
        "model.layers.0.block_sparse_moe.input_linear.weight",
        "model.layers.0.block_sparse_moe.output_linear.weight",
    ),
    "aria": (
        "AriaTextForCausalLM",
        "AriaTextConfig",
        {**GROUPED, **TOKENS, "moe_num_experts": 3, "moe_topk": 2},
        "model.layers.0.mlp.experts",
        "model.layers.0.mlp.experts.fc1.weight",
        "model.layers.0.mlp.experts.fc2.weight",
    ),
}


def routed(module: Any, x: Any, expert: int) -> Any:
    """What the experts give for one input that goes to one of them alone."""
    import torch

    return module(x[None], torch.tensor([[expert]]), torch.tensor([[1.0]])).reshape(-1)


def without_biases(module: Any) -> None:
    import torch

    for name, parameter in module.named_parameters():
        if "bias" in name:
            torch.nn.init.zeros_(parameter)


class TestStacked:
    @pytest.mark.parametrize("family", EXPERTS)
    def test_each_expert_is_three_matrices(self, family: str, tmp_path: Path) -> None:
        import torch

        model, config, sizes, where, fused, last = EXPERTS[family]
        made = build(tmp_path, model, config, sizes)
        layer, read = made.get_submodule(where), matrices(tmp_path)
        without_biases(layer)
        for expert in (0, layer.num_experts - 1):
            x = torch.randn(32)
            gate, up = (read[f"{fused}[{expert}]:{part}"] for part in ("gate", "up"))
            rows = np.concatenate([gate, up]) @ x.numpy()
            if family.startswith("gpt_oss"):  # it has a way of its own
                rows = np.stack([gate @ x.numpy(), up @ x.numpy()], axis=1).ravel()
                inner = layer._apply_gate(torch.from_numpy(rows))
            else:
                inner = gated(layer, gate, up, x)
            down = torch.from_numpy(read[f"{last}[{expert}]"])
            torch.testing.assert_close(down @ inner, routed(layer, x, expert), rtol=1e-4, atol=1e-3)

    def test_llama4_routes_by_place(self, tmp_path: Path) -> None:
        import torch

        sizes = {**MIXTURE, "head_dim": 8, "intermediate_size_mlp": 40}
        sizes |= {"interleave_moe_layer_step": 1}
        made = build(tmp_path, "Llama4ForCausalLM", "Llama4TextConfig", sizes)
        name = "model.layers.0.feed_forward.experts"
        layer, read = made.get_submodule(name), matrices(tmp_path)
        x = torch.randn(3, 32)
        given = layer(x)
        for expert in range(3):
            gate, up = (read[f"{name}.gate_up_proj[{expert}]:{part}"] for part in ("gate", "up"))
            down = torch.from_numpy(read[f"{name}.down_proj[{expert}]"])
            inner = gated(layer, gate, up, x[expert])
            torch.testing.assert_close(down @ inner, given[expert], rtol=1e-4, atol=1e-3)

    def test_dbrx_has_them_one_behind_the_other(self, tmp_path: Path) -> None:
        import torch

        sizes = {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 1,
            "vocab_size": 40,
            "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4},
            "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 24, "moe_num_experts": 3},
        }
        made = build(tmp_path, "DbrxForCausalLM", "DbrxConfig", sizes | TOKENS)
        layer, read, x = made.transformer.blocks[0].ffn.experts, matrices(tmp_path), torch.randn(32)
        name = "transformer.blocks.0.ffn.experts.mlp"
        for expert in range(3):
            gate, up, down = (read[f"{name}.{part}:expert{expert}"] for part in ("w1", "v1", "w2"))
            given = torch.from_numpy(down.T) @ gated(layer.mlp, gate, up, x)
            torch.testing.assert_close(given, routed(layer, x, expert), rtol=1e-4, atol=1e-3)

    def test_jetmoe(self, tmp_path: Path) -> None:
        import torch

        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_key_value_heads": 2}
        sizes |= {"kv_channels": 8, "intermediate_size": 24, "num_local_experts": 4}
        sizes |= {"num_experts_per_tok": 2, "vocab_size": 40}
        made = build(tmp_path, "JetMoeForCausalLM", "JetMoeConfig", sizes | TOKENS)
        module = made.model.layers[0].mlp
        read, x = matrices(tmp_path), torch.randn(32)
        name = "model.layers.0.mlp.input_linear.weight"
        rows = module.input_linear(x.expand(4, 32), [1, 1, 1, 1])
        for expert in range(4):
            for part, expected in zip(("gate", "up"), rows[expert].chunk(2), strict=True):
                given = torch.from_numpy(read[f"{name}[{expert}]:{part}"]) @ x
                torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)


class TestBothWays:
    """Qwen3-VL's experts are published as (in, out) and saved either way."""

    SIZES = QWEN | {"vocab_size": 40}

    def moved(self, made: Any, tmp_path: Path, *, swap: bool) -> None:
        """The file with the experts in this order."""
        state = {name: tensor.detach().numpy() for name, tensor in made.state_dict().items()}
        for name in [name for name in state if "experts." in name and swap]:
            state[name] = np.ascontiguousarray(state[name].swapaxes(1, 2))
        save_file(state, tmp_path / "model.safetensors")

    @pytest.mark.parametrize("swap", [False, True])
    def test_the_shape_tells(self, swap: bool, tmp_path: Path) -> None:
        import torch

        made = build(
            tmp_path,
            "models.qwen3_vl_moe.modeling_qwen3_vl_moe.Qwen3VLMoeTextModel",
            "Qwen3VLMoeTextConfig",
            self.SIZES,
        )
        self.moved(made, tmp_path, swap=swap)
        layer, read, x = made.layers[0].mlp.experts, matrices(tmp_path), torch.randn(32)
        name = "layers.0.mlp.experts"
        gate, up = (read[f"{name}.gate_up_proj[1]:{part}"] for part in ("gate", "up"))
        down = torch.from_numpy(read[f"{name}.down_proj[1]"])
        torch.testing.assert_close(
            down @ gated(layer, gate, up, x), routed(layer, x, 1), rtol=1e-4, atol=1e-3
        )

    def test_a_square_says_nothing(self, tmp_path: Path) -> None:
        sizes = self.SIZES | {"moe_intermediate_size": 16}  # 2 * 16 rows and 32 columns
        build(
            tmp_path,
            "models.qwen3_vl_moe.modeling_qwen3_vl_moe.Qwen3VLMoeTextModel",
            "Qwen3VLMoeTextConfig",
            sizes,
        )
        names = [name for name in specs(tmp_path) if "gate_up" in name]
        assert names == [f"layers.0.mlp.experts.gate_up_proj[{i}]" for i in range(3)]


class TestStackedOrNumbered:
    """transformers has three experts in one tensor and saves them as three."""

    @pytest.mark.parametrize(
        ("model", "config", "sizes", "names"),
        [
            ("MixtralForCausalLM", "MixtralConfig", MIXTURE,
             {"gate": "w1", "up": "w3", "down": "w2"}),
            ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", QWEN,
             {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}),
        ],
    )  # fmt: skip
    def test_the_readings_are_the_same(
        self,
        model: str,
        config: str,
        sizes: dict[str, Any],
        names: dict[str, str],
        tmp_path: Path,
    ) -> None:
        made = build(tmp_path / "numbered", model, config, sizes)
        state = {name: tensor.detach().numpy() for name, tensor in made.state_dict().items()}
        (tmp_path / "stacked").mkdir()
        config_json = (tmp_path / "numbered" / "config.json").read_bytes()
        (tmp_path / "stacked" / "config.json").write_bytes(config_json)
        save_file(state, tmp_path / "stacked" / "model.safetensors")
        assert len(load_file(tmp_path / "numbered" / "model.safetensors")) > len(state)
        stacked, numbered = (self.rows(tmp_path / way) for way in ("stacked", "numbered"))
        assert len(stacked) == len(numbered) == 9
        for expert in range(3):
            for part, name in names.items():
                fused = "down_proj[{}]" if part == "down" else "gate_up_proj[{}]:" + part
                one = stacked[f"experts.{fused.format(expert)}"]
                other = numbered[f"experts.{expert}.{name}.weight"]
                for key in ("shape", "rank", "stable_rank", "spectral_norm", "frobenius_norm"):
                    assert one[key] == other[key]

    def rows(self, path: Path) -> dict[str, dict[str, Any]]:
        metrics = ["rank", "stable_rank", "spectral_norm", "frobenius_norm"]
        found = analyze(path, metrics=metrics).matrices
        return {
            name[name.index("experts.") :]: row
            for row in found
            if "experts." in (name := str(row["name"]))
        }


class TestTable:
    """What the table says of stacked experts, in the code of transformers."""

    @pytest.mark.parametrize("family", sorted({*STACKED} - {*GRANITE}))
    def test_a_gate_before_up_and_out_before_in(self, family: str) -> None:
        module = family.removesuffix("_text")
        source = inspect.getsource(import_module(f"transformers.models.{module}.modeling_{module}"))
        start = source.index("@use_experts_implementation\nclass ")
        experts = source[start : source.index("\n\n\n", start)]
        assert "gate, up = nn.functional.linear(" in experts
        assert "self.act_fn(gate) * up" in experts
        assert (
            "torch.empty(self.num_experts, 2 * self.intermediate_dim, self.hidden_dim)" in experts
        )
        assert "torch.empty(self.num_experts, self.hidden_dim, self.intermediate_dim)" in experts

    @pytest.mark.parametrize("family", sorted(GLM))
    def test_a_gate_before_up(self, family: str) -> None:
        """The one that is called `mlp`; Phi-4's for sound has it the other way round."""
        module = family.removesuffix("_text")
        modeling = import_module(f"transformers.models.{module}.modeling_{module}")
        layers = [kind for kind in vars(modeling).values() if inspect.isclass(kind)]
        own = [kind for kind in layers if kind.__module__ == modeling.__name__]
        source = "\n".join(inspect.getsource(kind) for kind in own)
        (name,) = set(re.findall(r"self\.mlp = (\w+)\(config\)\n", source)) & {
            kind.__name__ for kind in own if "gate_up_proj" in inspect.getsource(kind.__init__)
        }
        code = inspect.getsource(getattr(modeling, name))
        assert "gate, up_states = up_states.chunk(2, dim=-1)" in code
        assert "up_states = up_states * self.activation_fn(gate)" in code
