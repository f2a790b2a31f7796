"""The names that libraries give to the parts of their networks, as data for `rankscope.roles`.

Collected from the classes of transformers, timm, torchvision and torch.nn, from Meta's and
DeepSeek's own checkpoints and from the tensor table of the gguf package. Only what a name says by
itself is here: `mlp.w3` is a gate's partner in some networks and the way down in others, so that
it is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

# Words that a layer's number follows: `layers.3`, ResNet's `layer1.0`.
CONTAINER = re.compile(r"h|layers?|layer\d|blocks?|blk|resblocks|\w*[a-z]_(?:layers|blocks)")
# A layer's number within the word: torchvision's `encoder_layer_3`, TensorFlow's `layer_3`.
NUMBERED = re.compile(r"(?:(?:en|de)coder_)?(?:layer|block)_(\d{1,6})", re.ASCII)
NUMBER = re.compile(r"\d{1,6}", re.ASCII)  # of layers or experts; longer ones are no index
# A stage of a network that changes its resolution, which has layers of its own: the word before
# its number in ConvNeXt and Swin, and the whole of it in ResNet.
STAGES = ("stages", "layers")
STAGE = re.compile(r"layer(\d)", re.ASCII)

# At the end of a name: what kind of parameter it is, which says nothing about where.
PARAMETERS = frozenset({"weight", "kernel", "qweight", "base_layer"})
LORA = re.compile(r"lora_(?:embedding_)?([AB])|lora")
EXPERT = re.compile(r"(?:expert_?)?(\d{1,6})", re.ASCII)

# What a block of a layer may be. Where one stands in another, the latter of its line counts.
LINES = (
    ("attention", "cross_attention", "linear_attention"),
    ("mlp", "experts", "shared_expert"),
)
BLOCKS: Mapping[str, str] = {
    word: family
    for family, words in {
        "mlp": "mlp ffn feed_forward DenseReluDense block_sparse_moe moe",
        "attention": "attn self_attn attention self_attention SelfAttention",
        "cross_attention": "cross_attn cross_attention crossattention encoder_attn "
        "encoder_attention EncDecAttention multihead_attn",
        "linear_attention": "linear_attn",
        "experts": "experts",
        "shared_expert": "shared_expert shared_experts shared_mlp",
    }.items()
    for word in words.split()
}
# Words that may stand before a block and change nothing: T5's `layer.0`, DBRX's norms.
NEUTRAL = frozenset({"layer", "norm_attn_norm"})

# What follows the block, words joined by blanks, by the part that it is.
ATTENTION_PARTS: Mapping[str, tuple[str, ...]] = {
    "q": ("q", "q_proj", "q_proj_weight", "query", "query_proj", "wq", "to_q", "q_lin", "q_attn"),
    "k": ("k", "k_proj", "k_proj_weight", "key", "key_proj", "wk", "to_k", "k_lin"),
    "v": ("v", "v_proj", "v_proj_weight", "value", "value_proj", "wv", "to_v", "v_lin"),
    "qkv": (
        *("qkv", "qkv_proj", "Wqkv", "wqkv", "to_qkv", "W_pack", "query_key_value"),
        *("c_attn", "in_proj", "in_proj_weight", "in_proj_qkv"),
    ),
    "qkvz": ("in_proj_qkvz",),  # Qwen3-Next: z is the gate of the output
    "kv": ("kv", "kv_proj", "to_kv", "key_value"),
    "o": (
        *("o", "o_proj", "out", "out_proj", "proj", "c_proj", "dense", "wo", "Wo", "to_out 0"),
        *("out_lin", "output dense"),
    ),
    "q_a": ("q_a_proj", "wq_a"),
    "q_b": ("q_b_proj", "wq_b"),
    "kv_a": ("kv_a_proj_with_mqa", "wkv_a"),
    "kv_b": ("kv_b_proj", "wkv_b"),
    "gate": ("gate_proj", "g_proj", "in_proj_z"),
    "position": (
        *("relative_attention_bias", "relative_position_bias_table"),
        "relative_position_bias relative_position_bias_table",
    ),
}
# BERT and its kin put these below `self`.
BELOW_SELF = ("q", "k", "v")

MLP_PARTS: Mapping[str, tuple[str, ...]] = {
    "up": (
        *("up_proj", "fc1", "c_fc", "fc_in", "dense_h_to_4h", "wi", "wi_1", "lin1", "w_1"),
        *("linear_1", "intermediate_dense", "up"),
    ),
    "gate": ("gate_proj", "wi_0"),
    "down": (
        *("down_proj", "fc2", "c_proj", "fc_out", "dense_4h_to_h", "wo", "Wo", "lin2", "w_2"),
        *("linear_2", "output_dense", "output_linear", "down"),
    ),
    "gate_up": ("gate_up_proj", "Wi", "input_linear"),
}
# Of an MLP with experts, not of an expert.
ROUTERS = frozenset({"gate", "router", "router classifier", "router layer"})
# Meta's names; a block called `mlp` uses the same for other things.
GATED_PARTS: Mapping[str, tuple[str, ...]] = {"gate": ("w1",), "down": ("w2",), "up": ("w3",)}
UNGATED = "mlp"

# Whole paths below a layer, where no word names the block. First those of the gguf package:
GGUF: Mapping[str, str] = {
    f"{block}{tail}": f"{family}.{part}"
    for block, family in (
        ("attn_", "attention"),
        ("self_attn_", "attention"),
        ("cross_attn_", "cross_attention"),
    )
    for tail, part in (
        *(("q", "q"), ("k", "k"), ("v", "v"), ("qkv", "qkv"), ("gate", "gate")),
        *(("output", "o"), ("out", "o"), ("o", "o"), ("rel_b", "position")),
        *(("q_a", "q_a"), ("q_b", "q_b"), ("kv_a_mqa", "kv_a")),
        *(("kv_b", "kv_b"), ("k_b", "k_b"), ("v_b", "v_b")),
    )
} | {
    f"ffn_{part}{tail}": f"{family}.{part}"
    for tail, family in (("", "mlp"), ("_exps", "experts"), ("_shexp", "shared_expert"))
    for part in ("up", "gate", "down", "gate_up")
}
BARE: Mapping[str, str] = {
    **GGUF,
    "ffn_gate_inp": "mlp.router",
    "ffn_gate_inp_shexp": "shared_expert.router",
    "mlp shared_expert_gate": "shared_expert.router",
    "fc1": "mlp.up",  # OPT, BART, Whisper
    "fc2": "mlp.down",
    "linear1": "mlp.up",  # torch.nn.Transformer
    "linear2": "mlp.down",
    "intermediate dense": "mlp.up",  # BERT
    "output dense": "mlp.down",
    "ffn": "mlp.up",  # ALBERT
    "ffn_output": "mlp.down",
    "pwconv1": "mlp.up",  # ConvNeXt
    "pwconv2": "mlp.down",
    "ffn experts mlp w1": "experts.gate",  # DBRX
    "ffn experts mlp v1": "experts.up",
    "ffn experts mlp w2": "experts.down",
    "att_proj": "attention.qkv",  # OLMo before transformers
    "attn_out": "attention.o",
    "ff_out": "mlp.down",
}

# Ends of names outside of layers.
OUTSIDE: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("embed_tokens", "wte", "word_embeddings", "word_embedding", "tok_embeddings"),
            *("token_embd", "embed_in", "token_embedding"),
        ),
        "embedding",
    ),
    **dict.fromkeys(
        (
            *("embed_positions", "wpe", "position_embeddings", "position_embedding", "pos_embed"),
            *("pos_embedding", "position_embd", "positional_embedding"),
        ),
        "embedding.position",
    ),
    **dict.fromkeys(("token_type_embeddings", "token_types"), "embedding.type"),
    **dict.fromkeys(
        (
            *("patch_embed proj", "patch_embeddings projection", "patch_embeddings"),
            *("patch_embedding", "patch_embd"),
        ),
        "embedding.patch",
    ),
    "lm_head": "head",
}
# Whole names; the words are too common to mean anything below something else.
WHOLE: Mapping[str, str] = {
    "shared": "embedding",  # T5
    "model shared": "embedding",  # BART
    "conv_proj": "embedding.patch",  # torchvision's ViT
    **dict.fromkeys(
        (
            *("head", "head fc", "heads head", "fc", "classifier", "score", "output"),
            *("embed_out", "proj_out", "qa_outputs", "vocab_projector", "classifier out_proj"),
            *("cls predictions decoder", "predictions decoder", "lm_head decoder"),
            "generator_lm_head",
        ),
        "head",
    ),
}
EMBEDDING = re.compile(r"(?:\w+_)?embed(?:ding)?s?(?:_\d+)?")

# What the parts of a fused matrix are, which stand behind a colon.
PIECES: Mapping[str, Mapping[str, str]] = {
    "qkv": {"q": "q", "k": "k", "v": "v"},
    "qkvz": {"q": "q", "k": "k", "v": "v", "z": "gate"},
    "kv": {"k": "k", "v": "v"},
    "gate_up": {"gate": "gate", "up": "up"},
    "up": {"gate": "gate", "up": "up"},  # ChatGLM's dense_h_to_4h, Aria's fc1
}

# What people call them.
PREFIXES: Mapping[str, str] = {
    "attention": "",
    "cross_attention": "cross-attention ",
    "linear_attention": "linear-attention ",
    "mlp": "MLP ",
    "experts": "expert ",
    "shared_expert": "shared expert ",
}
PHRASES: Mapping[str, str] = {
    "q": "query projections",
    "k": "key projections",
    "v": "value projections",
    "qkv": "query-key-value projections",
    "qkvz": "query-key-value-gate projections",
    "kv": "key-value projections",
    "o": "output projections",
    # DeepSeek-V2 (Liu et al. 2024), Section 2.1.2: to and from the compressed vectors.
    "q_a": "query down projections",
    "q_b": "query up projections",
    "kv_a": "key-value down projections",
    "kv_b": "key-value up projections",
    "k_b": "key up projections",
    "v_b": "value up projections",
    "position": "position biases",
    "up": "up projections",
    "gate": "gate projections",
    "down": "down projections",
    "gate_up": "gate-up projections",
    "embedding": "embeddings",
    "embedding.position": "position embeddings",
    "embedding.type": "token type embeddings",
    "embedding.patch": "patch embeddings",
    "head": "heads",
    "conv": "convolutions",
    "attention.o": "attention output projections",
    "attention.gate": "attention gate projections",
    "mlp.router": "routers",
    "shared_expert.router": "shared expert routers",
}

# What people call a tower, by a word of the path to its layers.
TOWERS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"vision|visual|image|img|v$"), "vision"),
    (re.compile(r"text|txt"), "text"),
    (re.compile(r"language|llm"), "language"),
    (re.compile(r"audio|speech|a$"), "audio"),
    (re.compile(r"(?:.*_)?enc(?:oder)?$"), "encoder"),
    (re.compile(r"(?:.*_)?dec(?:oder)?$"), "decoder"),
)


# How what holds a matrix of weights is called, whatever its layer: PyTorch's and Keras's names, and
# those of packed codes (GPTQ, AWQ, compressed-tensors, MXFP4). Masks, tables of positions and
# scales, which are integers or small, are called otherwise.
WEIGHTS = re.compile(r"(?:^|[./])(?:q?weight|in_proj_weight|kernel|weight_packed|\w+_blocks)$")


# Of the packed ones, what they stand for: GPTQ and AWQ, compressed-tensors, MXFP4.
PACKED: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"qweight$"), "weight"),
    (re.compile(r"weight_packed$"), "weight"),
    (re.compile(r"_blocks$"), ""),
)


def stands_for(name: str) -> str:
    """What a tensor of codes is called once it is decoded; of any other its own name.

    >>> stands_for("up.qweight"), stands_for("experts.gate_up_proj_blocks"), stands_for("up.weight")
    ('up.weight', 'experts.gate_up_proj', 'up.weight')
    """
    for pattern, decoded in PACKED:
        name = pattern.sub(decoded, name)
    return name


def named_as_weight(name: str) -> bool:
    """Whether a tensor's name says that it is a layer's weights."""
    return WEIGHTS.search(name) is not None


def _parts(table: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    return ((path, part) for part, paths in table.items() for path in paths)


ATTENTION: Mapping[str, str] = dict(_parts(ATTENTION_PARTS)) | {
    f"self {path}": part for path, part in _parts(ATTENTION_PARTS) if part in BELOW_SELF
}
MLP: Mapping[str, str] = dict(_parts(MLP_PARTS))
GATED: Mapping[str, str] = dict(_parts(GATED_PARTS))
