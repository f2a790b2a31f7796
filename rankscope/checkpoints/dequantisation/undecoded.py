"""Quantised weights that no scheme decodes, told by the tables beside them.

Neither has a spectrum that means anything: the codes of a quantised weight are not its values, and
a table of scales is no weight.
"""

from __future__ import annotations

from collections.abc import Iterator

from rankscope.checkpoints.dequantisation.scheme import Scheme, Unfit, Weight
from rankscope.checkpoints.dequantisation.stored import StoredTensors
from rankscope.checkpoints.modelfiles import ModelFiles

# What a table's name appends to that of the weight, which is that of the codes less one of PACKED:
# DeepSeek, compressed-tensors, gpt-oss, ModelOpt and compressed-tensors (NVFP4).
APPENDED = ("_scale", "_scale_inv", "_scales", "_zero_point", "_scale_2", "_global_scale")
PACKED = ("_packed", "_blocks")

# In the place of the last part of the codes' name: MLX, ComfyUI; GPTQ and AWQ.
REPLACING = {
    "weight": ("scales", "biases", "scale_weight"),
    "qweight": ("scales",),
}


def _tables(stored: StoredTensors, name: str, _: ModelFiles) -> tuple[str, ...] | None:
    if not stored.infos[name].dtype.startswith(("float8", "int", "uint")):
        return None
    return stored.those_of(*_names(name)) or None


def _names(codes: str) -> Iterator[str]:
    """The names of the tables that the codes of this name may have."""
    weight = codes
    for suffix in PACKED:
        weight = weight.removesuffix(suffix)
    yield from (weight + suffix for suffix in APPENDED)
    parent, dot, last = codes.rpartition(".")
    yield from (f"{parent}{dot}{table}" for table in REPLACING.get(last, ()))


def _weight(stored: StoredTensors, name: str, files: ModelFiles) -> Weight:
    tables = _tables(stored, name, files) or ()
    raise Unfit(f"{stored.infos[name].dtype} to be scaled by {tables[0]}: dequantise it first")


UNDECODED = Scheme(_tables, _weight)
