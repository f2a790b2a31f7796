"""From the inert object in a torch file to tensors by name: flatten, unwrap, strip.

Names come from keys: nested dictionaries and lists are joined by dots.

- A dictionary with exactly the keys `state` and `param_groups` is an optimiser's
  (`torch.optim.Optimizer.state_dict`); its tensors are not weights.
- `state_dict` (Lightning, timm, MoCo) and `model_state_dict` (PyTorch's tutorials) at the top
  hold the weights, and everything outside is something else.
- `model` (fairseq, DeiT), `module` (DeepSpeed) and `net` are such wrappers only when nothing
  outside them has two axes: `{"net": ..., "head": ...}` may as well be one model in two parts.
- `module.` (DataParallel), `_orig_mod.` (torch.compile) and `_fsdp_wrapped_module.` go when every
  name has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from rankscope.checkpoints.inert_nodes import BadPickle, Dictionary, Opaque, shown
from rankscope.checkpoints.torch_stubs import NUMPY_ARRAY, StorageStub, TensorStub, Unreadable

SURE_WRAPPERS = ("state_dict", "model_state_dict")
LIKELY_WRAPPERS = ("model", "module", "net")
PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")

# Ours: nested modules are some ten deep, their names some hundred characters long; shared
# references can make a small pickle stand for any number of objects.
MAX_DEPTH = 100
MAX_VISITS = 2_000_000
MAX_NAME = 1_000
MAX_TENSORS = 250_000


class Shaped(Protocol):
    """What stands for a tensor, whatever the container it is in."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes."""


T = TypeVar("T", bound=Shaped)


@dataclass(frozen=True, slots=True)
class Leaf(Generic[T]):
    """A tensor, or what stands in its place, and the keys that lead to it.

    Attributes:
        path: the keys from the top; empty when the file is one tensor.
        tensor: its stub, None when it cannot be or is not read.
        reason: why not; empty when it is read.
        unreadable: whether that is its kind: quantised, sparse.
    """

    path: tuple[str, ...]
    tensor: T | None
    reason: str = ""
    unreadable: bool = False

    @property
    def name(self) -> str:
        """The keys joined."""
        return ".".join(self.path) or "tensor"


def named_leaves(root: object) -> list[tuple[str, Leaf[TensorStub]]]:
    """Every tensor of a file under the name it is listed by, in the file's order.

    Raises:
        BadPickle: deeper, larger or longer than any checkpoint, or it contains itself.
    """
    leaves: list[Leaf[TensorStub]] = []
    for leaf in _Walk().leaves(root, (), "", 0):
        leaves.append(leaf)
        if len(leaves) > MAX_TENSORS:
            raise BadPickle(f"more than {MAX_TENSORS} tensors")
        check_path(leaf.path)
    return unwrapped(leaves)


def unwrapped(leaves: Sequence[Leaf[T]]) -> list[tuple[str, Leaf[T]]]:
    """Leaves by name, less what is wrapped around the weights; what is outside is not read."""
    wrapper = _wrapper(leaves)
    if wrapper is None:
        return _stripped(leaves)
    inside = [replace(leaf, path=leaf.path[1:]) for leaf in leaves if _is_inside(leaf, wrapper)]
    reason = f"outside the state dict, which is {wrapper!r}"
    outside = [
        replace(leaf, tensor=None, reason=leaf.reason or reason)
        for leaf in leaves
        if not _is_inside(leaf, wrapper)
    ]
    return [*_stripped(inside), *((leaf.name, leaf) for leaf in outside)]


def check_path(path: tuple[str, ...]) -> None:
    """Refuse a name that is absurdly long or not text."""
    length = sum(len(key) for key in path)  # before a name of 100 long keys is joined
    if length > MAX_NAME:
        raise BadPickle(
            f"name of {length} characters, expected at most {MAX_NAME}: {shown(max(path, key=len))}"
        )
    try:
        "".join(path).encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair, which pickle lets through
        raise BadPickle(f"name that is not Unicode text: {shown(''.join(path))}") from error


def _is_inside(leaf: Leaf[T], wrapper: str) -> bool:
    return len(leaf.path) > 1 and leaf.path[0] == wrapper


def _wrapper(leaves: Sequence[Leaf[T]]) -> str | None:
    """The key that holds the weights, None when the whole file does."""
    holders = {leaf.path[0] for leaf in leaves if leaf.tensor and len(leaf.path) > 1}
    for key in SURE_WRAPPERS:
        if key in holders:
            return key
    matrices = [leaf for leaf in leaves if leaf.tensor and len(leaf.tensor.shape) >= 2]
    for key in LIKELY_WRAPPERS:
        if key in holders and all(_is_inside(leaf, key) for leaf in matrices):
            return key
    return None


def _stripped(leaves: Sequence[Leaf[T]]) -> list[tuple[str, Leaf[T]]]:
    """Leaves with their names, less the prefixes that every readable one has."""
    names = [leaf.name for leaf in leaves]
    readable = [leaf.name for leaf in leaves if leaf.tensor]
    while readable:
        prefix = next((p for p in PREFIXES if all(n.startswith(p) for n in readable)), None)
        if prefix is None:
            break
        readable = [name.removeprefix(prefix) for name in readable]
        names = [name.removeprefix(prefix) for name in names]
    return list(zip(names, leaves, strict=True))


class _Walk:
    """One walk over an object, with a bound on how many nodes it may visit."""

    def __init__(self) -> None:
        self.visits = 0

    def leaves(
        self, node: object, path: tuple[str, ...], reason: str, depth: int
    ) -> Iterator[Leaf[TensorStub]]:
        """The tensors in a node; `reason` is why none of them is read, if so."""
        if depth > MAX_DEPTH:
            raise BadPickle(f"objects nested deeper than {MAX_DEPTH}, or one that contains itself")
        match node:
            case TensorStub():
                yield Leaf(path, None if reason else node, reason)
            case Unreadable():
                yield Leaf(path, None, node.reason, unreadable=not reason)
            case StorageStub():
                yield Leaf(path, None, reason or "storage without a shape")
            case Opaque() if node.name == NUMPY_ARRAY:
                yield Leaf(path, None, reason or "NumPy array: save it as a tensor")
            case _:
                for key, child, why in _children(node):
                    self._count()
                    if child is not None and not isinstance(child, str | int | float):
                        where = path if key is None else (*path, key)
                        yield from self.leaves(child, where, reason or why, depth + 1)

    def _count(self) -> None:
        self.visits += 1
        if self.visits > MAX_VISITS:
            raise BadPickle(f"more than {MAX_VISITS} objects, counting shared ones each time")


def _children(node: object) -> Iterator[tuple[str | None, object, str]]:
    """What a node holds: the key, the object, and why tensors in it are not read, if so."""
    if isinstance(node, Dictionary):
        is_optimiser = len(node.items) == 4 and (
            {_key(key) for key, _ in node.pairs} == {"state", "param_groups"}
        )
        for key, value in node.pairs:
            yield _key(key), value, _why_not(key, is_optimiser)
            yield None, key, "in a dictionary's key"
        for attribute in node.attributes or ():
            yield None, attribute, "attribute of a dictionary"
    elif isinstance(node, list | tuple):
        for index, item in enumerate(node):
            yield str(index), item, ""
    elif isinstance(node, Opaque):
        for part in node.parts:
            yield None, part, f"held by {node.name[:120]}: only dictionaries and lists are read"


def _key(key: object) -> str:
    # Wider integers and other objects have no text of a bounded length.
    return str(key) if isinstance(key, str | float) or _is_short(key) else f"<{type(key).__name__}>"


def _is_short(key: object) -> bool:
    return key is None or (isinstance(key, int) and key.bit_length() < 64)


def _why_not(key: object, is_optimiser: bool) -> str:
    if is_optimiser:
        return "optimiser state"
    named = isinstance(key, str | float) or _is_short(key)
    return "" if named else f"under a {type(key).__name__} as key, expected a name"
