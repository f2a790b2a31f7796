"""What a scheme of quantising is to the rest, and checks that several of them make."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rankscope.checkpoints.dequantisation.stored import StoredTensors
from rankscope.checkpoints.modelfiles import ModelFiles
from rankscope.records import MatrixSpec, TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What scales are stored in: the 16- and 32-bit types of the tools that are read here.
SCALE_TYPES = ("float32", "float16", "bfloat16")


# Of config.json: far above any size, for JSON may have some thousand digits, and reasons tell them.
MAX_INTEGER = 10**30


class Unfit(Exception):
    """A weight that cannot be decoded for certain: what was found and expected, in one line."""


class Weight(Protocol):
    """A weight that can be decoded.

    Attributes (read-only):
        info: the tensor as it is listed: float32, with its encoding and its sources.
    """

    @property
    def info(self) -> TensorInfo:
        """The tensor as it is listed."""

    def read(
        self, stored: StoredTensors, spec: MatrixSpec, rows: slice, columns: slice, /
    ) -> NDArray[np.float32]:
        """A window of one of its matrices, not empty; `InputRejected` where a table is unsound."""


class Scheme(NamedTuple):
    """A way of quantising.

    Attributes:
        tables: the stored tensors beside the one of this name that belong to its weight, or None
            where that one holds no codes of this scheme.
        weight: the weight that stands at this name; raises `Unfit`.
    """

    tables: Callable[[StoredTensors, str, ModelFiles], tuple[str, ...] | None]
    weight: Callable[[StoredTensors, str, ModelFiles], Weight]


def shown(value: object) -> str:
    """A value of config.json in a reason, of which every weight has one: cut before it is written.

    >>> shown("gptq_v2"), len(shown("x" * 1_000_000))
    ("'gptq_v2'", 30)
    """
    return f"{reprlib.repr(value):.60}"


def present(stored: StoredTensors, name: str) -> TensorInfo:
    """A stored tensor; raises `Unfit` where it is not there."""
    if name not in stored.infos:
        raise Unfit(f"needs {name}: {stored.absent.get(name, 'not in the checkpoint')}")
    return stored.infos[name]


def expect_type(info: TensorInfo, *types: str) -> None:
    """Raise `Unfit` where a tensor is of another type."""
    if info.dtype not in types:
        raise Unfit(f"{info.name} is of type {info.dtype}, expected {' or '.join(types)}")


def expect_shape(info: TensorInfo, shape: tuple[int, ...]) -> None:
    """Raise `Unfit` where a tensor is of another shape."""
    if info.shape != shape:
        raise Unfit(f"{info.name} is of shape {list(info.shape)}, expected {list(shape)}")


def expect_axes(info: TensorInfo, axes: int) -> None:
    """Raise `Unfit` where a tensor has another number of axes, or no elements."""
    if len(info.shape) != axes or 0 in info.shape:
        raise Unfit(f"{info.name} is of shape {list(info.shape)}, expected {axes} axes, none 0")


def integer_of(config: dict[str, Any], *keys: str) -> int:
    """A whole number of config.json's quantization_config; raises `Unfit`."""
    for key in keys:
        value = config.get(key)
        if type(value) is int and abs(value) < MAX_INTEGER:
            return value
        if value is not None:
            raise Unfit(f"quantization_config says {key} {shown(value)}, expected a whole number")
    raise Unfit(f"needs {keys[0]} from config.json's quantization_config, which does not say it")


def group_size_of(config: dict[str, Any], inputs: int, *keys: str) -> int:
    """How many inputs have a scale in common, at most all of them; raises `Unfit`."""
    size = integer_of(config, *keys)
    if size < 1 and size != -1:
        raise Unfit(f"quantization_config says group_size {size}, expected at least 1 or -1")
    return inputs if size == -1 else min(size, inputs)
