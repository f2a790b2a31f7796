"""A pickle read as data: nothing is imported, nothing is called, whatever it asks for.

`pickle.Unpickler` with a strict `find_class` would not do: a memo index of 2**32 makes it
allocate 64 GB, and it hashes keys, which takes exponential time for tuples that hold each other
twice. Here an opcode costs one small object at most, keys are never hashed, and a call makes a
node that says what would have been called; calls that are not on the caller's list are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from rankscope.checkpoints.inert_arguments import CODES, NAMES, READERS, Reader
from rankscope.checkpoints.inert_machine import Machine
from rankscope.checkpoints.inert_nodes import BadPickle, Builder, TooLarge, shown
from rankscope.checkpoints.inert_opcodes import STEPS, STEPS_WITH, Step, StepWith

# Ours: a tensor takes 31 opcodes and some 110 bytes in torch's pickles, and the largest released
# models have some 100 000 tensors over all their files.
MAX_PICKLE_BYTES = 64_000_000
MAX_OPCODES = 3_000_000


def interpret(
    data: bytes,
    builders: Mapping[str, Builder],
    persistent: Callable[[object], object],
    most_opcodes: int = MAX_OPCODES,
) -> object:
    """The object in a pickle, built from inert nodes.

    Args:
        data: the pickle.
        builders: what may be called, by dotted name, and what makes the node for it.
        persistent: turns a persistent id into a node.
        most_opcodes: how many there may be.

    Returns:
        None, bool, int, float, str, bytes, list, tuple, Global, Dictionary, Opaque, or what
        `builders` and `persistent` return, nested; may contain itself.

    Raises:
        BadPickle: damaged, too large (`TooLarge`), or it calls what is not in `builders`.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise TooLarge(f"pickle of {len(data)} bytes, expected at most {MAX_PICKLE_BYTES}")
    machine = Machine(builders, persistent)
    try:
        _run(machine, data, most_opcodes)
    except (ValueError, IndexError, KeyError, OverflowError, struct.error) as error:
        # What a bad argument, its end, an empty stack, an unknown memo index raise.
        raise BadPickle(f"pickle is damaged: {shown(str(error))}") from error
    if len(machine.stack) != 1 or machine.marked:
        raise BadPickle("pickle is damaged: objects are left over at its end")
    return machine.stack[0]


def _refusal(code: int) -> Callable[..., None]:
    """What an opcode does that is not on the list, whether it has an argument or not."""

    def step(_: Machine, __: object = None) -> None:
        if code in NAMES:
            raise BadPickle(f"pickle uses {NAMES[code]}, which no checkpoint needs")
        raise ValueError(f"opcode {bytes([code])!r} is unknown")

    return step


def _with_argument(code: int) -> tuple[Reader, StepWith] | None:
    read = READERS.get(code)
    return None if read is None else (read, STEPS_WITH.get(NAMES[code]) or _refusal(code))


# By the opcode's byte.
_STEPS: tuple[Step, ...] = tuple(
    STEPS.get(NAMES.get(code, "")) or _refusal(code) for code in range(256)
)
_STEPS_WITH = tuple(map(_with_argument, range(256)))
_STOP = CODES["STOP"]


def _run(machine: Machine, data: bytes, most_opcodes: int) -> None:
    """Every opcode up to STOP. Raises ValueError, IndexError, KeyError or struct.error for damage.

    A turn of this loop is what opening a large checkpoint spends its time on.
    """
    at, end, steps, steps_with = 0, len(data), _STEPS, _STEPS_WITH  # locals are faster
    for _ in range(most_opcodes):
        if at >= end:
            raise ValueError("it ends before STOP")
        code = data[at]
        at += 1
        found = steps_with[code]
        if found is None:
            steps[code](machine)
        else:
            read, step = found
            argument, at = read(data, at)
            step(machine, argument)
        if code == _STOP:
            return
    raise TooLarge(f"pickle of more than {most_opcodes} opcodes")
