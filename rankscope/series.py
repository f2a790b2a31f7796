"""A path -> the snapshots behind it, in order of their step.

A file is a series of one. A directory may be a model, a run of ours, or anybody's directory of
numbered checkpoints; docs/run-directory.md lists the layouts. Only names are looked at here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rankscope.checkpoints import READERS
from rankscope.checkpoints.directory import INDEX_SUFFIX, SHARD, find_model
from rankscope.errors import InputRejected
from rankscope.records import Skipped

RUN_RECORD = "run.json"
SNAPSHOTS = "snapshots"

# The words that trainers put before a number, the more telling first: Lightning writes
# `epoch=3-step=100.ckpt`, the Hugging Face Trainer `checkpoint-500`, Pythia `step1000`,
# DeepSpeed `global_step1000`.
STEP_WORDS = ("step", "checkpoint", "ckpt", "iter", "iteration", "epoch")
LAST_NUMBER = re.compile(r"(\d+)(?!.*\d)")

SUFFIXES = tuple(suffix for reader in READERS for suffix in reader.suffixes)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One saved state.

    Attributes:
        path: a file, or the index of a sharded checkpoint.
        step: the training step, or None when the name tells none.
    """

    path: Path
    step: int | None


@dataclass(frozen=True, slots=True)
class Series:
    """The snapshots behind one path.

    Attributes:
        path: as given.
        snapshots: ordered by step.
        skipped: files beside them that are no part of the series, with the reason.
        run: the directory with `run.json`, when it is a run of ours.
    """

    path: Path
    snapshots: tuple[Snapshot, ...]
    skipped: tuple[Skipped, ...] = ()
    run: Path | None = None


def discover(path: Path | str) -> Series:
    """The series behind a file or a directory.

    Raises:
        InputRejected: nothing is there, or a directory holds nothing that looks like weights.
    """
    path = Path(path)
    if not path.exists():
        raise InputRejected(path, "no such file or directory")
    if not path.is_dir():
        return Series(path, (Snapshot(path, step_in(path.name)),))
    if (path / RUN_RECORD).exists() or (path / SNAPSHOTS).is_dir():
        return _run(path)
    numbered = [(child, step_in(child.name)) for child in _sorted(path) if child.is_dir()]
    models = [(_model_in(child), step) for child, step in numbered if step is not None]
    found = [Snapshot(model, step) for model, step in models if model is not None]
    top = find_model(path)
    if found:
        beside = (
            (Skipped(top.name, "final weights beside checkpoints; give its path"),) if top else ()
        )
        return _ordered(path, found, beside)
    if top:
        return Series(path, (Snapshot(top, step_in(path.name)),))
    return _files(path)


def group_files(paths: Sequence[Path]) -> list[Series]:
    """Several paths, as given on a command line: numbered files of one directory are a series."""
    groups: dict[Path, list[Snapshot]] = defaultdict(list)
    for path in paths:
        step = step_in(path.name)
        if path.is_file() and step is not None:
            groups[path.parent].append(Snapshot(path, step))
    found: list[Series] = []
    for path in paths:
        members = groups.get(path.parent, [])
        if len(members) < 2 or not any(member.path == path for member in members):
            found.append(discover(path))
        elif members[0].path == path:
            found.append(_ordered(path.parent, members))
    return found


def step_in(name: str) -> int | None:
    """The step that a file or directory name states, by one of `STEP_WORDS` before a number.

    >>> step_in("epoch=3-step=100.ckpt"), step_in("checkpoint-500"), step_in("resnet18.pt")
    (100, 500, None)
    """
    for word in STEP_WORDS:
        match = re.search(rf"{word}s?[-_=.]?(\d+)", name, re.IGNORECASE)
        if match:
            return int(match.group(1))
    return None


def _run(path: Path) -> Series:
    """A run directory of ours: every committed snapshot, nothing else."""
    folder = path / SNAPSHOTS
    files = [child for child in _sorted(folder) if child.is_file()] if folder.is_dir() else []
    found = [Snapshot(child, step_in(child.name)) for child in files if _is_weights(child)]
    if not found:
        raise InputRejected(path, f"a run directory without a snapshot in {SNAPSHOTS}/ yet")
    run = path if (path / RUN_RECORD).exists() else None
    return _ordered(path, found, run=run)


def _files(path: Path) -> Series:
    """A directory of files: numbered by a word, numbered at the end, or just several."""
    files = [child for child in _sorted(path) if child.is_file() and _is_weights(child)]
    if not files:
        raise InputRejected(
            path, f"holds no weights, expected files ending in {', '.join(SUFFIXES)}"
        )
    if any(SHARD.search(file.name) for file in files):
        raise InputRejected(path, f"holds shards without an index, expected a *{INDEX_SUFFIX} too")
    if len(files) == 1:
        return Series(path, (Snapshot(files[0], step_in(files[0].name)),))
    found = [Snapshot(file, step_in(file.name)) for file in files]
    if all(snapshot.step is None for snapshot in found):
        found = _numbered_alike(files)
    return _ordered(path, found)


def _numbered_alike(files: Iterable[Path]) -> list[Snapshot]:
    """Files whose names differ in their last number only: `w10.npz`, `w20.npz`."""
    families: dict[str, list[Snapshot]] = defaultdict(list)
    for file in files:
        match = LAST_NUMBER.search(file.stem)
        if match:
            family = LAST_NUMBER.sub("#", file.stem) + file.suffix
            families[family].append(Snapshot(file, int(match.group(1))))
    steps = {s.path: s for members in families.values() if len(members) > 1 for s in members}
    return [steps.get(file, Snapshot(file, None)) for file in files]


def _ordered(
    path: Path, found: Sequence[Snapshot], skipped: Sequence[Skipped] = (), run: Path | None = None
) -> Series:
    """By step; what has no step among numbered ones, or a step that stands already, is skipped."""
    numbered = any(snapshot.step is not None for snapshot in found)
    if not numbered:
        return Series(path, tuple(found), tuple(skipped), run)
    kept: dict[int, Snapshot] = {}
    left = list(skipped)
    for snapshot in found:
        if snapshot.step is None:
            left.append(Skipped(snapshot.path.name, "no step in its name, unlike its neighbours"))
        elif snapshot.step in kept:
            first = kept[snapshot.step].path.name
            left.append(Skipped(snapshot.path.name, f"the same step as {first}"))
        else:
            kept[snapshot.step] = snapshot
    return Series(path, tuple(kept[step] for step in sorted(kept)), tuple(left), run)


def _model_in(directory: Path) -> Path | None:
    """The model of a checkpoint directory: a Hugging Face one, or its only file of weights."""
    model = find_model(directory)
    if model is None:
        files = [child for child in _sorted(directory) if child.is_file() and _is_weights(child)]
        model = files[0] if len(files) == 1 else None
    return model


def _is_weights(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) and not path.name.startswith(".")


def _sorted(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        raise InputRejected(directory, f"cannot be listed: {error.strerror}") from error
