"""The state of the machine that a pickle is a program for, of inert nodes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rankscope.checkpoints.inert_nodes import BadPickle, Builder, Global, TooLarge, build, shown

# Ours: the costliest opcode makes an object of 112 bytes, so that these take 500 MB; the others
# make tuples, numbers and text of 50 bytes at most, or of what the file itself holds.
MAX_OBJECTS = 4_000_000


class Machine:
    """The pickle machine's state: a stack, the stacks below its marks, and the memo.

    Picklers number what they remember from 0 on, so that a list holds it in a tenth of a
    dictionary's memory; numbers that come out of turn, and any far one, go into a dictionary.
    """

    def __init__(
        self, builders: Mapping[str, Builder], persistent: Callable[[object], object]
    ) -> None:
        self.builders = builders
        self.persistent = persistent
        self.stack: list[object] = []
        self.marked: list[list[object]] = []
        self.memo: list[object] = []
        self.far: dict[int, object] = {}
        self.made = 0

    def count(self) -> None:
        """One more object that takes much memory: a list, a dictionary, a call, a mark."""
        self.made += 1
        if self.made > MAX_OBJECTS:
            raise TooLarge(f"pickle of more than {MAX_OBJECTS} lists, dictionaries and calls")

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
        self.count()
        self.stack.append(build(self.builders, function, arguments))
