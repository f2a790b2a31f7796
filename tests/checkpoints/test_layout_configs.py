"""What config.json may say: models inside models, sizes that do not fit, nonsense.

Models whose code is not in transformers are checked against its views of the rows, written out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from rankscope import How, analyze
from rankscope.checkpoints.layout_parts import MAX_PARTS
from rankscope.checkpoints.layout_table import LAYOUTS
from rankscope.checkpoints.layouts import MAX_KNOWN, laid_out
from rankscope.checkpoints.memory import MemoryCheckpoint
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.checkpoints.wrapped import WrappedCheckpoint
from rankscope.errors import InputRejected
from rankscope.records import Factors, Listing, MatrixSpec, TensorInfo
from tests.checkpoints.layout_models import Rows, matrices, parts_in, rows_of, specs

GPT2 = {"model_type": "gpt2", "n_embd": 8, "n_head": 2}
PHI3 = {"model_type": "phi3", "hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA4 = {"model_type": "llama4_text", "hidden_size": 8, "num_local_experts": 2}


def saved(path: Path, config: object, **shapes: tuple[int, ...]) -> Path:
    """A model of one file; `__` in a name is a dot."""
    tensors = {
        name.replace("__", "."): np.arange(float(np.prod(shape))).reshape(shape)
        for name, shape in shapes.items()
    }
    save_file(tensors, path / "model.safetensors")
    if config is not None:
        (path / "config.json").write_text(json.dumps(config), "utf-8")
    return path


def names(path: Path) -> list[str]:
    return list(specs(path))


def listed(config: Mapping[str, Any], tensor: TensorInfo, directory: Path) -> TensorInfo:
    """A tensor as the stage lists it."""
    (directory / "config.json").write_text(json.dumps(config), "utf-8")
    checkpoint = WrappedCheckpoint(MemoryCheckpoint({}), Listing("x", "x", (tensor,)))
    (placed,) = laid_out(checkpoint, ModelFiles(directory)).listing.tensors
    return placed


class TestOwnRepositories:
    """Against the views that the models' own code takes of the rows."""

    def rows(self, view: Any, *picks: Any) -> Rows:
        return {
            part: np.sort(view[pick].ravel()).tolist()
            for part, pick in zip("qkv", picks, strict=True)
        }

    def test_internlm2(self, tmp_path: Path) -> None:
        """`rearrange(qkv, "b q (h gs d) -> b q h gs d", gs=2 + groups)`: queries, key, value."""
        config = PHI3 | {"model_type": "internlm2"}
        saved(tmp_path, config, model__layers__0__attention__wqkv__weight=(16, 8))
        view = np.arange(16).reshape(2, 2 + 2, 2)
        expected = self.rows(view, np.s_[:, :2], np.s_[:, -2], np.s_[:, -1])
        assert parts_in(tmp_path, "attention.wqkv") == expected

    def test_chatglm(self, tmp_path: Path) -> None:
        """`split([heads * kv_channels, groups * kv_channels, groups * kv_channels])`, and swiglu
        of `chunk(2)`, whose first half is activated."""
        config = {
            "model_type": "chatglm",
            "hidden_size": 8,
            "num_attention_heads": 4,
            "kv_channels": 2,
            "multi_query_attention": True,
            "multi_query_group_num": 1,
            "ffn_hidden_size": 6,
        }
        saved(
            tmp_path,
            config,
            e__layers__0__self_attention__query_key_value__weight=(12, 8),
            e__layers__0__mlp__dense_h_to_4h__weight=(12, 8),
        )
        expected = self.rows(np.arange(12), np.s_[:8], np.s_[8:10], np.s_[10:])
        assert parts_in(tmp_path, "query_key_value") == expected
        halves = {"gate": list(range(6)), "up": list(range(6, 12))}
        assert parts_in(tmp_path, "dense_h_to_4h") == halves

    def test_the_first_chatglm_stays_whole(self, tmp_path: Path) -> None:
        config = {"model_type": "chatglm", "hidden_size": 8, "num_attention_heads": 4}
        saved(
            tmp_path,
            config | {"inner_hidden_size": 32},
            l__0__self_attention__query_key_value__weight=(24, 8),
            l__0__mlp__dense_h_to_4h__weight=(32, 8),
        )
        assert sorted(names(tmp_path)) == [
            "l.0.mlp.dense_h_to_4h.weight",
            "l.0.self_attention.query_key_value.weight",
        ]

    @pytest.mark.parametrize(
        ("model", "layer"), [("qwen", "attn.c_attn"), ("baichuan", "self_attn.W_pack")]
    )
    def test_thirds(self, model: str, layer: str, tmp_path: Path) -> None:
        config = {"model_type": model, "hidden_size": 8}
        saved(tmp_path, config, **{f"h.0.{layer}.weight": (24, 8)})
        expected = self.rows(np.arange(24).reshape(3, 8), 0, 1, 2)
        assert parts_in(tmp_path, layer) == expected

    def test_multi_head_attention_of_torch(self, tmp_path: Path) -> None:
        """Without any config.json: the name is torch's own."""
        import torch

        made = torch.nn.MultiheadAttention(8, 2, bias=False)
        save_file({n: p.detach().numpy() for n, p in made.named_parameters()},
                  tmp_path / "model.safetensors")  # fmt: skip
        read = matrices(tmp_path)
        assert sorted(read) == [
            "in_proj_weight:k",
            "in_proj_weight:q",
            "in_proj_weight:v",
            "out_proj.weight",
        ]
        apart = torch.nn.MultiheadAttention(8, 2, bias=False)
        apart._qkv_same_embed_dim = False
        for part in "qkv":
            weight = torch.nn.Parameter(torch.from_numpy(read[f"in_proj_weight:{part}"]))
            setattr(apart, f"{part}_proj_weight", weight)
        apart.out_proj.weight = made.out_proj.weight
        x, y, z = torch.randn(3, 5, 1, 8)
        torch.testing.assert_close(apart(x, y, z)[0], made(x, y, z)[0])

    def test_a_name_alone_is_not_enough(self, tmp_path: Path) -> None:
        saved(tmp_path, None, in_proj_weight=(20, 8), block__in_proj_weight=(24, 8, 1))
        assert sorted(names(tmp_path)) == ["block.in_proj_weight", "in_proj_weight"]


class TestWhichModel:
    def test_without_config_json_nothing_is_known(self, tmp_path: Path) -> None:
        saved(tmp_path, None, h__0__attn__c_attn__weight=(8, 24))
        (spec,) = specs(tmp_path).values()
        assert (spec.shape, spec.transposed, spec.part) == ((8, 24), False, None)

    @pytest.mark.parametrize("model_type", ["gptj", "GPT2", "", None, 7, ["gpt2"], {"gpt2": 1}])
    def test_of_another_model_nothing_is_known(self, model_type: object, tmp_path: Path) -> None:
        config = GPT2 | {"model_type": model_type}
        saved(tmp_path, config, h__0__attn__c_attn__weight=(8, 24))
        assert names(tmp_path) == ["h.0.attn.c_attn.weight"]

    def test_a_model_inside_a_model(self, tmp_path: Path) -> None:
        config = {
            "model_type": "vision-encoder-decoder",
            "encoder": {"model_type": "vit", "hidden_size": 6},
            "decoder": GPT2,
        }
        saved(tmp_path, config, decoder__h__0__attn__c_attn__weight=(8, 24))
        assert [name[-2:] for name in names(tmp_path)] == [":q", ":k", ":v"]

    def test_a_section_without_a_type_is_of_the_model_around_it(self, tmp_path: Path) -> None:
        config = {
            "model_type": "qwen2_5_vl",
            "hidden_size": 12,
            "vision_config": {"hidden_size": 8},
        }
        saved(tmp_path, config, visual__blocks__0__attn__qkv__weight=(24, 8))
        assert [name[-2:] for name in names(tmp_path)] == [":q", ":k", ":v"]

    def test_llama4_inside_of_its_text(self, tmp_path: Path) -> None:
        config = {
            "model_type": "llama4",
            "text_config": LLAMA4,
            "vision_config": {"hidden_size": 4},
        }
        saved(
            tmp_path,
            config,
            l__0__feed_forward__experts__gate_up_proj=(2, 8, 6),
            l__0__feed_forward__experts__down_proj=(2, 3, 8),
        )
        found = {
            name.partition("experts.")[2]: spec.shape for name, spec in specs(tmp_path).items()
        }
        assert found == {
            "gate_up_proj[0]:gate": (3, 8),
            "gate_up_proj[0]:up": (3, 8),
            "gate_up_proj[1]:gate": (3, 8),
            "gate_up_proj[1]:up": (3, 8),
            "down_proj[0]": (8, 3),
            "down_proj[1]": (8, 3),
        }

    def test_two_models_that_disagree(self, tmp_path: Path) -> None:
        one, other = (
            PHI3,
            PHI3 | {"num_key_value_heads": 1, "head_dim": 8, "num_attention_heads": 2},
        )
        shapes = {"layers__0__self_attn__qkv_proj__weight": (32, 8)}
        one = one | {"head_dim": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
        saved(tmp_path, {"text_config": one}, **shapes)
        assert [name[-2:] for name in names(tmp_path)] == [":q", ":k", ":v"]
        saved(tmp_path, {"text_config": one, "audio_config": other}, **shapes)
        assert len(names(tmp_path)) == 3  # both read it alike: 16 rows, 8, 8
        other |= {"head_dim": 4, "num_attention_heads": 6, "num_key_value_heads": 1}
        saved(tmp_path, {"text_config": one, "audio_config": other}, **shapes)
        assert names(tmp_path) == ["layers.0.self_attn.qkv_proj.weight"]

    def test_the_one_that_does_not_fit_is_not_meant(self, tmp_path: Path) -> None:
        config = {"text_config": PHI3, "audio_config": PHI3 | {"num_attention_heads": 3}}
        saved(tmp_path, config, layers__0__self_attn__qkv_proj__weight=(16, 8))
        assert len(names(tmp_path)) == 3


class TestShapes:
    @pytest.mark.parametrize(
        ("shape", "seen", "parts"),
        [
            ((8, 24), (24, 8), "qkv"),
            ((24, 8), (24, 8), "qkv"),  # somebody made a Linear of it
            ((8, 16), (16, 8), ""),  # no thirds as wide as the model
            ((7, 21), (7, 21), ""),
            ((8, 24, 1), (8, 24), ""),
            ((2, 8, 24), (2, 192), ""),
        ],
    )
    def test_of_gpt2(
        self, shape: tuple[int, ...], seen: tuple[int, int], parts: str, tmp_path: Path
    ) -> None:
        saved(tmp_path, GPT2, h__0__attn__c_attn__weight=shape)
        found = specs(tmp_path)
        assert "".join(name.partition(":")[2] for name in found) == parts
        assert {spec.shape[1] for spec in found.values()} == {seen[1]}
        assert sum(spec.shape[0] for spec in found.values()) == seen[0]

    def test_of_another_width(self, tmp_path: Path) -> None:
        """Halves are halves of anything; the width is what says that these are meant."""
        saved(tmp_path, PHI3, l__0__mlp__gate_up_proj__weight=(12, 7))
        assert names(tmp_path) == ["l.0.mlp.gate_up_proj.weight"]
        saved(tmp_path, PHI3, l__0__mlp__gate_up_proj__weight=(12, 8))
        assert [name.partition(":")[2] for name in names(tmp_path)] == ["gate", "up"]

    def test_a_square_is_as_the_model_has_it(self, tmp_path: Path) -> None:
        saved(tmp_path, GPT2, h__0__attn__c_proj__weight=(8, 8))
        (read,) = matrices(tmp_path).values()
        np.testing.assert_array_equal(read, np.arange(64.0).reshape(8, 8).T)

    def test_what_was_packed_is_out_and_in(self, tmp_path: Path) -> None:
        square = TensorInfo("h.0.attn.c_proj.weight", (8, 8), "float16")
        assert listed(GPT2, square, tmp_path).transposed
        packed = TensorInfo(square.name, (8, 8), "float16", encoding="GPTQ int4")
        assert listed(GPT2, packed, tmp_path) == packed
        for encoding in ("fp8 block 128x128", "float8_e4m3fn scaled"):
            scaled = TensorInfo(square.name, (8, 8), "float32", encoding=encoding)
            assert listed(GPT2, scaled, tmp_path).transposed

    def test_packed_experts_of_gpt_oss(self, tmp_path: Path) -> None:
        config = {"model_type": "gpt_oss", "hidden_size": 32, "intermediate_size": 32}
        name = "layers.0.mlp.experts."
        gates = TensorInfo(name + "gate_up_proj", (4, 64, 32), "bfloat16", encoding="MXFP4")
        down = TensorInfo(name + "down_proj", (4, 32, 32), "bfloat16", encoding="MXFP4")
        placed = listed(config, gates, tmp_path)
        assert not placed.transposed
        assert [(part.name, part.groups, part.start) for part in placed.parts] == [
            ("gate", 32, 0),
            ("up", 32, 1),
        ]
        assert listed(config, down, tmp_path) == down

    def test_low_rank_products_are_left_alone(self, tmp_path: Path) -> None:
        left = MatrixSpec("A", "A", (), 1, (24, 2), "float32", "linear")
        factors = Factors(left, left, 1.0)
        tensor = TensorInfo("h.0.attn.c_attn.weight", (24, 8), "float32", factors=factors)
        assert listed(GPT2, tensor, tmp_path) == tensor

    def test_without_elements(self, tmp_path: Path) -> None:
        saved(tmp_path, PHI3, layers__0__self_attn__qkv_proj__weight=(0, 8))
        assert names(tmp_path) == ["layers.0.self_attn.qkv_proj.weight"]


# Everything that a layout asks config.json for.
KEYS = (
    *("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "n_head"),
    *("kv_channels", "multi_query", "new_decoder_architecture", "num_kv_heads", "kv_n_heads"),
    *("multi_query_attention", "multi_query_group_num", "ffn_hidden_size", "moe_num_experts"),
    *("linear_num_key_heads", "linear_key_head_dim"),
    *("linear_num_value_heads", "linear_value_head_dim"),
)


def sample_name(pattern: str) -> str:
    """A name that a pattern of the table matches: the first of each choice."""
    name = re.sub(r"\(\?:([^|)]*)[^)]*\)\??", r"\1", pattern)
    return name.replace("\\", "")


SAMPLE_NAMES = {layout.tensors: sample_name(layout.tensors) for layout in LAYOUTS}


NONSENSE = [0, -1, 1e30, 2.0, 2**70, True, "4", "", [4], {"n": 4}, float("inf"), 10**400]


class TestNonsense:
    """Numbers that mean nothing leave every tensor whole; nothing crashes or takes for ever."""

    @pytest.mark.parametrize("value", NONSENSE, ids=lambda value: repr(value)[:12])
    @pytest.mark.parametrize(
        "key", ["num_attention_heads", "num_key_value_heads", "hidden_size", "head_dim"]
    )
    def test_sizes(self, key: str, value: object, tmp_path: Path) -> None:
        shape = (24, 8)
        saved(tmp_path, PHI3 | {key: value}, layers__0__self_attn__qkv_proj__weight=shape)
        assert names(tmp_path) == ["layers.0.self_attn.qkv_proj.weight"]

    @pytest.mark.parametrize("key", ["num_attention_heads", "hidden_size"])
    def test_missing_sizes(self, key: str, tmp_path: Path) -> None:
        config = {name: value for name, value in PHI3.items() if name != key}
        saved(tmp_path, config, layers__0__self_attn__qkv_proj__weight=(16, 8))
        assert names(tmp_path) == ["layers.0.self_attn.qkv_proj.weight"]

    def test_true_is_no_size(self, tmp_path: Path) -> None:
        config = {"model_type": "phi3", "hidden_size": 8, "num_attention_heads": True}
        saved(tmp_path, config, layers__0__self_attn__qkv_proj__weight=(24, 8))
        assert names(tmp_path) == ["layers.0.self_attn.qkv_proj.weight"]
        config["num_attention_heads"] = 1
        saved(tmp_path, config, layers__0__self_attn__qkv_proj__weight=(24, 8))
        assert len(names(tmp_path)) == 3

    @pytest.mark.parametrize(
        ("model", "name"),
        [("falcon", "self_attention.query_key_value"), ("gpt_bigcode", "attn.c_attn")],
    )
    def test_without_flags_one_key_serves_all(self, model: str, name: str, tmp_path: Path) -> None:
        """As transformers has it by default."""
        config = {"model_type": model, "hidden_size": 8, "n_embd": 8, "num_attention_heads": 4}
        saved(tmp_path, config, **{f"h.0.{name}.weight": (12, 8)})
        assert parts_in(tmp_path, name) == {"q": [*range(8)], "k": [8, 9], "v": [10, 11]}

    @pytest.mark.parametrize("flag", ["multi_query", "new_decoder_architecture"])
    def test_flags(self, flag: str, tmp_path: Path) -> None:
        config = {"model_type": "falcon", "hidden_size": 8, "num_attention_heads": 4, flag: "no"}
        saved(tmp_path, config, h__0__self_attention__query_key_value__weight=(12, 8))
        assert names(tmp_path) == ["h.0.self_attention.query_key_value.weight"]

    def test_more_experts_than_there_are_names_for(self, tmp_path: Path) -> None:
        count = MAX_PARTS + 1
        config = {"model_type": "dbrx", "d_model": 2}
        config["ffn_config"] = {"moe_num_experts": count, "ffn_hidden_size": 1}
        saved(tmp_path, config, blocks__0__ffn__experts__mlp__w1=(count, 2))
        assert names(tmp_path) == ["blocks.0.ffn.experts.mlp.w1"]

    @pytest.mark.parametrize("config", [[], 7, "gpt2", None, [GPT2]])
    def test_a_config_that_is_no_object(self, config: object, tmp_path: Path) -> None:
        saved(tmp_path, None, h__0__attn__c_attn__weight=(8, 24))
        (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
        assert names(tmp_path) == ["h.0.attn.c_attn.weight"]

    def test_a_config_that_is_no_json(self, tmp_path: Path) -> None:
        saved(tmp_path, None, h__0__attn__c_attn__weight=(8, 24))
        (tmp_path / "config.json").write_text("{", "utf-8")
        with pytest.raises(InputRejected, match="is not JSON"):
            names(tmp_path)

    def test_a_model_in_a_model_in_a_model(self, tmp_path: Path) -> None:
        config: dict[str, Any] = dict(GPT2)
        for _ in range(100):
            config = {"model_type": "box", "inner_config": config}
        saved(tmp_path, config, h__0__attn__c_attn__weight=(8, 24))
        assert names(tmp_path) == ["h.0.attn.c_attn.weight"]

    def test_a_crowd_of_models(self, tmp_path: Path) -> None:
        crowd = {f"m{i}_config": GPT2 for i in range(MAX_KNOWN)}
        saved(tmp_path, crowd, h__0__attn__c_attn__weight=(8, 24))
        assert names(tmp_path) == ["h.0.attn.c_attn.weight"]

    @given(data=st.data())
    @settings(deadline=None, max_examples=200)
    def test_no_config_is_an_error(self, data: st.DataObject, tmp_path_factory: Any) -> None:
        """Parts, where there are any, take the outputs apart without gap or overlap."""
        layout = data.draw(st.sampled_from(LAYOUTS))
        size = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 16, 24])
        value = size | st.sampled_from(NONSENSE[:6]) | st.none() | st.booleans()
        keys = (*layout.width, *KEYS)
        config = data.draw(st.dictionaries(st.sampled_from(keys), value))
        config |= {"model_type": layout.models[0]}
        inner = st.dictionaries(st.sampled_from(KEYS), value)
        config |= {"ffn_config": data.draw(inner), "attn_config": data.draw(inner)}
        shape = data.draw(st.tuples(*[size] * layout.axes))
        name = "layers.0." + SAMPLE_NAMES[layout.tensors]
        directory = tmp_path_factory.mktemp("config", numbered=True)
        placed = listed(config, TensorInfo(name, shape, "float32"), directory)
        outputs = shape[-1] if placed.transposed else shape[-2]
        rows = [
            row
            for part in placed.parts
            for row in rows_of(MatrixSpec("", "", (), 1, (0, 0), "", "linear", part=part))
        ]
        assert sorted(rows) == (list(range(outputs)) if placed.parts else [])


def test_every_name_of_the_table_is_meant_by_its_layout() -> None:
    for layout in LAYOUTS:
        name = SAMPLE_NAMES[layout.tensors]
        assert layout.names(name)
        assert layout.names(f"model.{name}")
        assert not layout.names(f"x{name}")
        assert not layout.names(f"{name}.base_layer")


class TestMeasured:
    """Through the whole of it: a sharded model, opened shard by shard in workers."""

    def test_a_planted_rank_is_found_in_its_part(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        fused = rng.standard_normal((8, 24))
        fused[:, 8:16] = np.outer(fused[:, 8], np.ones(8))  # keys of rank 1
        one, two = "h.0.attn.c_attn.weight", "h.1.attn.c_proj.weight"
        save_file({one: fused}, tmp_path / "model-1-of-2.safetensors")
        save_file({two: np.eye(8)}, tmp_path / "model-2-of-2.safetensors")
        index = {"weight_map": {one: "model-1-of-2.safetensors", two: "model-2-of-2.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
        (tmp_path / "config.json").write_text(json.dumps(GPT2), "utf-8")
        for workers in (1, 2):
            result = analyze(tmp_path, metrics=["rank"], how=How(workers=workers))
            rows = {row["name"]: (row["rank"], row["shape"]) for row in result.matrices}
            assert rows == {
                f"{one}:q": (8, [8, 8]),
                f"{one}:k": (1, [8, 8]),
                f"{one}:v": (8, [8, 8]),
                two: (8, [8, 8]),
            }

    def test_another_config_is_another_listing(self, tmp_path: Path) -> None:
        """The store remembers listings; theirs is not that of a config.json that was there."""
        weights = tmp_path / "run"
        weights.mkdir()
        store = tmp_path / "store"
        saved(weights, GPT2, h__0__attn__c_attn__weight=(8, 24))
        assert len(analyze(weights, how=How(store=store)).matrices) == 3
        (weights / "config.json").unlink()
        assert len(analyze(weights, how=How(store=store)).matrices) == 1
