"""What each opcode of a pickle does to the machine that reads it as data.

Meanings: the documentation in Python's own `pickletools.py`, protocols 0 to 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rankscope.checkpoints.inert_nodes import (
    BadPickle,
    Builder,
    Dictionary,
    Global,
    Opaque,
    build,
    shown,
)

# Ours: random generators' states are the widest integers in checkpoints, 128 bits (PCG64).
MAX_INTEGER_BITS = 2048


class Machine:
    """The pickle machine's state: a stack, the stacks below its marks, and the memo."""

    def __init__(
        self, builders: Mapping[str, Builder], persistent: Callable[[object], object]
    ) -> None:
        self.builders = builders
        self.persistent = persistent
        self.stack: list[object] = []
        self.marked: list[list[object]] = []
        self.memo: dict[object, object] = {}

    def pop_mark(self) -> list[object]:
        """The objects above the topmost mark, which goes away."""
        items = self.stack
        self.stack = self.marked.pop()
        return items

    def call(self, function: object, arguments: object) -> None:
        """Push the node for a call."""
        if not isinstance(function, Global):
            raise BadPickle(f"pickle calls a {type(function).__name__}, expected a named type")
        if not isinstance(arguments, tuple):
            raise BadPickle(f"pickle calls {shown(function.name)} without a tuple of arguments")
        self.stack.append(build(self.builders, function, arguments))


Step = Callable[[Machine, object], None]


def _push(machine: Machine, argument: object) -> None:
    if isinstance(argument, int) and argument.bit_length() > MAX_INTEGER_BITS:
        raise BadPickle(f"pickle holds an integer of {argument.bit_length()} bits")
    machine.stack.append(argument)


def _pop(machine: Machine, _: object) -> None:
    # POP discards a mark when nothing is above it.
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _mark(machine: Machine, _: object) -> None:
    machine.marked.append(machine.stack)
    machine.stack = []


def _append(machine: Machine, items: list[object]) -> None:
    target = machine.stack[-1]
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Opaque):
        target.parts.extend(items)
    else:
        raise BadPickle(f"pickle appends to a {type(target).__name__}, expected a list")


def _pairs(items: list[object]) -> list[tuple[object, object]]:
    if len(items) % 2:
        raise BadPickle("pickle is damaged: a key without a value")
    return list(zip(items[::2], items[1::2], strict=True))


def _set_items(machine: Machine, items: list[object]) -> None:
    target = machine.stack[-1]
    pairs = _pairs(items)
    if isinstance(target, Dictionary):
        target.pairs.extend(pairs)
    elif isinstance(target, Opaque):
        target.parts.append(Dictionary(pairs))
    else:
        raise BadPickle(f"pickle sets a key of a {type(target).__name__}, expected a dictionary")


def _build(machine: Machine, _: object) -> None:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if isinstance(target, Dictionary):
        target.attributes = target.attributes or []
        target.attributes.append(state)
    elif isinstance(target, Opaque):
        target.parts.append(state)
    else:
        raise BadPickle(f"pickle sets the state of a {type(target).__name__}")


def _take(machine: Machine, count: int) -> list[object]:
    """The topmost `count` objects, which go away."""
    if len(machine.stack) < count:
        raise IndexError("an opcode wants more objects than there are")
    items = machine.stack[-count:]
    del machine.stack[-count:]
    return items


def _global(machine: Machine, argument: object) -> None:
    # pickletools joins the two lines by a space; no module's name holds one.
    machine.stack.append(Global(".".join(str(argument).split(" ", 1))))


def _stack_global(machine: Machine, _: object) -> None:
    module, name = _take(machine, 2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise BadPickle("pickle names a global by something other than text")
    machine.stack.append(Global(f"{module}.{name}"))


def _reduce(machine: Machine, _: object) -> None:
    machine.call(*_take(machine, 2))


def _new_with_keywords(machine: Machine, _: object) -> None:
    kind, arguments, keywords = _take(machine, 3)
    if not isinstance(arguments, tuple):
        raise BadPickle("pickle is damaged: arguments that are not a tuple")
    machine.call(kind, (*arguments, keywords))


def _inst(machine: Machine, argument: object) -> None:
    arguments = tuple(machine.pop_mark())
    _global(machine, argument)
    machine.call(machine.stack.pop(), arguments)


def _obj(machine: Machine, _: object) -> None:
    kind, *arguments = machine.pop_mark() or [None]
    machine.call(kind, tuple(arguments))


def _remember(machine: Machine, index: object) -> None:
    machine.memo[index] = machine.stack[-1]


def _recall(machine: Machine, index: object) -> None:
    machine.stack.append(machine.memo[index])


def _persistent(machine: Machine, _: object) -> None:
    machine.stack.append(machine.persistent(machine.stack.pop()))


def _nothing(machine: Machine, _: object) -> None:
    """PROTO and FRAME say how to read; STOP ends the loop by itself."""


def _push_new(make: Callable[[], object]) -> Step:
    """Push a fresh object."""
    return lambda machine, _: machine.stack.append(make())


def _push_made(count: int | None, make: Callable[[list[object]], object]) -> Step:
    """Push what is made of the topmost `count` objects, None for those above the mark."""

    def step(machine: Machine, _: object) -> None:
        items = machine.pop_mark() if count is None else _take(machine, count)
        machine.stack.append(make(items))

    return step


def _change(count: int | None, change: Callable[[Machine, list[object]], None]) -> Step:
    """Give the object below the topmost `count` ones (None: below the mark) those objects."""

    def step(machine: Machine, _: object) -> None:
        change(machine, machine.pop_mark() if count is None else _take(machine, count))

    return step


_CONSTANTS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)

# What each opcode does. Left out on purpose: EXT1, EXT2 and EXT4 (a registry of the process),
# PERSID (text ids), NEXT_BUFFER and READONLY_BUFFER (data beside the pickle).
STEPS: Mapping[str, Step] = {
    **dict.fromkeys(_CONSTANTS.split(), _push),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _nothing),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _remember),
    "MEMOIZE": lambda machine, _: _remember(machine, len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _recall),
    "NONE": _push_new(lambda: None),
    "NEWTRUE": _push_new(lambda: True),
    "NEWFALSE": _push_new(lambda: False),
    "EMPTY_TUPLE": _push_new(tuple),
    "EMPTY_LIST": _push_new(list),
    "EMPTY_DICT": _push_new(Dictionary),
    "EMPTY_SET": _push_new(lambda: Opaque("builtins.set", [])),
    "TUPLE1": _push_made(1, tuple),
    "TUPLE2": _push_made(2, tuple),
    "TUPLE3": _push_made(3, tuple),
    "TUPLE": _push_made(None, tuple),
    "LIST": _push_made(None, list),
    "DICT": _push_made(None, lambda items: Dictionary(_pairs(items))),
    "FROZENSET": _push_made(None, lambda items: Opaque("builtins.frozenset", items)),
    "APPEND": _change(1, _append),
    "APPENDS": _change(None, _append),
    "ADDITEMS": _change(None, _append),
    "SETITEM": _change(2, _set_items),
    "SETITEMS": _change(None, _set_items),
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _change(None, lambda _, items: items.clear()),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _reduce),
    "NEWOBJ_EX": _new_with_keywords,
    "INST": _inst,
    "OBJ": _obj,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
