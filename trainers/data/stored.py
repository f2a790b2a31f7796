"""The files of a data set found, unpacked in memory within bounds, and checked; not yet decoded.

Nothing is written to disk, and no more is unpacked than the original has.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rankscope.errors import InputRejected
from trainers.data.distributions import Archive, Form, Original, Part, owner


@dataclass(frozen=True, slots=True)
class Stored:
    """The content of one file.

    Attributes:
        path: the file, or the archive that holds it.
        member: its name in the archive, None without one.
        data: unpacked.
    """

    path: Path
    member: str | None
    data: bytes

    def rejected(self, reason: str) -> InputRejected:
        """The error that says what is wrong with it."""
        return InputRejected(self.path, reason, tensor=self.member)


def read_original(
    original: Original, directory: Path, *, verify: bool
) -> tuple[Form, tuple[Stored, ...]]:
    """The files of the first form of a data set that is there, in the order of its parts.

    Raises:
        InputRejected: none is there, one lacks a file, or a file is damaged, too large, of
            another data set, or (when `verify` is set) not the original.
    """
    if not directory.is_dir():
        raise InputRejected(directory, f"is no directory; {_wanted(original)}")
    for form in original.forms:
        for name in form.folders:
            folder = directory / name
            if any(_place(folder, part) for part in form.parts):
                stored = _from_folder(original, form, folder)
                return form, _checked(original, form, stored, verify=verify)
    for form in original.forms:
        archive = form.archive
        if archive and os.path.exists(directory / archive.name):
            stored = _from_archive(form, archive, directory / archive.name)
            return form, _checked(original, form, stored, verify=verify)
    raise InputRejected(directory, f"has no {original.title}: {_wanted(original)}")


def _wanted(original: Original) -> str:
    """What would do, and where it comes from."""
    ways = []
    for form in original.forms:
        names = ", ".join(part.name for part in form.parts)
        folder = f"in {form.folders[0]}/" if form.folders[0] else "there"
        ways.append(f"{names} {folder}")
        if form.archive:
            ways.append(form.archive.name)
    return f"expected {'; or '.join(ways)}; they come from {original.home}"


def _place(folder: Path, part: Part) -> Path | None:
    """Where a file is, gzipped or not; None when it is not there."""
    for path in (folder / part.name, folder / f"{part.name}.gz"):
        if os.path.exists(path):  # Path.exists raises where a folder may not be entered
            return path
    return None


def _from_folder(original: Original, form: Form, folder: Path) -> tuple[Stored, ...]:
    places = [(part, _place(folder, part)) for part in form.parts]
    missing = [part.name for part, path in places if path is None]
    if missing:
        raise InputRejected(
            folder,
            f"lacks {', '.join(missing)} of {original.title} ({form.name}); "
            f"it comes from {original.home}",
        )
    return tuple(Stored(path, None, read_bounded(path, part.size)) for part, path in places if path)


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a file, that of a .gz unpacked.

    Raises:
        InputRejected: no plain file, damaged, or of more than `most` bytes (which are not read).
    """
    if not path.is_file():  # opening a FIFO would wait for ever
        raise InputRejected(path, "is not a plain file")
    try:
        with path.open("rb") as file:
            if path.suffix == ".gz":
                with gzip.open(file) as unpacked:
                    return _at_most(unpacked, path, most)
            return _at_most(file, path, most)
    except (OSError, EOFError, zlib.error) as error:
        # gzip raises OSError for a wrong header or sum, EOFError where the file ends too early.
        raise InputRejected(path, f"cannot be read: {error}") from error


def _at_most(file: BinaryIO | gzip.GzipFile, path: Path, most: int) -> bytes:
    data = file.read(most + 1)
    if len(data) > most:
        raise InputRejected(path, f"has more than {most} bytes, which the original has at most")
    return data


def _from_archive(form: Form, archive: Archive, path: Path) -> tuple[Stored, ...]:
    """The members by their exact names; anything else in the archive is left alone."""
    # Unpacked first, as tarfile would read a member's extended header however large it is.
    unpacked = io.BytesIO(read_bounded(path, archive.size))
    found = []
    try:
        with tarfile.open(fileobj=unpacked, mode="r:") as tar:
            for part in form.parts:
                member = f"{archive.folder}/{part.name}"
                found.append(Stored(path, member, _member(tar, path, member, part.size)))
    except tarfile.TarError as error:
        raise InputRejected(path, f"is no tar archive: {error}") from error
    return tuple(found)


def _member(tar: tarfile.TarFile, path: Path, name: str, most: int) -> bytes:
    try:
        info = tar.getmember(name)
    except KeyError:
        raise InputRejected(path, "is not in the archive", tensor=name) from None
    # A link would be followed by extractfile.
    file = tar.extractfile(info) if info.isreg() and info.size <= most else None
    if file is None:
        raise InputRejected(
            path,
            f"is no plain file of at most {most} bytes: {info.size} bytes of type {info.type!r}",
            tensor=name,
        )
    return file.read()  # raises TarError where the archive ends too early


def _checked(
    original: Original, form: Form, stored: tuple[Stored, ...], *, verify: bool
) -> tuple[Stored, ...]:
    """The same files, when each is the original; without `verify`, when none is a known other."""
    for part, file in zip(form.parts, stored, strict=True):
        md5 = hashlib.md5(file.data, usedforsecurity=False).hexdigest()
        if md5 == part.md5:
            continue
        known = owner(md5)
        if known:
            other, there = known
            raise file.rejected(
                f"is {there.name} of {other.title}, expected {original.title}'s "
                f"{part.name}; keep {original.title} in a directory of its own, "
                f"such as {form.folders[0]}/"
            )
        if verify:
            raise file.rejected(
                f"has MD5 {md5} ({len(file.data)} bytes unpacked), expected {part.md5} of "
                f"{original.title}'s {part.name}; get it again from {original.home}"
            )
    return stored
