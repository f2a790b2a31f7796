"""Quantised weights and the tables that scale them, told by the names that their tools write.

Neither has a spectrum that means anything: the codes of a quantised weight are not its values,
and a table of scales is no weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rankscope.records import TensorInfo

# Appended to the name of the weight: DeepSeek (`weight_scale_inv`), compressed-tensors
# (`weight_scale`, `weight_zero_point`, beside `weight` or `weight_packed`), gpt-oss (`X_scales`
# beside `X_blocks`).
APPENDED = ("_scale", "_scale_inv", "_scales", "_zero_point")
PACKED = ("", "_packed", "_blocks")

# In the place of the name's last part: GPTQ and AWQ (`qweight` with `scales`), MLX (`weight` with
# `scales` and `biases`), ComfyUI (`weight` with `scale_weight`).
REPLACING = ("scales", "biases", "scale_weight")
CODES = ("qweight", "weight")


def tables(tensors: Sequence[TensorInfo]) -> dict[str, str]:
    """From the name of each table of scales to the name of the quantised tensor it belongs to."""
    coded = {tensor.name for tensor in tensors if _holds_codes(tensor)}
    return {
        tensor.name: weight
        for tensor in tensors
        for weight in _scaled_by(tensor.name)
        if weight in coded
    }


def _holds_codes(tensor: TensorInfo) -> bool:
    return tensor.dtype.startswith(("float8", "int", "uint"))


def _scaled_by(name: str) -> Iterator[str]:
    """The names of the tensors that a tensor of this name would scale."""
    for suffix in APPENDED:
        if name.endswith(suffix):
            yield from (name.removesuffix(suffix) + packed for packed in PACKED)
    parent, dot, last = name.rpartition(".")
    if last in REPLACING:
        yield from (f"{parent}{dot}{code}" for code in CODES)
