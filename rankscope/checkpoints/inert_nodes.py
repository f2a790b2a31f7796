"""What a pickle becomes when it is read as data: inert nodes, and the rule for calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field


class BadPickle(Exception):
    """Why a pickle is refused, in one line; the reader adds the path."""


class TooLarge(BadPickle):
    """A pickle of more than is read."""


@dataclass(frozen=True, slots=True)
class Global:
    """Something that the pickle names, `module.name`; never looked up."""

    name: str


@dataclass(slots=True, eq=False)
class Dictionary:
    """A dictionary as the pairs that were set, in order; a key may stand twice.

    Attributes:
        items: keys and values in turn; a tuple for each pair would take most of the memory.
        attributes: what was set on the object beside its items; None spares memory.
    """

    items: list[object] = field(default_factory=list)
    attributes: list[object] | None = None

    @property
    def pairs(self) -> Iterator[tuple[object, object]]:
        """Keys and values; copies nothing, since one that holds itself is walked at every depth."""
        each = iter(self.items)
        return zip(each, each, strict=True)


@dataclass(slots=True, eq=False)
class Opaque:
    """An object that would have been made by a call: its type's name and all that went in."""

    name: str
    parts: list[object]


Builder = Callable[[str, tuple[object, ...]], object]


def shown(name: str) -> str:
    """A name from the pickle as it may stand in a message: quoted, on one line, bounded."""
    return repr(name if len(name) <= 120 else name[:120] + "...")


def build(
    builders: Mapping[str, Builder], function: Global, arguments: tuple[object, ...]
) -> object:
    """The node for a call that is on the list; `BadPickle` for any other."""
    builder = builders.get(function.name)
    if builder is None:
        raise BadPickle(
            f"pickle calls {shown(function.name)}, which is not on the list of plain data "
            "types; nothing was called. If you trust the file, re-save its weights alone: "
            "torch.save(model.state_dict(), path), or as safetensors"
        )
    return builder(function.name, arguments)
