"""A model in several GGUF files: `NAME-00001-of-00003.gguf` and its siblings, as one checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol

from rankscope.checkpoints.closing import Closing
from rankscope.checkpoints.directory import shard_path
from rankscope.checkpoints.gguf_header import Split
from rankscope.errors import InputRejected
from rankscope.places import place
from rankscope.presence import exists
from rankscope.records import Checkpoint, Listing, MatrixSpec, Skipped

if TYPE_CHECKING:
    from rankscope.records import Stored

# SPLIT_PREFIX of llama.cpp: "%s-%05d-of-%05d.gguf".
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class OpenPart(Checkpoint, Protocol):
    """An open file that may be a part of a model."""

    @property
    def split(self) -> Split:
        """Which part it is."""


def assembled(given: OpenPart, open_part: Callable[[PurePath], OpenPart]) -> Checkpoint:
    """The model that an open file is a part of; the file itself where it is all of it.

    Raises:
        InputRejected: a sibling is not sound, or is a part of another model. `given` is closed.
    """
    path = place(given.listing.files[0])
    named = PART.search(path.name)
    if given.split.count == 1 and (named is None or int(named[2]) <= 1):
        return given
    parts = {given.split.number: given}
    try:
        missing = _alone(path, given.split, named)
        if missing is None:
            missing = _open_siblings(path, parts, open_part)
        return SplitCheckpoint(path, [parts[number] for number in sorted(parts)], missing)
    except BaseException:
        for part in parts.values():
            part.close()
        raise


def _alone(path: PurePath, split: Split, named: re.Match[str] | None) -> Skipped | None:
    """What to say of a part whose name does not lead to its siblings; None where it does."""
    if split.count == 1:
        reason = "is named as a part of a model, and does not say of which"
        return Skipped(path.name, reason, unnamed=True)
    if named is None or (int(named[1]), int(named[2])) != (split.number + 1, split.count):
        reason = (
            f"is part {split.number + 1} of {split.count}; the others are found by names that end "
            f"in -{split.number + 1:05d}-of-{split.count:05d}.gguf"
        )
        return Skipped(path.name, reason, unnamed=True)
    return None


def _open_siblings(
    path: PurePath, parts: dict[int, OpenPart], open_part: Callable[[PurePath], OpenPart]
) -> Skipped | None:
    """Add what lies beside the one part that there is; tells what does not."""
    (own,) = (part.split for part in parts.values())
    stem = PART.sub("", path.name)
    missing = []
    for number in range(own.count):
        name = f"{stem}-{number + 1:05d}-of-{own.count:05d}.gguf"
        if number == own.number:
            continue
        sibling = shard_path(path, name)
        if not exists(sibling):
            missing.append(name)
            continue
        parts[number] = open_part(sibling)
        found, expected = parts[number].split, replace(own, number=number)
        if found != expected:
            reason = f"says that it is {_told(found)}, expected {_told(expected)}"
            raise InputRejected(sibling, reason)
    if not missing:
        return None
    reason = f"is not there (parts missing: {len(missing)} of {own.count})"
    return Skipped(missing[0], reason, unnamed=True)


def _told(split: Split) -> str:
    return f"part {split.number + 1} of {split.count} of a model of {split.tensors} tensors"


def names_in(listing: Listing) -> list[str]:
    """Everything that stands in a header."""
    return [item.name for item in listing.tensors] + [item.name for item in listing.skipped]


class SplitCheckpoint(Closing):
    """A `Checkpoint` over the parts of a model that there are."""

    def __init__(self, path: PurePath, parts: Sequence[OpenPart], missing: Skipped | None) -> None:
        """Put parts together.

        Args:
            path: the part that was asked for.
            parts: open ones, in their order.
            missing: what to say of the others; None when all are there.

        Raises:
            InputRejected: a tensor stands in two parts, or there are fewer than all should hold.
        """
        self._parts = parts
        self._home: dict[str, OpenPart] = {}
        listings = [part.listing for part in parts]
        for part in parts:
            for name in names_in(part.listing):
                other = self._home.setdefault(name, part)
                if other is not part:
                    raise InputRejected(
                        part.listing.path, f"stands in {other.listing.path} too", tensor=name
                    )
        promised = parts[0].split.tensors
        if missing is None and promised not in (None, len(self._home)):
            raise InputRejected(
                path, f"all parts hold {len(self._home)} tensors, expected {promised}"
            )
        self._listing = Listing(
            str(path),
            listings[0].format,
            tuple(tensor for listing in listings for tensor in listing.tensors),
            tuple(item for listing in listings for item in listing.skipped),
            () if missing is None else (missing,),
            tuple(file for listing in listings for file in listing.files),
            tuple(dict.fromkeys(hint for listing in listings for hint in listing.hints)),
        )

    @property
    def listing(self) -> Listing:
        """What all parts hold together."""
        return self._listing

    def read(self, spec: MatrixSpec, rows: slice, columns: slice) -> Stored:
        """A window of a matrix; see `Checkpoint.read`."""
        return self._home[spec.tensor].read(spec, rows, columns)

    def close(self) -> None:
        """Close all parts."""
        for part in self._parts:
            part.close()
