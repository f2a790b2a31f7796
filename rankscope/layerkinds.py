"""Rows by what their matrices are in the network: `value projections, layers 0-23`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rankscope import rolewords
from rankscope.records import Kind
from rankscope.roles import Role, is_number, role_of
from rankscope.rows import Row

# So many runs of consecutive layers are listed; of more, how many layers there are.
MANY_RUNS = 4


@dataclass(frozen=True, slots=True)
class _Key:
    """What the members of a group share; it never holds two kinds of names.

    Attributes:
        stack: the words before the layer's number; () outside of layers.
        role: its name; `` outside of layers.
        below: the words behind the number, or the whole name; `*` for numbers.
    """

    stack: tuple[str, ...]
    role: str
    below: str


def role_keys(name: str, kind: Kind) -> Row:
    """`role` and `depth` of a matrix, as its rows have them; None where its name does not tell."""
    role = role_of(name, kind)
    return {"role": role and role.name, "depth": role and role.depth}


def by_layer_kind(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows grouped by the kind of layer, in the order of first appearance.

    A group is the matrices of one role in the layers of one tower, under a label for people:
    `value projections, decoder layers 0-23`. A name outside of layers, or one that no role is
    known for, is grouped with those that differ in numbers only, as `blobs.*.weight`.

    Args:
        rows: with at least `name`; `kind` where it is known.
    """
    groups: dict[_Key, list[Row]] = defaultdict(list)
    roles: dict[_Key, list[Role]] = defaultdict(list)
    for row in rows:
        role = role_of(row["name"], row.get("kind", "linear"))
        if role is None or role.depth is None or _split_again(role.stack):
            groups[_Key((), "", _pattern(row))].append(row)
        else:
            key = _Key(role.stack, role.name, role.below)
            groups[key].append(row)
            roles[key].append(role)
    towers = _towers({key.stack for key in roles})
    labelled: dict[str, list[Row]] = {}
    for key, members in groups.items():
        label = _label(roles[key], towers[key.stack]) if key in roles else key.below
        # Two kinds of names may come to the same label: the later one keeps its pattern.
        label = _pattern(members[0]) if label in labelled else label
        labelled.setdefault(label, []).extend(members)
    return labelled


def _pattern(row: Row) -> str:
    """The name with every number in it written `*`."""
    return re.sub(r"\d+", "*", row["name"])


def _split_again(stack: tuple[str, ...]) -> bool:
    """Whether layers are counted anew in each of many places, which are no stages."""
    return any(map(is_number, _tower(stack)[0]))


def _tower(stack: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The words that say in which tower the layers are, and in which stage of it, or ``."""
    resnet = rolewords.STAGE.fullmatch(stack[-1]) if stack else None
    if resnet:
        return stack[:-1], resnet[1]
    if len(stack) > 2 and stack[-3] in rolewords.STAGES and is_number(stack[-2]):
        return stack[:-3], stack[-2]
    return stack, ""


def _towers(stacks: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """What stands before the layers' numbers: `layers`, `vision layers`, `stage 2 layers`.

    What all towers share says nothing. Where two would be called the same, they have their own
    names.
    """
    words = {stack: _words(_tower(stack)[0]) for stack in stacks}
    shared = set.intersection(*map(set, words.values())) if words else set()
    called: dict[tuple[str, ...], str] = {}
    for stack in stacks:
        stage = _tower(stack)[1]
        own = [word for word in words[stack] if word not in shared]
        called[stack] = " ".join([*own, *((f"stage {stage}",) if stage else ()), "layers"])
    names = list(called.values())
    return {
        stack: name if names.count(name) == 1 else ".".join(stack) for stack, name in called.items()
    }


def _words(tower: Sequence[str]) -> list[str]:
    """What the words before the layers say: `vision`, `encoder`."""
    return [name for word, name in rolewords.TOWERS if any(map(word.match, tower))]


def _label(roles: Sequence[Role], tower: str) -> str:
    depths = sorted({role.depth for role in roles if role.depth is not None})
    if len(depths) == 1 and tower.endswith("layers") and "." not in tower:
        tower = tower[:-1]
    return f"{roles[0].phrase}, {tower} {ranges(depths)}"


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in short.

    >>> ranges([0, 1, 2, 3, 8])
    '0-3, 8'
    >>> ranges(range(1, 48, 2))
    '1-47 (24 of them)'
    """
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    if len(runs) > MANY_RUNS:
        return f"{numbers[0]}-{numbers[-1]} ({len(numbers)} of them)"
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
