"""GPTQ's integers with scales and zero points for groups of inputs.

Layout: `qweight` int32 holds the codes of (in, out) packed along the inputs, `qzeros` int32 the
zero points of (groups, out) packed along the outputs, `scales` (groups, out), `g_idx` (in,) the
group of each input. weight[o, i] = scales[g, o] (code[i, o] - zero[g, o]), g = g_idx[i]. In the
first version of the format (`checkpoint_format: gptq`, and where that is not said) zero points are
stored less 1; in the second (`gptq_v2`) as they are. AutoGPTQ's and GPTQModel's QuantLinear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rankscope.checkpoints.dequantisation.bits import unpacked, words_of
from rankscope.checkpoints.dequantisation.scheme import (
    SCALE_TYPES,
    Scheme,
    Unfit,
    expect_axes,
    expect_shape,
    expect_type,
    group_size_of,
    integer_of,
    present,
    shown,
)
from rankscope.checkpoints.dequantisation.stored import StoredTensors
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.records import MatrixSpec, TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CODES = "qweight"
BITS = (2, 3, 4, 8)

# What `checkpoint_format` is to the zero points: how much less than they are they are stored.
LESS = {"gptq": 1, "gptq_v2": 0}


@dataclass(frozen=True, slots=True)
class GptqWeight:
    """A weight of GPTQ.

    Attributes:
        info: the tensor as it is listed.
        layer: what its tensors' names begin with, the dot included.
        bits: of a code and of a zero point.
        group_size: inputs of a group where `g_idx` does not say it.
        less: what is to be added to a stored zero point.
    """

    info: TensorInfo
    layer: str
    bits: int
    group_size: int
    less: int

    def read(
        self, stored: StoredTensors, _: MatrixSpec, rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """A window; its scales and zero points are read for the groups that it touches."""
        import numpy as np

        packed = stored.window(self.layer + CODES, (), words_of(self.bits, columns), rows)
        window = unpacked(packed, self.bits, columns).astype(np.float32)
        groups, place = np.unique(self._groups(stored, columns), return_inverse=True)
        window -= self._zeros(stored, groups, rows)[place]
        scales = stored.gathered(f"{self.layer}scales", groups, rows)
        window *= scales.astype(np.float32)[place]
        return window.T

    def _groups(self, stored: StoredTensors, columns: slice) -> NDArray[np.intp]:
        """The group of each of these inputs."""
        import numpy as np

        name = f"{self.layer}g_idx"
        if name not in self.info.sources:
            return np.arange(columns.start, columns.stop) // self.group_size
        groups = stored.flat(name, columns.start, columns.stop).astype(np.intp)
        count = stored.infos[f"{self.layer}scales"].shape[0]
        wrong = groups[(groups < 0) | (groups >= count)]
        if len(wrong):
            raise stored.rejected(name, f"group {wrong[0]}, expected 0 to {count - 1}")
        return groups

    def _zeros(
        self, stored: StoredTensors, groups: NDArray[np.intp], rows: slice
    ) -> NDArray[np.float32]:
        """The zero points of these groups, shape (groups, rows)."""
        import numpy as np

        name = f"{self.layer}qzeros"
        packed = stored.gathered(name, groups, words_of(self.bits, rows))
        zeros = unpacked(packed.T, self.bits, rows).T.astype(np.float32)
        most = 2**self.bits - 1
        if self.less and (zeros == most).any():
            # A zero point of 0, stored as -1, which the tools read back as 0, 16 or worse.
            raise stored.rejected(
                name, f"holds {most}, a zero point that kernels disagree on: save it as gptq_v2"
            )
        return zeros + np.float32(self.less)


def _tables(stored: StoredTensors, name: str, _: ModelFiles) -> tuple[str, ...] | None:
    layer = name.removesuffix(CODES)
    if name != layer + CODES or layer[-1:] not in ("", "."):
        return None
    return stored.those_of(*(layer + table for table in ("scales", "qzeros", "g_idx")))


def _weight(stored: StoredTensors, name: str, files: ModelFiles) -> GptqWeight:
    config = files.quantisation
    layer = name.removesuffix(CODES)
    bits, less = _format(config)
    codes, scales, zeros = (present(stored, layer + one) for one in (CODES, "scales", "qzeros"))
    for info, types in ((codes, ("int32",)), (zeros, ("int32",)), (scales, SCALE_TYPES)):
        expect_axes(info, 2)
        expect_type(info, *types)
    outputs = codes.shape[1]
    inputs, rest = divmod(codes.shape[0] * 32, bits)
    if rest or outputs * bits % 32:
        raise Unfit(f"{name} of shape {list(codes.shape)} holds no whole rows of {bits} bits")
    group_size = group_size_of(config, inputs, "group_size")
    groups = -(-inputs // group_size)
    expect_shape(scales, (groups, outputs))
    expect_shape(zeros, (groups, outputs * bits // 32))
    sources: tuple[str, ...] = (name, scales.name, zeros.name)
    if f"{layer}g_idx" in stored:
        order = present(stored, f"{layer}g_idx")
        expect_type(order, "int32", "int64")
        expect_shape(order, (inputs,))
        sources += (order.name,)
    elif config.get("desc_act"):
        raise Unfit(f"needs {layer}g_idx, for quantization_config says desc_act")
    info = TensorInfo(
        f"{layer}weight", (outputs, inputs), "float32", encoding=f"GPTQ int{bits}", sources=sources
    )
    return GptqWeight(info, layer, bits, group_size, less)


def _format(config: dict[str, Any]) -> tuple[int, int]:
    """Bits, and what stored zero points lack."""
    method = config.get("quant_method", "gptq")
    if not config or method != "gptq":
        said = f"says quant_method {shown(method)}" if config else "is not there"
        raise Unfit(f"packed by an unknown tool: quantization_config {said}, expected 'gptq'")
    form = config.get("checkpoint_format", "gptq")
    if not isinstance(form, str) or form not in LESS:
        raise Unfit(f"checkpoint_format is {shown(form)}, expected one of {', '.join(LESS)}")
    bits = integer_of(config, "bits")
    if bits not in BITS:
        raise Unfit(f"{bits} bits, expected one of {', '.join(map(str, BITS))}")
    return bits, LESS[form]


GPTQ = Scheme(_tables, _weight)
