"""The Hugging Face hub through its own client: what its paths name, and in which version.

`hf://org/model@step1000/model.safetensors`: a repository, a branch, tag or commit of it (the branch
`main` if none is given), and a path in it. A slash in the name of a revision is written %2F, but in
`refs/pr/1`. The client finds the hub, the token and its own settings by itself, in the environment
and in what `hf auth login` wrote.

A revision is resolved to its commit once, and everything of it is read at that commit: `pinned`. A
push in the middle of an analysis then changes nothing of it. What is shown stays what was written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from rankscope.errors import InputRejected, UsageError
from rankscope.extras import needs
from rankscope.places import HUB, RemotePath, place
from rankscope.remote.hubanswers import HubRefused, asked, first_line, quiet, refusal
from rankscope.text import natural, nearest

if TYPE_CHECKING:
    from huggingface_hub import HfUri

Where = TypeVar("Where", bound=RemotePath)

COMMIT = re.compile(r"[0-9a-f]{40}")  # the name of a commit, as git writes it in full

KNOWN_COMMITS = 2**16  # of as many revisions; no repository is known with a tenth of it


def pinned(path: Where) -> Where:
    """The same path at the commit that its revision stood for when this was asked first.

    What lies at a commit never changes. A path that names one is returned without a request.

    Raises:
        HubRefused: there is no such repository or revision, or the hub does not tell.
    """
    uri = _parsed(path)
    if uri.is_bucket or _is_commit(uri.revision):
        return path
    return _at(path, _commit(uri.type, uri.id, uri.revision))


def forget_pins() -> None:
    """Ask anew what revisions stand for: another analysis begins in this process."""
    _commit.cache_clear()


def revisions(repository: PurePath | str, pattern: str) -> list[RemotePath]:
    """The same path in every branch and tag whose name matches a glob, naturally ordered.

    Args:
        repository: as `hf://org/model`, or a path in it; without a revision.
        pattern: as of a shell, `step*`; capitals matter.

    Raises:
        UsageError: the path is none of the hub's, has a revision already, or none matches.
        InputRejected: there is no such repository, or the hub does not tell.
    """
    path = place(repository)
    if not isinstance(path, RemotePath) or not path.on_hub:
        raise UsageError(f"{path}: has no revisions, expected a path as hf://org/model")
    try:
        uri = _parsed(path)
        if uri.is_bucket:
            raise UsageError(f"{path}: a bucket has no revisions, expected a repository")
        if uri.revision is not None:
            given = f"names the revision {uri.revision!r} already"
            raise UsageError(f"{path}: {given}, expected it without one")
        names = _names(uri.type, uri.id)
    except OSError as error:
        raise InputRejected(path, error.strerror or first_line(error)) from error
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        hint = _nearest(pattern, names)
        raise UsageError(
            f"{path}: none of its {len(names)} branches and tags matches {pattern!r}{hint}"
        )
    return [_at(path, name) for name in found]


def without_revision(path: Where) -> tuple[Where, str]:
    """A path without its revision, and that; "" where it has none.

    Raises:
        HubRefused: it names no repository.
    """
    uri = _parsed(path)
    return _at(path, None), uri.revision or ""


def tag(info: Mapping[str, Any]) -> str:
    """What tells a file's content from every other: its SHA-256, or git's name of it.

    The same in every commit that holds the same file.

    Args:
        info: of a file, as `HfFileSystem.info` gives it.
    """
    large = info.get("lfs")
    return str(info.get("blob_id") or "") if large is None else str(large.sha256)


def _parsed(path: RemotePath) -> HfUri:
    needs("reading hf://", "huggingface_hub", "remote")
    from huggingface_hub import parse_hf_uri

    quiet()  # also in a worker, which is given commits and asks for nothing but ranges
    try:
        return parse_hf_uri(path.url)
    except ValueError as error:
        raise HubRefused(refusal(error) or first_line(error)) from error


def _is_commit(revision: str | None) -> bool:
    return revision is not None and COMMIT.fullmatch(revision) is not None


def _at(path: Where, revision: str | None) -> Where:
    """The same kind of path, at another revision, as the client takes it apart again."""
    uri = _parsed(path)
    kinds = {"model": "", "bucket": "buckets/"}
    root = f"{HUB}://{kinds.get(uri.type, f'{uri.type}s/')}{uri.id}"
    if revision is not None:
        root += "@" + revision.replace("%", "%25").replace("/", "%2F")
    return type(path)(root) / uri.path_in_repo


@lru_cache(maxsize=KNOWN_COMMITS)  # one answer for all of an analysis; see `forget_pins`
def _commit(kind: str, repository: str, revision: str | None) -> str:
    """The commit that a revision stands for."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        found = asked(lambda: HfApi().repo_info(repository, revision=revision, repo_type=kind))
    except HubRefused as error:
        if not isinstance(error.__cause__, RevisionNotFoundError):
            raise
        hint = _nearest(str(revision), _names_or_none(kind, repository))
        raise HubRefused(f"no branch, tag or commit {revision!r}{hint}") from error
    if not _is_commit(found.sha):
        raise HubRefused(f"the hub names no commit of it, but {found.sha!r}")
    return str(found.sha)


def _names(kind: str, repository: str) -> list[str]:
    """The names of a repository's branches and tags, naturally ordered."""
    from huggingface_hub import HfApi

    refs = asked(lambda: HfApi().list_repo_refs(repository, repo_type=kind))
    return sorted({one.name for one in (*refs.branches, *refs.tags)}, key=natural)


def _names_or_none(kind: str, repository: str) -> list[str]:
    try:
        return _names(kind, repository)
    except HubRefused:
        return []


def _nearest(name: str, names: list[str]) -> str:
    near = nearest(name, names)
    return f"; the nearest: {', '.join(near)}" if near else ""
