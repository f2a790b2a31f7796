"""What each opcode of a pickle does to the machine that reads it as data.

Meanings: the documentation in Python's own `pickletools.py`, protocols 0 to 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rankscope.checkpoints.inert_machine import Machine
from rankscope.checkpoints.inert_nodes import BadPickle, Dictionary, Global, Opaque

# Ours: random generators' states are the widest integers in checkpoints, 128 bits (PCG64).
MAX_INTEGER_BITS = 2048

Step = Callable[[Machine], None]
StepWith = Callable[[Machine, Any], None]  # given the opcode's argument, of its own type


def _push(machine: Machine, argument: object) -> None:
    machine.stack.append(argument)


def _push_integer(machine: Machine, argument: int) -> None:
    if argument.bit_length() > MAX_INTEGER_BITS:
        raise BadPickle(f"pickle holds an integer of {argument.bit_length()} bits")
    machine.stack.append(argument)


def _pop(machine: Machine) -> None:
    # POP discards a mark when nothing is above it.
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _mark(machine: Machine) -> None:
    machine.count()
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


def _paired(items: list[object]) -> list[object]:
    if len(items) % 2:
        raise BadPickle("pickle is damaged: a key without a value")
    return items


def _set_items(machine: Machine, items: list[object]) -> None:
    target = machine.stack[-1]
    if isinstance(target, Dictionary):
        target.items.extend(_paired(items))
    elif isinstance(target, Opaque):
        target.parts.append(Dictionary(_paired(items)))
    else:
        raise BadPickle(f"pickle sets a key of a {type(target).__name__}, expected a dictionary")


def _build(machine: Machine) -> None:
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


def _global(machine: Machine, argument: str) -> None:
    # The two lines are joined by a space; no module's name holds one.
    machine.stack.append(Global(argument.replace(" ", ".", 1)))


def _stack_global(machine: Machine) -> None:
    module, name = _take(machine, 2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise BadPickle("pickle names a global by something other than text")
    machine.stack.append(Global(f"{module}.{name}"))


def _reduce(machine: Machine) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    machine.call(function, arguments)


def _new_with_keywords(machine: Machine) -> None:
    kind, arguments, keywords = _take(machine, 3)
    if not isinstance(arguments, tuple):
        raise BadPickle("pickle is damaged: arguments that are not a tuple")
    machine.call(kind, (*arguments, keywords))


def _inst(machine: Machine, argument: str) -> None:
    arguments = tuple(machine.pop_mark())
    _global(machine, argument)
    machine.call(machine.stack.pop(), arguments)


def _obj(machine: Machine) -> None:
    kind, *arguments = machine.pop_mark() or [None]
    machine.call(kind, tuple(arguments))


def _memoize(machine: Machine) -> None:
    if machine.far:
        _remember(machine, len(machine.memo) + len(machine.far))
    else:
        machine.memo.append(machine.stack[-1])


def _remember(machine: Machine, index: int) -> None:
    thing = machine.stack[-1]
    if index == len(machine.memo):
        machine.memo.append(thing)
        machine.far.pop(index, None)
    elif 0 <= index < len(machine.memo):
        machine.memo[index] = thing
    elif index < 0:
        raise ValueError(f"memo index {index}")
    else:
        machine.far[index] = thing


def _recall(machine: Machine, index: int) -> None:
    if 0 <= index < len(machine.memo):
        machine.stack.append(machine.memo[index])
    else:
        machine.stack.append(machine.far[index])


def _persistent(machine: Machine) -> None:
    machine.stack.append(machine.persistent(machine.stack.pop()))


def _nothing(machine: Machine) -> None:
    """STOP ends the loop by itself."""


def _pass_over(machine: Machine, argument: object) -> None:
    """PROTO and FRAME say how to read, which the opcodes tell too."""


def _push_constant(value: object) -> Step:
    return lambda machine: machine.stack.append(value)


def _push_new(make: Callable[[], object]) -> Step:
    """Push a fresh object."""

    def step(machine: Machine) -> None:
        machine.count()
        machine.stack.append(make())

    return step


def _push_made(count: int | None, make: Callable[[list[object]], object]) -> Step:
    """Push what is made of the topmost `count` objects, None for those above the mark."""

    def step(machine: Machine) -> None:
        items = machine.pop_mark() if count is None else _take(machine, count)
        machine.stack.append(make(items))

    return step


def _change(count: int | None, change: Callable[[Machine, list[object]], None]) -> Step:
    """Give the object below the topmost `count` ones (None: below the mark) those objects."""

    def step(machine: Machine) -> None:
        change(machine, machine.pop_mark() if count is None else _take(machine, count))

    return step


_CONSTANTS = (
    "BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)

# What each opcode does that has an argument. Left out on purpose, here and below: EXT1, EXT2 and
# EXT4 (a registry of the process), PERSID (text ids), NEXT_BUFFER and READONLY_BUFFER (data
# beside the pickle).
STEPS_WITH: Mapping[str, StepWith] = {
    **dict.fromkeys(_CONSTANTS.split(), _push),
    **dict.fromkeys(("INT", "LONG", "LONG1", "LONG4"), _push_integer),
    **dict.fromkeys(("PROTO", "FRAME"), _pass_over),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _recall),
    "GLOBAL": _global,
    "INST": _inst,
}

# What each opcode does that has none.
STEPS: Mapping[str, Step] = {
    "STOP": _nothing,
    "MEMOIZE": _memoize,
    "NONE": _push_constant(None),
    "NEWTRUE": _push_constant(True),
    "NEWFALSE": _push_constant(False),
    "EMPTY_TUPLE": _push_constant(()),
    "EMPTY_LIST": _push_new(list),
    "EMPTY_DICT": _push_new(Dictionary),
    "EMPTY_SET": _push_new(lambda: Opaque("builtins.set", [])),
    "TUPLE1": _push_made(1, tuple),
    "TUPLE2": _push_made(2, tuple),
    "TUPLE3": _push_made(3, tuple),
    "TUPLE": _push_made(None, tuple),
    "LIST": _push_made(None, list),
    "DICT": _push_made(None, lambda items: Dictionary(_paired(items))),
    "FROZENSET": _push_made(None, lambda items: Opaque("builtins.frozenset", items)),
    "APPEND": _change(1, _append),
    "APPENDS": _change(None, _append),
    "ADDITEMS": _change(None, _append),
    "SETITEM": _change(2, _set_items),
    "SETITEMS": _change(None, _set_items),
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _change(None, lambda _, items: items.clear()),
    "DUP": lambda machine: machine.stack.append(machine.stack[-1]),
    "STACK_GLOBAL": _stack_global,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _reduce),
    "NEWOBJ_EX": _new_with_keywords,
    "OBJ": _obj,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
