"""A path -> the snapshots behind it, in order of their step.

A file is a series of one. A directory may be a model, a run of ours, or anybody's directory of
numbered checkpoints; docs/run-directory.md lists the layouts. Only names are looked at here.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from rankscope.checkpoints import READERS, find_model, is_weights
from rankscope.checkpoints.directory import INDEX_SUFFIX, SHARD
from rankscope.checkpoints.folders import METADATA, is_state, why_no_model
from rankscope.errors import InputRejected
from rankscope.places import RemotePath, place
from rankscope.presence import can_move, children, exists, is_directory, is_file, look_anew, names
from rankscope.records import Skipped
from rankscope.stepnames import counts_epochs, final_number, is_unfinished, step_in

RUN_RECORD = "run.json"
SNAPSHOTS = "snapshots"

SUFFIXES = tuple(suffix for reader in READERS for suffix in reader.suffixes)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One saved state.

    Attributes:
        path: a file, or the index or `.metadata` of a sharded checkpoint.
        step: the training step, or None when the name tells none.
        base: the model that it is an adapter of, to be merged into; None for what is measured
            as it is.
    """

    path: PurePath
    step: int | None
    base: PurePath | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The snapshots behind one path.

    Attributes:
        path: as given.
        snapshots: ordered by step.
        skipped: files beside them that are no part of the series, with the reason.
        run: the directory with `run.json`, when it is a run of ours.
    """

    path: PurePath
    snapshots: tuple[Snapshot, ...]
    skipped: tuple[Skipped, ...] = ()
    run: PurePath | None = None

    @property
    def counts_epochs(self) -> bool:
        """Whether the steps are epochs, as far as names tell; those of a run of ours are not."""
        if self.run is not None:
            return False
        paths = [one.path for one in self.snapshots if one.step is not None]
        names = (
            path.name if step_in(path.name) is not None else path.parent.name for path in paths
        )
        return any(map(counts_epochs, names))


def discover(path: PurePath | str) -> Series:
    """The series behind a file or a directory.

    Raises:
        InputRejected: nothing is there, or a directory holds nothing that looks like weights.
    """
    path = place(path)
    if not _is_directory(path):
        return Series(path, (Snapshot(path, step_in(path.name)),))
    if is_run(path):
        return _run(path)
    found, skipped = numbered_models(path)
    top = find_model(path)
    if top is None:
        return _with_files(path, found, skipped) if found else _files(path, skipped)
    found = found or _numbered_files(path, top)
    if not found:
        return Series(path, (Snapshot(top, step_in(path.name)),), tuple(skipped))
    skipped.append(Skipped(top.name, "final weights beside checkpoints; give its path"))
    return ordered(path, found, skipped)


def single(path: PurePath | str, *, anew: bool = True) -> Series:
    """The one checkpoint that a path stands for, as commands need it that compare models.

    A model's directory is the model, whatever numbered checkpoints stand beside it.

    Args:
        path: where it is.
        anew: whether another analysis begins with it, as of `presence.look_anew`.

    Raises:
        InputRejected: nothing is there, or several snapshots; the last one's path is named.
    """
    path = place(path)
    if anew:
        look_anew([path])
    searched = _is_directory(path) and not is_run(path)
    model = find_model(path) if searched else None
    if model is not None:
        return Series(path, (Snapshot(model, step_in(path.name)),))
    found = discover(path)
    snapshots = [one.path for one in found.snapshots]
    # A file beside a numbered directory is no snapshot, and may be the one that is meant.
    files = [file for file in weights_in(path) if file not in snapshots] if searched else []
    count = len(snapshots) + len(files)
    if count > 1:
        last = snapshots[-1].parent if snapshots[-1].name == METADATA else snapshots[-1]
        raise InputRejected(
            path, f"holds {count} snapshots, expected one: give its path, as {last}"
        )
    return found


def on_base(all_series: Sequence[Series], base: PurePath | str | None) -> list[Series]:
    """The same series, each snapshot an adapter to be merged into a base model.

    Raises:
        InputRejected: the base is no single model.
    """
    if base is None:
        return list(all_series)
    # What the adapters' own names stand for has been asked anew with them, and holds.
    model = single(base, anew=not any(can_move(one.path) for one in all_series)).snapshots[0].path
    return [
        replace(one, snapshots=tuple(replace(snapshot, base=model) for snapshot in one.snapshots))
        for one in all_series
    ]


def _is_directory(path: PurePath) -> bool:
    """Whether a path that must be there is a directory."""
    try:
        if isinstance(path, RemotePath):
            if not exists(path):
                raise FileNotFoundError
            return is_directory(path)
        return stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError as error:
        raise InputRejected(path, "no such file or directory") from error
    except OSError as error:  # no permission, a name too long
        raise InputRejected(path, f"cannot be opened: {error.strerror}") from error
    except ValueError as error:  # a NUL
        raise InputRejected(path, f"cannot be opened: {error}") from error


def is_run(path: PurePath) -> bool:
    """Whether a directory is a run of ours, or one whose snapshots lie as ours do."""
    if isinstance(path, RemotePath):
        listed = names(path)  # what it does not list, many a web server answers with a page
        if listed and not {RUN_RECORD, SNAPSHOTS} & set(listed):
            return False
    return exists(path / RUN_RECORD) or is_directory(path / SNAPSHOTS)


def _run(path: PurePath) -> Series:
    """A run directory of ours: every committed snapshot, nothing else."""
    folder = path / SNAPSHOTS
    members = _sorted(folder) if is_directory(folder) else []
    files = [one for one in members if is_weights(one.name) and is_file(one)]
    run = path if exists(path / RUN_RECORD) else None
    if files:
        return ordered(path, [Snapshot(file, step_in(file.name)) for file in files], run=run)
    inside = [one.name for one in members if is_directory(one)]
    if inside and run is None:  # Hugging Face's cache of a repository
        raise InputRejected(
            path, f"holds revisions of a model, expected one of them: {SNAPSHOTS}/{inside[0]}"
        )
    raise InputRejected(path, f"a run directory without a snapshot in {SNAPSHOTS}/ yet")


def numbered_models(path: PurePath) -> tuple[list[Snapshot], list[Skipped]]:
    """The models in the numbered directories of a directory, and those that hold none."""
    found: list[Snapshot] = []
    skipped: list[Skipped] = []
    for child in _sorted(path):
        step = step_in(child.name)
        if step is None or not is_directory(child):
            continue
        model = model_in(child)
        if model is None:
            reason = _why_none(child) or "holds no model, or several files of weights"
            skipped.append(Skipped(child.name, reason))
        else:
            found.append(Snapshot(model, step))
    return found, skipped


def _numbered_files(path: PurePath, model: PurePath) -> list[Snapshot]:
    """The series of files that stands beside a model."""
    files = [Snapshot(file, step_in(file.name)) for file in weights_in(path) if file != model]
    numbered = [file for file in files if file.step is not None]
    # One file with a number is a part of the model more often than a series.
    return numbered if len(numbered) > 1 else []


def _with_files(path: PurePath, found: Sequence[Snapshot], skipped: Sequence[Skipped]) -> Series:
    """Numbered directories, the files beside them listed."""
    beside = [
        Skipped(file.name, "a file beside numbered directories; give its path")
        for file in weights_in(path)
    ]
    return ordered(path, found, (*skipped, *beside))


def _files(path: PurePath, skipped: Sequence[Skipped]) -> Series:
    """A directory of files: numbered by a word, numbered at the end, or just several."""
    files = weights_in(path)
    reason = _why_none(path)
    if not files and not reason:
        reason = f"holds no weights, expected files ending in {', '.join(SUFFIXES)}"
        if skipped:  # all that it holds
            reason = f"holds no snapshot; {skipped[-1].name}: {skipped[-1].reason}"
    if reason:
        raise InputRejected(path, reason)
    state = [Skipped(one.name, "a trainer's state") for one in _sorted(path) if is_state(one.name)]
    found = [Snapshot(file, step_in(file.name)) for file in files]
    if all(snapshot.step is None for snapshot in found):
        found = _numbered_alike(files)
    return ordered(path, found, (*skipped, *state))


def _why_none(directory: PurePath) -> str:
    """Why a directory holds no model, where that is known."""
    files = weights_in(directory)
    reason = why_no_model(directory, has_weights=bool(files))
    if not reason and any(SHARD.search(file.name) for file in files):
        reason = f"holds shards without an index, expected a *{INDEX_SUFFIX} too"
    return reason


def _numbered_alike(files: Sequence[PurePath]) -> list[Snapshot]:
    """Files whose names differ in their final number only: `w-10.npz`, `w-20.npz`.

    With two such families, `a-1 a-2 b-1 b-2`, the numbers are no steps of one series.
    """
    families: dict[str, list[Snapshot]] = defaultdict(list)
    for file in files:
        found = final_number(file.stem)
        if found is not None:
            name, number = found
            families[name + file.suffix].append(Snapshot(file, number))
    series = [members for members in families.values() if len(members) > 1]
    steps = {one.path: one for one in series[0]} if len(series) == 1 else {}
    return [steps.get(file, Snapshot(file, None)) for file in files]


def ordered(
    path: PurePath,
    found: Sequence[Snapshot],
    skipped: Sequence[Skipped] = (),
    run: PurePath | None = None,
) -> Series:
    """By step; what has no step among numbered ones, or a step that stands already, is skipped."""
    numbered = any(snapshot.step is not None for snapshot in found)
    if not numbered:
        return Series(path, tuple(found), tuple(skipped), run)
    kept: dict[int, Snapshot] = {}
    left = list(skipped)
    for snapshot in found:
        if snapshot.step is None:
            name = _relative(snapshot, path)
            left.append(Skipped(name, "no step in its name, unlike its neighbours"))
        elif snapshot.step in kept:
            first = _relative(kept[snapshot.step], path)
            left.append(Skipped(_relative(snapshot, path), f"the same step as {first}"))
        else:
            kept[snapshot.step] = snapshot
    return Series(path, tuple(kept[step] for step in sorted(kept)), tuple(left), run)


def _relative(snapshot: Snapshot, path: PurePath) -> str:
    inside = snapshot.path.is_relative_to(path)
    return str(snapshot.path.relative_to(path) if inside else snapshot.path)


def model_in(directory: PurePath) -> PurePath | None:
    """The model of a checkpoint directory: a Hugging Face one, or its only file of weights."""
    model = find_model(directory)
    if model is None:
        files = weights_in(directory)
        # The first shard of several, while the others are being written, is no model.
        model = files[0] if len(files) == 1 and not SHARD.search(files[0].name) else None
    return model


def weights_in(directory: PurePath) -> list[PurePath]:
    """The files of weights in a directory, by their names."""
    return [child for child in _sorted(directory) if is_weights(child.name) and is_file(child)]


def _sorted(directory: PurePath) -> list[PurePath]:
    """What is in a directory and finished, by name."""
    try:
        return sorted(child for child in children(directory) if not is_unfinished(child.name))
    except OSError as error:
        raise InputRejected(directory, f"cannot be listed: {error.strerror}") from error
