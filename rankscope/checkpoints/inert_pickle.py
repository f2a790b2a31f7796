"""A pickle read as data: nothing is imported, nothing is called, whatever it asks for.

`pickle.Unpickler` with a strict `find_class` would not do: a memo index of 2**32 makes it
allocate 64 GB, and it hashes keys, which takes exponential time for tuples that hold each other
twice. Here an opcode costs one small object at most, keys are never hashed, and a call makes a
node that says what would have been called; calls that are not on the caller's list are refused.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping

from rankscope.checkpoints.inert_nodes import BadPickle, Builder, shown
from rankscope.checkpoints.inert_opcodes import STEPS, Machine

# Ours: a tensor takes 31 opcodes and some 110 bytes in torch's pickles, and the largest released
# models have some 100 000 tensors over all their files; an opcode costs at most some 150 bytes
# of memory.
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
        BadPickle: damaged, too large, or it calls what is not in `builders`.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise BadPickle(f"pickle of {len(data)} bytes, expected at most {MAX_PICKLE_BYTES}")
    machine = Machine(builders, persistent)
    try:
        with warnings.catch_warnings():
            # pickletools undoes escapes in text, and Python warns of unknown ones.
            warnings.simplefilter("ignore")
            _run(machine, data, most_opcodes)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        # What pickletools raises for damage, an empty stack, an unknown memo index.
        raise BadPickle(f"pickle is damaged: {shown(str(error))}") from error
    if len(machine.stack) != 1 or machine.marked:
        raise BadPickle("pickle is damaged: objects are left over at its end")
    return machine.stack[0]


def _run(machine: Machine, data: bytes, most_opcodes: int) -> None:
    """Every opcode up to STOP. Raises ValueError, IndexError or KeyError for damage."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count >= most_opcodes:
            raise BadPickle(f"pickle of more than {most_opcodes} opcodes")
        step = STEPS.get(opcode.name)
        if step is None:
            raise BadPickle(f"pickle uses {opcode.name}, which no checkpoint needs")
        step(machine, argument)
