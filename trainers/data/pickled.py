"""A pickle read as data: nothing is imported, nothing is called, whatever it asks for.

Only what a dictionary of lists, text, numbers and numpy arrays takes is understood. Python's own
`pickle.Unpickler` with a strict `find_class` would still allocate what a memo index asks for, and
hash nested keys; here an opcode costs one small object, and keys are text.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# Ours: a batch of CIFAR-10 takes some 30 000, for 10 000 labels and as many file names.
MAX_OPCODES = 200_000

# What a pickled array asks for, and what it is called here. numpy 2 moved the first; the last is
# how Python 3 writes bytes when the protocol is Python 2's.
NAMES: Mapping[str, str] = {
    "numpy.core.multiarray _reconstruct": "_reconstruct",
    "numpy._core.multiarray _reconstruct": "_reconstruct",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}


class BadPickle(ValueError):
    """Damaged, or it holds something else than such data."""


@dataclass(frozen=True, slots=True)
class Name:
    """Something that would have been imported."""

    name: str


@dataclass(slots=True)
class Call:
    """Something that would have been called, and what would then have become its state."""

    name: str
    arguments: tuple[object, ...]
    state: object = None


def interpret(data: bytes) -> object:
    """What is in a pickle: numbers, text, bytes, lists, tuples, dictionaries, Name and Call.

    Text of Python 2 comes as str with one character for each byte.

    Raises:
        BadPickle: damaged, too large, or it asks for something that is none of these.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MAX_OPCODES:
                raise BadPickle(f"pickle of more than {MAX_OPCODES} opcodes")
            if opcode.name in VALUES:
                machine.stack.append(argument)
            elif opcode.name in STEPS:
                STEPS[opcode.name](machine, argument)
            elif opcode.name not in IGNORED:
                raise BadPickle(f"pickle uses {opcode.name}, which such data do not need")
    except BadPickle:
        raise
    except (ValueError, IndexError, KeyError) as error:
        # What pickletools raises for damage, an empty stack, an unknown memo index.
        raise BadPickle(f"pickle is damaged: {error}") from error
    if len(machine.stack) != 1 or machine.marks:
        raise BadPickle("pickle is damaged: objects are left over at its end")
    return machine.stack[0]


@dataclass(slots=True)
class _Machine:
    """The state of pickle's stack machine."""

    stack: list[object] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[object, object] = field(default_factory=dict)

    def above_mark(self) -> list[object]:
        """Everything above the last mark, taken off the stack."""
        start = self.marks.pop()
        if start > len(self.stack):
            raise BadPickle("pickle is damaged: a mark stands above the stack")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def tuple_of(self, count: int) -> None:
        """Replace the last objects by a tuple of them."""
        if count > len(self.stack):
            raise BadPickle("pickle is damaged: the stack is too short")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def extend(self, items: list[object]) -> None:
        """Add to the list on top of the stack."""
        target = self.stack[-1]
        if not isinstance(target, list):
            raise BadPickle("pickle is damaged: it appends to what is no list")
        target.extend(items)

    def set_items(self, items: list[object]) -> None:
        """Add keys and values, in turn, to the dictionary on top of the stack."""
        target, keys = self.stack[-1], items[::2]
        if not isinstance(target, dict) or len(items) % 2:
            raise BadPickle("pickle is damaged: it sets items of what is no dictionary")
        for key, value in zip(keys, items[1::2], strict=True):
            if not isinstance(key, str):
                raise BadPickle("pickle has a dictionary with a key that is no text")
            target[key] = value

    def name(self, name: str) -> None:
        """Note what would be imported."""
        if name not in NAMES:
            raise BadPickle(f"pickle asks for {name.replace(' ', '.')[:80]!r}; nothing was called")
        self.stack.append(Name(NAMES[name]))

    def stack_name(self) -> None:
        """The same, with module and name on the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        self.name(f"{module} {name}" if isinstance(name, str) and isinstance(module, str) else "")

    def call(self) -> None:
        """Note what would be called."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise BadPickle("pickle is damaged: it calls what is no function")
        match function.name, arguments:
            case "encode", (str(text), "latin1"):
                self.stack.append(text.encode("latin-1"))
            case _:
                self.stack.append(Call(function.name, arguments))

    def build(self) -> None:
        """Note the state of what would have been called."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Call):
            raise BadPickle("pickle is damaged: it sets the state of what has none")
        target.state = state


# Opcodes whose argument is the value itself; pickletools turns Python 2's text into latin-1.
VALUES = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1"}
    | {"BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)
IGNORED = frozenset({"PROTO", "FRAME", "STOP"})

STEPS: Mapping[str, Callable[[_Machine, object], None]] = {
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.above_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.above_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.above_mark()),
    "BINPUT": lambda machine, index: machine.memo.update({index: machine.stack[-1]}),
    "LONG_BINPUT": lambda machine, index: machine.memo.update({index: machine.stack[-1]}),
    "MEMOIZE": lambda machine, _: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    "BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "GLOBAL": lambda machine, name: machine.name(str(name)),
    "STACK_GLOBAL": lambda machine, _: machine.stack_name(),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}
