"""Classes of transformers, tiny, and what each weight in their layers is: written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Roles = Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """A class, and what the weights of each of its stacks of layers are.

    Attributes:
        model: the class's name.
        config: its configuration's.
        settings: that make it tiny.
        stacks: from the module that holds the layers to the roles of the weights in them, by
            their path within a layer; `*` stands for the number of an expert.
        outside: roles of weights that are in none of these layers; `` for no role.
    """

    model: str
    config: str
    settings: Mapping[str, Any]
    stacks: Mapping[str, Roles]
    outside: Roles


def read(text: str) -> Roles:
    """`path role` in every line."""
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


TINY: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "vocab_size": 64,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**TINY, "num_key_value_heads": 2, "head_dim": 8}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 64,
}
GPT2 = {"n_embd": 32, "n_head": 4, "n_layer": 3, "vocab_size": 64}
TOWERS = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "vocab_size": 64,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
T5_SIZES = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 3,
    "num_heads": 4,
    "vocab_size": 64,
}

ATTENTION = read("""
    self_attn.q_proj attention.q
    self_attn.k_proj attention.k
    self_attn.v_proj attention.v
    self_attn.o_proj attention.o
""")
GATED_MLP = read("""
    mlp.gate_proj mlp.gate
    mlp.up_proj mlp.up
    mlp.down_proj mlp.down
""")
EXPERTS = read("""
    mlp.gate mlp.router
    mlp.experts.gate_up_proj experts.gate_up
    mlp.experts.down_proj experts.down
""")
LATENT_ATTENTION = read("""
    self_attn.q_a_proj attention.q_a
    self_attn.q_b_proj attention.q_b
    self_attn.kv_a_proj_with_mqa attention.kv_a
    self_attn.kv_b_proj attention.kv_b
    self_attn.o_proj attention.o
""")
LLAMA = {**ATTENTION, **GATED_MLP}
LLAMA_OUTSIDE = read("""
    model.embed_tokens embedding
    lm_head head
""")
ENCODER = read("""
    self_attn.q_proj attention.q
    self_attn.k_proj attention.k
    self_attn.v_proj attention.v
    self_attn.out_proj attention.o
    fc1 mlp.up
    fc2 mlp.down
""")
DECODER = {
    **ENCODER,
    **read("""
        encoder_attn.q_proj cross_attention.q
        encoder_attn.k_proj cross_attention.k
        encoder_attn.v_proj cross_attention.v
        encoder_attn.out_proj cross_attention.o
    """),
}
CLIP = read("""
    self_attn.q_proj attention.q
    self_attn.k_proj attention.k
    self_attn.v_proj attention.v
    self_attn.out_proj attention.o
    mlp.fc1 mlp.up
    mlp.fc2 mlp.down
""")
BLOOM = read("""
    self_attention.query_key_value attention.qkv
    self_attention.dense attention.o
    mlp.dense_h_to_4h mlp.up
    mlp.dense_4h_to_h mlp.down
""")
T5_ENCODER = read("""
    layer.0.SelfAttention.q attention.q
    layer.0.SelfAttention.k attention.k
    layer.0.SelfAttention.v attention.v
    layer.0.SelfAttention.o attention.o
    layer.0.SelfAttention.relative_attention_bias attention.position
    layer.1.DenseReluDense.wi_0 mlp.gate
    layer.1.DenseReluDense.wi_1 mlp.up
    layer.1.DenseReluDense.wo mlp.down
""")
T5_DECODER = read("""
    layer.0.SelfAttention.q attention.q
    layer.0.SelfAttention.k attention.k
    layer.0.SelfAttention.v attention.v
    layer.0.SelfAttention.o attention.o
    layer.0.SelfAttention.relative_attention_bias attention.position
    layer.1.EncDecAttention.q cross_attention.q
    layer.1.EncDecAttention.k cross_attention.k
    layer.1.EncDecAttention.v cross_attention.v
    layer.1.EncDecAttention.o cross_attention.o
    layer.2.DenseReluDense.wi_0 mlp.gate
    layer.2.DenseReluDense.wi_1 mlp.up
    layer.2.DenseReluDense.wo mlp.down
""")
VIT = read("""
    attention.q_proj attention.q
    attention.k_proj attention.k
    attention.v_proj attention.v
    attention.o_proj attention.o
    mlp.fc1 mlp.up
    mlp.fc2 mlp.down
""")

FAMILIES = (
    Family("LlamaForCausalLM", "LlamaConfig", GROUPED, {"model.layers": LLAMA}, LLAMA_OUTSIDE),
    Family("MistralForCausalLM", "MistralConfig", GROUPED, {"model.layers": LLAMA}, LLAMA_OUTSIDE),
    Family("Qwen3ForCausalLM", "Qwen3Config", GROUPED, {"model.layers": LLAMA}, LLAMA_OUTSIDE),
    Family(
        "Gemma3ForCausalLM", "Gemma3TextConfig", GROUPED, {"model.layers": LLAMA}, LLAMA_OUTSIDE
    ),
    Family("Olmo2ForCausalLM", "Olmo2Config", GROUPED, {"model.layers": LLAMA}, LLAMA_OUTSIDE),
    Family(
        "Phi3ForCausalLM",
        "Phi3Config",
        GROUPED,
        {
            "model.layers": read("""
                self_attn.qkv_proj attention.qkv
                self_attn.o_proj attention.o
                mlp.gate_up_proj mlp.gate_up
                mlp.down_proj mlp.down
            """)
        },
        LLAMA_OUTSIDE,
    ),
    Family(
        "PhiForCausalLM",
        "PhiConfig",
        TINY,
        {
            "model.layers": read("""
                self_attn.q_proj attention.q
                self_attn.k_proj attention.k
                self_attn.v_proj attention.v
                self_attn.dense attention.o
                mlp.fc1 mlp.up
                mlp.fc2 mlp.down
            """)
        },
        LLAMA_OUTSIDE,
    ),
    Family(
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        {
            **GROUPED,
            "n_routed_experts": 4,
            "first_k_dense_replace": 1,
            "moe_intermediate_size": 16,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "v_head_dim": 8,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "n_group": 1,
            "topk_group": 1,
        },
        {
            "model.layers": {
                **LATENT_ATTENTION,
                **GATED_MLP,
                **EXPERTS,
                **read("""
                    mlp.shared_experts.gate_proj shared_expert.gate
                    mlp.shared_experts.up_proj shared_expert.up
                    mlp.shared_experts.down_proj shared_expert.down
                """),
            }
        },
        LLAMA_OUTSIDE,
    ),
    Family(
        "MixtralForCausalLM",
        "MixtralConfig",
        {**GROUPED, "num_local_experts": 4},
        {"model.layers": {**ATTENTION, **EXPERTS}},
        LLAMA_OUTSIDE,
    ),
    Family(
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        {**GROUPED, "num_experts": 4},
        {
            "model.layers": {
                **ATTENTION,
                **EXPERTS,
                **read("""
                    mlp.shared_expert.gate_proj shared_expert.gate
                    mlp.shared_expert.up_proj shared_expert.up
                    mlp.shared_expert.down_proj shared_expert.down
                    mlp.shared_expert_gate shared_expert.router
                """),
            }
        },
        LLAMA_OUTSIDE,
    ),
    Family(
        "GptOssForCausalLM",
        "GptOssConfig",
        {**GROUPED, "num_local_experts": 4},
        {
            "model.layers": {
                **ATTENTION,
                **read("""
                    mlp.router mlp.router
                    mlp.experts.gate_up_proj experts.gate_up
                    mlp.experts.down_proj experts.down
                """),
            }
        },
        LLAMA_OUTSIDE,
    ),
    Family(
        "GPT2LMHeadModel",
        "GPT2Config",
        {**GPT2, "add_cross_attention": True},
        {
            "transformer.h": read("""
                attn.c_attn attention.qkv
                attn.c_proj attention.o
                crossattention.c_attn cross_attention.kv
                crossattention.q_attn cross_attention.q
                crossattention.c_proj cross_attention.o
                mlp.c_fc mlp.up
                mlp.c_proj mlp.down
            """)
        },
        read("""
            transformer.wte embedding
            transformer.wpe embedding.position
            lm_head head
        """),
    ),
    Family(
        "GPTJForCausalLM",
        "GPTJConfig",
        {**GPT2, "rotary_dim": 4},
        {
            "transformer.h": read("""
                attn.q_proj attention.q
                attn.k_proj attention.k
                attn.v_proj attention.v
                attn.out_proj attention.o
                mlp.fc_in mlp.up
                mlp.fc_out mlp.down
            """)
        },
        read("""
            transformer.wte embedding
            lm_head head
        """),
    ),
    Family(
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        TINY,
        {
            "gpt_neox.layers": read("""
                attention.query_key_value attention.qkv
                attention.dense attention.o
                mlp.dense_h_to_4h mlp.up
                mlp.dense_4h_to_h mlp.down
            """)
        },
        # transformers calls it `lm_head` in the model and `embed_out` in the files.
        read("""
            gpt_neox.embed_in embedding
            lm_head head
        """),
    ),
    Family(
        "BloomForCausalLM",
        "BloomConfig",
        {"hidden_size": 32, "n_head": 4, "n_layer": 3, "vocab_size": 64},
        {"transformer.h": BLOOM},
        read("""
            transformer.word_embeddings embedding
            lm_head head
        """),
    ),
    Family(
        "FalconForCausalLM",
        "FalconConfig",
        TINY,
        {"transformer.h": BLOOM},
        read("""
            transformer.word_embeddings embedding
            lm_head head
        """),
    ),
    Family(
        "OPTForCausalLM",
        "OPTConfig",
        {**TINY, "ffn_dim": 64, "word_embed_proj_dim": 32},
        {"model.decoder.layers": ENCODER},
        read("""
            model.decoder.embed_tokens embedding
            model.decoder.embed_positions embedding.position
            lm_head head
        """),
    ),
    Family(
        "MptForCausalLM",
        "MptConfig",
        {"d_model": 32, "n_heads": 4, "n_layers": 3, "vocab_size": 64},
        {
            "transformer.blocks": read("""
                attn.Wqkv attention.qkv
                attn.out_proj attention.o
                ffn.up_proj mlp.up
                ffn.down_proj mlp.down
            """)
        },
        read("""
            transformer.wte embedding
            lm_head head
        """),
    ),
    Family(
        "T5ForConditionalGeneration",
        "T5Config",
        {**T5_SIZES, "feed_forward_proj": "gated-gelu"},
        {"encoder.block": T5_ENCODER, "decoder.block": T5_DECODER},
        read("""
            shared embedding
            encoder.embed_tokens embedding
            decoder.embed_tokens embedding
            lm_head head
        """),
    ),
    Family(
        "SwitchTransformersForConditionalGeneration",
        "SwitchTransformersConfig",
        {**T5_SIZES, "num_experts": 4, "num_sparse_encoder_layers": 1, "num_decoder_layers": 2},
        {
            "encoder.block": {
                **{path: role for path, role in T5_ENCODER.items() if "Dense" not in path},
                **read("""
                    layer.1.mlp.router.classifier mlp.router
                    layer.1.mlp.experts.expert_*.wi experts.up
                    layer.1.mlp.experts.expert_*.wo experts.down
                    layer.1.mlp.wi mlp.up
                    layer.1.mlp.wo mlp.down
                """),
            }
        },
        {},
    ),
    Family(
        "BertForMaskedLM",
        "BertConfig",
        TINY,
        {
            "bert.encoder.layer": read("""
                attention.self.query attention.q
                attention.self.key attention.k
                attention.self.value attention.v
                attention.output.dense attention.o
                intermediate.dense mlp.up
                output.dense mlp.down
            """)
        },
        {
            **read("""
                bert.embeddings.word_embeddings embedding
                bert.embeddings.position_embeddings embedding.position
                bert.embeddings.token_type_embeddings embedding.type
                cls.predictions.decoder head
            """),
            "cls.predictions.transform.dense": "",
        },
    ),
    Family(
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        {"dim": 32, "hidden_dim": 64, "n_heads": 4, "n_layers": 3, "vocab_size": 64},
        {
            "distilbert.transformer.layer": read("""
                attention.q_lin attention.q
                attention.k_lin attention.k
                attention.v_lin attention.v
                attention.out_lin attention.o
                ffn.lin1 mlp.up
                ffn.lin2 mlp.down
            """)
        },
        {
            "distilbert.embeddings.word_embeddings": "embedding",
            "distilbert.embeddings.position_embeddings": "embedding.position",
            "vocab_transform": "",
            "vocab_projector": "head",
        },
    ),
    Family(
        "ViTForImageClassification",
        "ViTConfig",
        VISION,
        {"vit.layers": VIT},
        {
            "vit.embeddings.position_embeddings": "embedding.position",
            "vit.embeddings.patch_embeddings.projection": "embedding.patch",
            "classifier": "head",
        },
    ),
    Family(
        "CLIPModel",
        "CLIPConfig",
        {"text_config": TEXT, "vision_config": VISION},
        {"text_model.encoder.layers": CLIP, "vision_model.encoder.layers": CLIP},
        {
            "text_model.embeddings.token_embedding": "embedding",
            "text_model.embeddings.position_embedding": "embedding.position",
            "vision_model.embeddings.position_embedding": "embedding.position",
            "vision_model.embeddings.patch_embedding": "embedding.patch",
            "visual_projection": "",
            "text_projection": "",
        },
    ),
    Family(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        TOWERS,
        {"model.encoder.layers": ENCODER, "model.decoder.layers": DECODER},
        read("""
            model.encoder.conv1 conv
            model.encoder.conv2 conv
            model.encoder.embed_positions embedding.position
            model.decoder.embed_tokens embedding
            model.decoder.embed_positions embedding.position
            proj_out head
        """),
    ),
    Family(
        "ConvNextForImageClassification",
        "ConvNextConfig",
        {"hidden_sizes": [32, 64], "depths": [1, 3], "num_stages": 2},
        {
            "convnext.encoder.stages.1.layers": read("""
                dwconv conv
                pwconv1 mlp.up
                pwconv2 mlp.down
            """)
        },
        {"classifier": "head"},
    ),
    Family(
        "SwinModel",
        "SwinConfig",
        {
            "embed_dim": 16,
            "depths": [1, 2],
            "num_heads": [2, 4],
            "image_size": 32,
            "patch_size": 4,
        },
        {
            "encoder.layers.1.blocks": {
                **VIT,
                "attention.relative_position_bias.relative_position_bias_table": (
                    "attention.position"
                ),
            }
        },
        {"embeddings.patch_embeddings.projection": "embedding.patch"},
    ),
)
