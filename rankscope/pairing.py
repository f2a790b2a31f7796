"""Which matrix of one model is which of another: by name, and where a name is gone, by content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
        tied: from a name that only one has to the matrix that it is tied to, which stands in both
            and is equal: an output layer that shares the embedding's weights, or the reverse.
    """

    common: tuple[str, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    renamed: Mapping[str, str]
    tied: Mapping[str, str]


def pair(before: Mapping[str, Row], after: Mapping[str, Row]) -> Pairing:
    """Pair matrices by name, then those that are left by content.

    Args:
        before: rows by name, with `content`, a digest or None, `shape` and the readings.
        after: likewise.
    """
    common = tuple(name for name in after if name in before)
    gone = [name for name in before if name not in after]
    fresh = [name for name in after if name not in before]
    shared = _by_content(before, common), _by_content(after, common)
    new = _by_content(after, fresh)
    tied: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for name in gone:
        content = _content(before[name])
        # Tied then, or, where the weights have moved on, still equal to what it was tied to.
        twin = shared[0].get(content) or shared[1].get(content)
        if twin is not None and (_embeds(name, before[name]) or _embeds(twin, after[twin])):
            tied[name] = twin
        elif content in new:
            renamed[name] = new.pop(content)
    taken = set(renamed.values())
    for name in fresh:
        twin = shared[1].get(_content(after[name]))
        if name in taken or twin is None:
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
