"""What a torch pickle may call, and the inert stub that stands for each call.

The names and their arguments: torch/_utils.py, torch/_tensor.py, torch/storage.py and
`persistent_load` in torch/serialization.py, as of PyTorch 2.13; older names are kept there
for old files, and here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rankscope.checkpoints.inert_nodes import (
    BadPickle,
    Builder,
    Dictionary,
    Global,
    Opaque,
    build,
    shown,
)
from rankscope.dtypes import FLOATS, OTHER_SIZES

# torch/storage.py, _dtype_to_storage_type_map. An untyped storage counts in bytes.
STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "UntypedStorage": "uint8",
    "_UntypedStorage": "uint8",
}

# NumPy's own limit (NPY_MAXDIMS in NumPy 2); PyTorch's kernels take 64 too.
MAX_AXES = 64


@dataclass(frozen=True, slots=True, eq=False)
class StorageStub:
    """A run of elements in the archive's entry `data/<key>`.

    Attributes:
        kind: the storage type's name.
        dtype: our name of its elements' type, None when the kind is not known.
        key: the entry.
        location: the device that it was saved from.
        numel: number of elements.
    """

    kind: str
    dtype: str | None
    key: str
    location: str
    numel: int


@dataclass(frozen=True, slots=True, eq=False)
class TensorStub:
    """A view of a storage as the pickle claims it: types are checked, ranges are not.

    Attributes:
        storage: where the elements are.
        dtype: our name of the elements' type.
        offset: elements before the first one.
        shape: sizes.
        strides: elements from one index to the next, per axis.
    """

    storage: StorageStub
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Unreadable:
    """A tensor whose elements are not plain numbers in a storage, and why."""

    reason: str


def persistent_stub(identifier: object) -> object:
    """The storage that a persistent id names: ("storage", type, key, location, numel)."""
    match identifier:
        case ("storage", Global(name), str(key), str(location), int(numel)) if numel >= 0:
            kind = name.rpartition(".")[2]
            return StorageStub(kind, STORAGE_DTYPES.get(kind), key, location, numel)
    raise BadPickle("persistent id is not a storage's: type, key, location, number of elements")


def _tensor(name: str, arguments: tuple[object, ...]) -> object:
    """_rebuild_tensor(storage, offset, size, stride), v2 and v3 with more after these."""
    match arguments[:4]:
        case (StorageStub() as storage, int(offset), tuple(shape), tuple(strides)):
            pass
        case _:
            raise BadPickle(f"{name} is given something else than storage, offset, size, stride")
    if not _are_integers(shape) or not _are_integers(strides) or len(shape) != len(strides):
        raise BadPickle(f"{name} is given a size and a stride that are not matching integers")
    if len(shape) > MAX_AXES:
        raise BadPickle(f"tensor of {len(shape)} axes, expected at most {MAX_AXES}")
    dtype = storage.dtype
    rest = arguments[6:]  # after requires_grad and hooks
    if name.endswith("_v3"):
        dtype, rest = _dtype_name(rest[0] if rest else None), rest[1:]
    if storage.location == "meta":
        return Unreadable("meta tensor: its numbers were never stored")
    if dtype not in FLOATS and dtype not in OTHER_SIZES:
        return Unreadable(f"element type {shown(dtype or storage.kind)} is not known")
    if rest and isinstance(rest[0], Dictionary) and any(value for _, value in rest[0].pairs):
        return Unreadable("stored with a lazy conjugation or negation: save a resolved copy")
    return TensorStub(storage, dtype, offset, tuple(shape), tuple(strides))


def _are_integers(values: tuple[object, ...]) -> bool:
    return all(type(value) is int for value in values)


def _dtype_name(dtype: object) -> str:
    if not isinstance(dtype, Global):
        raise BadPickle("_rebuild_tensor_v3 is given something else than a dtype")
    return dtype.name.removeprefix("torch.")


def _parameter(name: str, arguments: tuple[object, ...]) -> object:
    """_rebuild_parameter(data, requires_grad, hooks), or with a state: the data."""
    if not arguments or not isinstance(arguments[0], TensorStub | Unreadable):
        raise BadPickle(f"{name} is given something else than a tensor")
    return arguments[0]


# Classes whose tensors are their storage's numbers and nothing else.
PLAIN_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")


def _from_type(name: str, arguments: tuple[object, ...]) -> object:
    """_rebuild_from_type_v2(function, class, arguments, state): a subclass, or attributes."""
    match arguments[:3]:
        case (Global() as function, Global(kind), tuple(inner)):
            rebuilt = build(TENSOR_FUNCTIONS, function, inner)
        case _:
            raise BadPickle(f"{name} is given something else than function, class, arguments")
    if kind not in PLAIN_CLASSES:
        return Unreadable(f"tensor subclass {shown(kind)}: what its numbers mean is not known")
    return rebuilt


def _unreadable(reason: str) -> Builder:
    return lambda *_: Unreadable(reason)


_FOREIGN = "stored for another device, not in a storage: save it from the CPU"

TENSOR_FUNCTIONS: Mapping[str, Builder] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_sparse_tensor": _unreadable("sparse tensor: only dense ones are read"),
    "torch._utils._rebuild_nested_tensor": _unreadable("nested tensor: only dense ones are read"),
    "torch._utils._rebuild_qtensor": _unreadable("quantised tensor: dequantise before saving"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unreadable(
        "meta tensor: its numbers were never stored"
    ),
    "torch._utils._rebuild_wrapper_subclass": _unreadable("tensor subclass without a storage"),
    "torch._utils._rebuild_xla_tensor": _unreadable(_FOREIGN),
    "torch._utils._rebuild_device_tensor_from_numpy": _unreadable(_FOREIGN),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _unreadable(_FOREIGN),
}

NUMPY_ARRAY = "numpy.ndarray"


def _opaque(name: str, arguments: tuple[object, ...]) -> object:
    return Opaque(name, list(arguments))


def _dictionary(name: str, arguments: tuple[object, ...]) -> object:
    """OrderedDict(), or of a list of pairs as Python 2 wrote it; defaultdict(factory)."""
    pairs = arguments[0] if arguments and not name.endswith("defaultdict") else []
    if not isinstance(pairs, list | tuple):
        raise BadPickle(f"{name} is made of a {type(pairs).__name__}, expected pairs")
    made = Dictionary()
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise BadPickle(f"{name} is made of something else than pairs")
        made.items.extend(pair)
    return made


# Plain data that trainers put beside the weights. None of it is ever made; it is kept as its
# name and what went in.
DATA_TYPES = (
    *("argparse.Namespace", "types.SimpleNamespace", "_codecs.encode"),
    *(f"collections.{name}" for name in ("Counter", "deque")),
    *(
        f"{module}.{name}"
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset", "slice", "complex", "bytearray", "bytes")
    ),
    *("builtins.range", "__builtin__.xrange"),
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *(
        f"{module}.{name}"
        for module in ("pathlib", "pathlib._local")  # Python 3.13 writes the second
        for name in ("PurePath", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    ),
    *("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    *("torch.Size", "torch.device", "torch.serialization._get_layout"),
    # Hyperparameters of fairseq, NeMo and Lightning.
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
    *("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"),
    *(
        f"omegaconf.nodes.{kind}Node"
        for kind in ("Any", "String", "Integer", "Float", "Boolean", "Bytes", "PurePath")
    ),
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
)

BUILDERS: Mapping[str, Builder] = {
    **TENSOR_FUNCTIONS,
    **{
        f"{module}._rebuild_from_type{version}": _from_type
        for module in ("torch._tensor", "torch.tensor")  # the second until PyTorch 1.8
        for version in ("", "_v2")
    },
    # Given (class, (0,), "b"); what counts comes after it, as the array's state.
    "numpy.core.multiarray._reconstruct": lambda *_: Opaque(NUMPY_ARRAY, []),
    "numpy._core.multiarray._reconstruct": lambda *_: Opaque(NUMPY_ARRAY, []),
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _dictionary,
    **dict.fromkeys(DATA_TYPES, _opaque),
}
