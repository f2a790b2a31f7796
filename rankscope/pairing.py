"""Which matrix of one model is which of another: by name, and where a name is gone, by content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rankscope.matrices import tensor_of
from rankscope.roles import role_of
from rankscope.rows import Row

# What models tie. Other matrices may be equal too, and are two to the model: one that was deepened
# by repeating its layers, and has lost one, has lost one.
TIED_ROLES = frozenset({"embedding", "head"})


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two models' matrices side by side.

    Attributes:
        common: names that stand in both, in the order of the second.
        removed: names of the first that the second has not got, in the order of the first.
        added: names of the second that the first has not got.
        renamed: from the old name to the new one, content equal.
        tied: from a name that only one has to the matrix that it is tied to: as the files of the
            other one tell, or, of an output layer that shares the embedding's weights, one that
            stands in both and is equal.
    """

    common: tuple[str, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    renamed: Mapping[str, str]
    tied: Mapping[str, str]


def pair(
    before: Mapping[str, Row],
    after: Mapping[str, Row],
    told: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
) -> Pairing:
    """Pair matrices by name, then by what files tell, and those that are left by content.

    Args:
        before: rows by name, with `content`, a digest or None, `shape` and the readings.
        after: likewise.
        told: for each of them further names of its tensors, and which each is of.
    """
    common = tuple(name for name in after if name in before)
    gone = [name for name in before if name not in after]
    fresh = [name for name in after if name not in before]
    shared = _by_content(before, common), _by_content(after, common)
    new = _by_content(after, fresh)
    tied: dict[str, str] = {}
    renamed: dict[str, str] = {}
    taken: set[str] = set()
    kept = {first: further for further, first in told[0].items() if further in after}
    for name in gone:
        content = _content(before[name])
        stored = stored_as(name, told[1]) or stored_as(name, kept)
        if stored is not None and stored in after:
            tied[name] = stored
            if content is not None and new.get(content) == stored:
                taken.add(new.pop(content))
            continue
        # Tied then, or, where the weights have moved on, still equal to what it was tied to.
        twin = shared[0].get(content) or shared[1].get(content)
        if twin is not None and (_embeds(name, before[name]) or _embeds(twin, after[twin])):
            tied[name] = twin
        elif content in new:
            renamed[name] = new.pop(content)
    taken |= set(renamed.values())
    for name in fresh:
        twin = shared[1].get(_content(after[name]))
        stored = stored_as(name, told[0])
        if name not in taken and stored is not None and stored in before:
            tied[name] = stored
        if name in taken or name in tied or twin is None:
            continue
        if _embeds(name, after[name]) or _embeds(twin, after[twin]):
            tied[name] = twin
    return Pairing(
        common,
        tuple(name for name in gone if name not in tied and name not in renamed),
        tuple(name for name in fresh if name not in tied and name not in taken),
        renamed,
        tied,
    )


def stored_as(name: str, told: Mapping[str, str]) -> str | None:
    """The matrix that is stored for one, if the tensor that it is in is told to be tied."""
    tensor = name if name in told else tensor_of(name)
    return told[tensor] + name.removeprefix(tensor) if tensor in told else None


def _embeds(name: str, row: Row) -> bool:
    """Whether a matrix is an embedding, or a head, which may share its weights."""
    role = role_of(name, row["kind"])
    return row["kind"] == "embedding" or (role is not None and role.name in TIED_ROLES)


def _by_content(rows: Mapping[str, Row], names: Sequence[str]) -> dict[str | None, str]:
    """The first of these names for each content; None is nobody's."""
    found: dict[str | None, str] = {}
    for name in names:
        content = _content(rows[name])
        if content is not None:
            found.setdefault(content, name)
    return found


def _content(row: Row) -> str | None:
    """The digest of a matrix that is its own; zeros are anybody's."""
    zero = row.get("frobenius_norm", row.get("spectral_norm")) == 0
    return None if zero or row["status"] != "ok" else row["content"]
