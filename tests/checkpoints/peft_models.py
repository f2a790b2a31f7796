"""Adapters as PEFT saves them, on tiny models with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rankscope.checkpoints import open_checkpoint
from rankscope.matrices import Selection, select
from rankscope.products import matrix_of
from tests.matrix import Array


class Saved(NamedTuple):
    """What PEFT wrote, and what it says of it.

    Attributes:
        base: directory of the base model.
        adapter: directory of the adapter.
        deltas: what each module adds to its weight, by the weight's name.
        merged: the state of the merged model.
    """

    base: Path
    adapter: Path
    deltas: dict[str, Array]
    merged: dict[str, Array]


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        vocab_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config)


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=4,
        vocab_size=64,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def resnet() -> Any:
    """Convolutions of 3 x 3 and 1 x 1."""
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return ResNetModel(config)


def save(directory: Path, model: Any, dtype: str = "float32", **settings: Any) -> Saved:
    """Save a model and an adapter on it, all of it random; `settings` are LoraConfig's."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = model.to(getattr(torch, dtype))
    with quiet():
        model.save_pretrained(directory / "base")
        adapted = get_peft_model(model, LoraConfig(**settings), autocast_adapter_dtype=False)
        for name, parameter in adapted.named_parameters():
            if "magnitude" in name:
                parameter.data *= 0.5 + torch.rand_like(parameter)
            elif "lora_" in name or "modules_to_save" in name:
                parameter.data.normal_(std=0.3)
        adapted.save_pretrained(str(directory / "adapter"))
        deltas = {
            f"{name.removeprefix('base_model.model.')}.weight": numbers(
                module.get_delta_weight("default")
            )
            for name, module in adapted.named_modules()
            if hasattr(module, "get_delta_weight")
        }
        merged = adapted.merge_and_unload().state_dict()
    state = {name: numbers(tensor) for name, tensor in merged.items()}
    return Saved(directory / "base", directory / "adapter", deltas, state)


def numbers(tensor: Any) -> Array:
    array: Array = tensor.detach().double().numpy()
    return array


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the libraries have to say."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_all(path: Path, base: Path | None = None) -> dict[str, Array]:
    """Every matrix of a checkpoint by name, in blocks, as (out, in) where that is known."""
    with open_checkpoint(path, base=base) as checkpoint:
        specs, _ = select(checkpoint.listing, Selection())
        return {
            spec.name: np.concatenate(
                [block.astype(np.float64) for block in matrix_of(checkpoint, spec).blocks(0, 100)]
            )
            for spec in specs
        }
