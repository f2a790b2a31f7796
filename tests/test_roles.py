"""What names say, against the modules of the libraries that own them."""

from __future__ import annotations

import re
from typing import Any

import gguf
import pytest
import torch

from rankscope.matrices import kind_of
from rankscope.records import Kind, TensorInfo
from rankscope.roles import Role, role_of
from tests.role_families import FAMILIES, GROUPED, LLAMA, Family


def tiny(family: Family) -> torch.nn.Module:
    """The model, of no memory."""
    import transformers

    config = getattr(transformers, family.config)(**family.settings)
    with torch.device("meta"):
        made: torch.nn.Module = getattr(transformers, family.model)(config)
    return made


def matrices(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what is no vector; the biases of gpt-oss's experts are many."""
    return {
        name: tuple(value.shape)
        for name, value in module.state_dict().items()
        if value.ndim > 1 and not name.endswith(("_bias", "cls_token"))
    }


def role(name: str, shape: tuple[int, ...]) -> Role | None:
    return role_of(name, kind_of(TensorInfo(name, shape, "float32")))


def named(name: str, kind: Kind = "linear") -> str | None:
    found = role_of(name, kind)
    return None if found is None else found.name


def path_of(name: str) -> str:
    return name.removesuffix(".weight")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model)
def test_every_weight_of_a_family_has_the_role_of_its_module(family: Family) -> None:
    model = tiny(family)
    for stack, expected in family.stacks.items():
        seen = set()
        for depth, layer in enumerate(model.get_submodule(stack).children()):
            for name, shape in matrices(layer).items():
                path = re.sub(r"expert_\d+", "expert_*", path_of(name))
                seen.add(path)
                found = role(f"{stack}.{depth}.{name}", shape)
                assert found is not None, path
                assert (path, found.name, found.depth) == (path, expected[path], depth)
                assert (found.expert is not None) == ("*" in path)
                assert ".".join(found.stack) == stack
        assert seen == set(expected)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model)
def test_what_is_in_no_layer_has_no_depth(family: Family) -> None:
    model = tiny(family)
    shapes = {path_of(name): (name, shape) for name, shape in matrices(model).items()}
    for path, expected in family.outside.items():
        found = role(*shapes[path])
        assert (path, found.name if found else "") == (path, expected)
        assert found is None or found.depth is None
    if len(family.outside) > 1:  # of the others, only some stacks are written down
        inside = tuple(f"{stack}." for stack in family.stacks)
        assert {path for path in shapes if not path.startswith(inside)} == set(family.outside)


def test_the_layers_of_torch() -> None:
    settings: dict[str, Any] = {"num_encoder_layers": 2, "num_decoder_layers": 3}
    with torch.device("meta"):
        model = torch.nn.Transformer(8, 2, **settings, dim_feedforward=16, batch_first=True)
    parts = {"in_proj_weight": "qkv", "out_proj": "o", "linear1": "mlp.up", "linear2": "mlp.down"}
    blocks = {"self_attn": "attention.", "multihead_attn": "cross_attention."}
    found = matrices(model)
    assert len(found) == 2 * 4 + 3 * 6
    for name, shape in found.items():
        tower, _, depth, *path = path_of(name).split(".")
        block = "".join(blocks[word] for word in path[:-1])
        told = role(name, shape)
        assert told is not None
        assert (told.name, told.depth) == (block + parts[path[-1]], int(depth))
        assert told.stack == (tower, "layers")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # bitsandbytes, which peft imports
def test_adapters_of_peft() -> None:
    import peft
    import transformers

    with torch.device("meta"):
        base = transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED))
        config = peft.LoraConfig(r=2, target_modules=["v_proj", "down_proj"])
        model = peft.get_peft_model(base, config)
    seen = set()
    for name, shape in matrices(model).items():
        match = re.search(r"layers\.(\d)\.(\w+\.\w+)\.(lora_[AB]|base_layer)?", name)
        if match:
            depth, path, factor = match.groups()
            suffix = f".{factor}" if factor in ("lora_A", "lora_B") else ""
            told = role(name, shape)
            assert told is not None
            assert (told.name, told.depth) == (LLAMA[path] + suffix, int(depth))
            seen.add(told.phrase)
    phrases = {"value projections", "value projections (LoRA A)", "MLP down projections (LoRA B)"}
    assert phrases < seen
    saved = "base_model.model.model.layers.3.self_attn.v_proj.lora_A.weight"
    assert named(saved) == "attention.v.lora_A"


GGUF = {
    "TOKEN_EMBD": "embedding",
    "TOKEN_TYPES": "embedding.type",
    "POS_EMBD": "embedding.position",
    "OUTPUT": "head",
    "ATTN_Q": "attention.q",
    "ATTN_K": "attention.k",
    "ATTN_V": "attention.v",
    "ATTN_QKV": "attention.qkv",
    "ATTN_OUT": "attention.o",
    "ATTN_Q_A": "attention.q_a",
    "ATTN_Q_B": "attention.q_b",
    "ATTN_KV_A_MQA": "attention.kv_a",
    "ATTN_KV_B": "attention.kv_b",
    "ATTN_K_B": "attention.k_b",
    "ATTN_V_B": "attention.v_b",
    "FFN_GATE": "mlp.gate",
    "FFN_UP": "mlp.up",
    "FFN_DOWN": "mlp.down",
    "FFN_GATE_INP": "mlp.router",
    "FFN_GATE_INP_SHEXP": "shared_expert.router",
    "FFN_GATE_EXP": "experts.gate",
    "FFN_UP_EXP": "experts.up",
    "FFN_DOWN_EXP": "experts.down",
    "FFN_GATE_SHEXP": "shared_expert.gate",
    "FFN_UP_SHEXP": "shared_expert.up",
    "FFN_DOWN_SHEXP": "shared_expert.down",
    "DEC_ATTN_Q": "attention.q",
    "DEC_ATTN_OUT": "attention.o",
    "DEC_CROSS_ATTN_V": "cross_attention.v",
    "DEC_CROSS_ATTN_OUT": "cross_attention.o",
    "DEC_FFN_DOWN": "mlp.down",
    "ENC_ATTN_K": "attention.k",
    "ENC_ATTN_REL_B": "attention.position",
    "ENC_FFN_GATE": "mlp.gate",
    "V_ENC_ATTN_Q": "attention.q",
    "V_ENC_ATTN_O": "attention.o",
    "V_ENC_EMBD_PATCH": "embedding.patch",
    "V_ENC_EMBD_POS": "embedding.position",
}


@pytest.mark.parametrize("tensor", GGUF)
def test_the_names_of_gguf(tensor: str) -> None:
    pattern = gguf.TENSOR_NAMES[gguf.MODEL_TENSOR[tensor]]
    told = role_of(f"{pattern.format(bid=17)}.weight", "linear")
    assert told is not None
    assert told.name == GGUF[tensor]
    assert told.depth == (17 if "{bid}" in pattern else None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # As files have them, where the classes of today do not.
        ("model.layers.2.block_sparse_moe.experts.5.w1.weight", "experts.gate 2 5"),
        ("model.layers.2.block_sparse_moe.experts.5.w2.weight", "experts.down 2 5"),
        ("model.layers.2.block_sparse_moe.experts.5.w3.weight", "experts.up 2 5"),
        ("model.layers.2.block_sparse_moe.gate.weight", "mlp.router 2 -"),
        ("model.layers.2.mlp.experts.63.gate_proj.weight", "experts.gate 2 63"),
        ("transformer.blocks.4.ffn.experts.mlp.w1", "experts.gate 4 -"),
        ("transformer.blocks.4.ffn.experts.mlp.w2:expert15", "experts.down 4 15"),
        ("layers.2.ffn.shared_experts.w2.weight", "shared_expert.down 2 -"),
        ("layers.2.attention.wq.weight", "attention.q 2 -"),
        ("layers.2.feed_forward.w3.weight", "mlp.up 2 -"),
        ("layers.2.attn.wkv_a.weight", "attention.kv_a 2 -"),
        ("encoder.layer.1.attention.attention.query.weight", "attention.q 1 -"),
        # timm, torchvision, open_clip.
        ("blocks.11.attn.qkv.weight", "attention.qkv 11 -"),
        ("blocks.11.attn.proj.weight", "attention.o 11 -"),
        ("blocks.11.mlp.fc1.weight", "mlp.up 11 -"),
        ("layers.2.blocks.5.attn.qkv.weight", "attention.qkv 5 -"),
        ("stages.2.blocks.8.mlp.fc2.weight", "mlp.down 8 -"),
        ("encoder.layers.encoder_layer_3.self_attention.in_proj_weight", "attention.qkv 3 -"),
        ("encoder.layers.encoder_layer_3.mlp.linear_2.weight", "mlp.down 3 -"),
        ("visual.transformer.resblocks.7.mlp.c_fc.weight", "mlp.up 7 -"),
        ("bert/encoder/layer_4/attention/self/query/kernel", "attention.q 4 -"),
        # Parts and stacks.
        ("h.0.attn.c_attn.weight:v", "attention.v 0 -"),
        ("h.0.crossattention.c_attn.weight:k", "cross_attention.k 0 -"),
        ("model.layers.1.mlp.experts.gate_up_proj[3]:gate", "experts.gate 1 3"),
        ("model.layers.1.mlp.experts.down_proj[0]", "experts.down 1 0"),
        ("model.layers.1.block_sparse_moe.input_linear.weight[7]:up", "experts.up 1 7"),
        ("blk.1.ffn_down_exps.weight[7]", "experts.down 1 7"),
        ("layers.0.mlp.dense_h_to_4h.weight:gate", "mlp.gate 0 -"),
        ("layers.0.linear_attn.in_proj_qkvz.weight:z", "linear_attention.gate 0 -"),
    ],
)
def test_other_names(name: str, expected: str) -> None:
    found = role_of(name, "linear")
    assert found is not None
    words, depth, expert = expected.split()
    assert found.name == words
    assert (str(found.depth), str(found.expert).replace("None", "-")) == (depth, expert)


@pytest.mark.parametrize(
    "name",
    [
        *("hidden.0.weight", "layers.0.weight", "fc1.weight", "fc.0.weight", "0.weight", "w"),
        *("dense/kernel", "dense_1/kernel", "layers/dense/vars/0", "mlp.0.weight"),
        # One path, several meanings.
        *("mlp.fc1.weight", "blocks.0.mlp.w3.weight", "layers.0.mlp.experts.0.w1.weight"),
        *("layers.0.mlp.0.weight", "layers.0.output.weight", "decoder.weight"),
        *("layers.0.attn.mlp.fc1.weight", "layers.0.experts.3.self_attn.q_proj.weight"),
        # A word that is not known.
        *("layers.0.adapter.mlp.fc1.weight", "layers.0.attn1.to_q.weight"),
        *("layers.0.self_attn.indexer.wq_b.weight", "layers.0.self_attn.weight"),
        "layers.0.self_attn.q_proj.weight:z",
        "layers.0.self_attn.o_proj.weight:q",
        "layers.0.self_attn.qkv_proj.weight:gate_up",
        "layers.0.mlp.experts.gate_up_proj_bias",
        "model.layers.0.mlp.gate_proj.weight.absmax",
        # No numbers.
        "layers.\uff13.fc1.weight",
        f"layers.{'9' * 5000}.fc1.weight",
        f"layers.0.fc1.weight[{'9' * 5000}]",
        *("", ".", "weight", ":q", "[0]", "layers.0", "layers.0.", "layers..0.fc1"),
    ],
)
def test_unknown_names_stay_as_they_are(name: str) -> None:
    assert role_of(name, "linear") is None


def test_the_kind_tells_where_the_name_does_not() -> None:
    assert named("features.0.weight", "convolution") == "conv"
    assert named("embedding_3/embeddings", "embedding") == "embedding"
    assert named("embeddings_project.weight", "embedding") is None
    found = role_of("layer2.3.conv1.weight", "convolution")
    assert found is not None
    assert (found.name, found.depth, found.stack) == ("conv", 3, ("layer2",))
    # Blocks of a stage without a word between: the first number is no layer's.
    loose = role_of("blocks.2.1.conv_dw.weight", "convolution")
    assert loose is not None
    assert loose.depth is None
    assert named("fc.weight") == named("output.weight") == "head"


def test_an_endless_name_is_not_taken_apart() -> None:
    """Nothing of a name of a hundred million letters is of use; regexes over it are not free."""
    name = "x." * 480 + "layers.0.fc1"
    assert named(name) == "mlp.up"
    assert named("x." * 500 + "layers.0.fc1") is None
