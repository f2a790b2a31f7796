"""The table of layouts: which tensors of which models hold their outputs where.

One record per kind of tensor and family of models that stores it so, read in the code of the
library that owns the model: transformers 5.23, or the model's own repository (`chatglm`,
`internlm2`, `qwen`, `baichuan`). A new family is one more record, and a test of it against its
own code. What is not in the table is measured as it is stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rankscope.checkpoints import layout_parts as parts
from rankscope.checkpoints.layout_parts import Split

# The `model_type` of what is laid out so by torch itself, whatever the model.
ANY_MODEL = "*"


@dataclass(frozen=True, slots=True)
class Layout:
    """How tensors of one kind are stored.

    Attributes:
        models: `model_type` in config.json, of the model or of a model inside it.
        tensors: the end of their names, a regular expression; what is before it ends in a dot.
        width: keys in config.json, the first that is given counts: how long one axis is.
        side: which one, as (out, in); () in `width` leaves it open.
        stored: the order of the last two axes, where both are of this length: nothing else would
            tell; None for a family that has both.
        split: the parts along the outputs; None for one layer.
        axes: 2 for a matrix, 3 for a stack of experts.
    """

    models: tuple[str, ...]
    tensors: str
    width: tuple[str, ...] = ("hidden_size",)
    side: Literal["in", "out"] = "in"
    stored: Literal["out in", "in out"] | None = "out in"
    split: Split | None = None
    axes: Literal[2, 3] = 2

    def names(self, tensor: str) -> bool:
        """Whether a tensor of this name is meant."""
        return re.search(rf"(?:^|\.)(?:{self.tensors})$", tensor) is not None


# transformers' Conv1D stores (in, out).
CONV1D = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp_decoder")
CONV1D_WIDTH = ("n_embd", "hidden_size")

# Vision towers: `self.qkv(x).reshape(length, 3, heads, -1)`. Qwen2-VL's is `embed_dim` wide.
QWEN2_VISION = ("qwen2_vl", "qwen2_vl_vision")
VISION = (
    "blip_2_vision_model",
    "glm4v",
    "glm4v_vision",
    "instructblip_vision_model",
    "qwen2_5_vl",
    "qwen2_5_vl_vision",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_5_moe_vision",
    "qwen3_5_vision",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_vl_moe_vision",
    "qwen3_vl_vision",
)

# Experts in one tensor (experts, 2 * intermediate, hidden), gate before up. transformers writes
# most of these as one matrix per expert; a state dict of the model itself has them so.
STACKED = (
    "afmoe",
    "deepseek_v2",
    "deepseek_v3",
    "dots1",
    "ernie4_5_moe",
    "exaone_moe",
    "flex_olmo",
    "gemma4_text",
    "glm4_moe",
    "granitemoe",
    "granitemoehybrid",
    "granitemoeshared",
    "hunyuan_v1_moe",
    "jamba",
    "lfm2_moe",
    "minimax",
    "minimax_m2",
    "mixtral",
    "olmoe",
    "phimoe",
    "qwen2_moe",
    "qwen3_5_moe_text",
    "qwen3_moe",
    "qwen3_next",
)
GRANITE = ("granitemoe", "granitemoehybrid", "granitemoeshared")
GLM = ("glm", "glm4", "glm4v_text", "glm_ocr_text", "phi3", "phi4_multimodal")

LAYOUTS: tuple[Layout, ...] = (
    # Stored as (in, out).
    Layout(CONV1D, r"attn\.c_attn\.weight", CONV1D_WIDTH, stored="in out", split=parts.thirds),
    Layout(
        CONV1D,
        r"crossattention\.c_attn\.weight",
        CONV1D_WIDTH,
        stored="in out",
        split=parts.key_value_halves,
    ),
    Layout(CONV1D, r"(?:c_fc|q_attn)\.weight", CONV1D_WIDTH, stored="in out"),
    Layout(CONV1D, r"c_proj\.weight", CONV1D_WIDTH, side="out", stored="in out"),
    # Query, key and value in one matrix.
    Layout((ANY_MODEL,), r"in_proj_weight", (), split=parts.thirds),  # nn.MultiheadAttention
    Layout(("mpt",), r"attn\.Wqkv\.weight", ("d_model",), split=parts.thirds),
    Layout(("modernbert",), r"attn\.Wqkv\.weight", split=parts.thirds),
    Layout(("qwen",), r"attn\.c_attn\.weight", split=parts.thirds),
    Layout(("baichuan",), r"self_attn\.W_pack\.weight", split=parts.thirds),
    Layout(QWEN2_VISION, r"attn\.qkv\.weight", ("embed_dim",), split=parts.thirds),
    Layout(VISION, r"(?:self_)?attn\.qkv\.weight", split=parts.thirds),
    Layout(("phi3", "phi4_multimodal"), r"self_attn\.qkv_proj\.weight", split=parts.grouped_query),
    Layout(
        ("gpt_neox", "gpt_neox_japanese", "bloom", "persimmon"),
        r"(?:attention|self_attention|self_attn)\.query_key_value\.weight",
        ("hidden_size", "n_embed"),
        split=parts.head_by_head,
    ),
    Layout(("falcon",), r"self_attention\.query_key_value\.weight", split=parts.falcon),
    Layout(("gpt_bigcode",), r"attn\.c_attn\.weight", ("n_embd",), split=parts.gpt_bigcode),
    Layout(("codegen",), r"attn\.qkv_proj\.weight", ("n_embd",), split=parts.codegen),
    Layout(("dbrx",), r"attn\.Wqkv\.weight", ("d_model",), split=parts.dbrx),
    Layout(("internlm2",), r"attention\.wqkv\.weight", split=parts.group_by_group),
    Layout(("chatglm",), r"self_attention\.query_key_value\.weight", split=parts.chatglm),
    Layout(
        ("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"),
        r"linear_attn\.in_proj_qkv\.weight",
        split=parts.linear_attention,
    ),
    Layout(
        ("qwen3_next",),
        r"linear_attn\.in_proj_qkvz\.weight",
        split=parts.gated_linear_attention,
    ),
    # A gate and what it multiplies in one matrix.
    Layout(GLM, r"mlp\.gate_up_proj\.weight", split=parts.gate_up_halves),
    Layout(("chatglm",), r"mlp\.dense_h_to_4h\.weight", split=parts.chatglm_gate_up),
    Layout(GRANITE, r"shared_mlp\.input_linear\.weight", split=parts.gate_up_halves),
    # Experts in one tensor.
    Layout(STACKED, r"experts\.gate_up_proj", split=parts.gate_up_halves, axes=3),
    Layout(
        (*GRANITE, "jetmoe"),
        r"(?:block_sparse_moe|mlp)\.input_linear\.weight",
        split=parts.gate_up_halves,
        axes=3,
    ),
    Layout(
        ("gpt_oss",),
        r"experts\.gate_up_proj",
        stored="in out",
        split=parts.gate_up_in_turn,
        axes=3,
    ),
    Layout(
        ("llama4_text", "aria_text"),
        r"experts\.(?:gate_up_proj|fc1\.weight)",
        stored="in out",
        split=parts.gate_up_halves,
        axes=3,
    ),
    Layout(
        ("gpt_oss", "llama4_text", "aria_text"),
        r"experts\.(?:down_proj|fc2\.weight)",
        side="out",
        stored="in out",
        axes=3,
    ),
    # Published as (experts, in, out); transformers has them as (experts, out, in) and writes both.
    Layout(
        ("qwen3_vl_moe_text",),
        r"experts\.gate_up_proj",
        stored=None,
        split=parts.gate_up_halves,
        axes=3,
    ),
    Layout(("qwen3_vl_moe_text",), r"experts\.down_proj", side="out", stored=None, axes=3),
    Layout(("dbrx",), r"experts\.mlp\.(?:w1|v1|w2)", ("d_model",), split=parts.dbrx_experts),
)
