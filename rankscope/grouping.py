"""Several paths, as given on a command line -> series.

Numbered files given one by one are a series; a directory of runs is a series each, a sweep.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from rankscope.checkpoints import find_model
from rankscope.errors import InputRejected
from rankscope.places import RemotePath
from rankscope.presence import children, exists, is_directory, is_file, look_ahead, look_anew, real
from rankscope.records import Skipped
from rankscope.series import (
    RUN_RECORD,
    Series,
    Snapshot,
    discover,
    is_run,
    model_in,
    numbered_models,
    ordered,
    weights_in,
)
from rankscope.stepnames import family, is_unfinished, step_in
from rankscope.text import natural

SWEEP_DEPTH = 3  # how deep below a directory its runs may lie: sweep/seed-0/B-8


def group_files(paths: Sequence[PurePath]) -> list[Series]:
    """Several paths, as given on a command line, to series.

    Numbered files or model directories that stand in one directory and are named alike are one
    series. Files of a directory that nothing orders are a series each, so that they can be told
    apart; so are the runs in a directory of runs.
    """
    look_anew(paths)
    look_ahead(paths)
    paths = [one for path in paths for one in _with_runs(path)]
    groups: dict[tuple[PurePath, str], list[Snapshot]] = defaultdict(list)
    keys: dict[PurePath, tuple[PurePath, str]] = {}
    for path in dict.fromkeys(paths):
        snapshot = _single(path)
        if snapshot is not None:
            where, name = _named(path)
            keys[path] = (where, family(name))
            groups[keys[path]].append(snapshot)
    found: list[Series] = []
    done: set[tuple[PurePath, str]] = set()
    for path in dict.fromkeys(paths):
        key = keys.get(path)
        members = groups[key] if key else []
        if key is None or len({member.step for member in members}) < max(2, len(members)):
            found += _apart(_found(path, alone=len(paths) == 1))
        elif key not in done:
            done.add(key)
            found.append(ordered(key[0], members))
    return found


def _with_runs(path: PurePath) -> list[PurePath]:
    """The path itself, or the runs in a directory of runs (a sweep), and its own weights if any."""
    if not is_directory(path) or is_run(path):
        return [path]
    found = sorted(_runs_below(path, SWEEP_DEPTH), key=lambda run: natural(str(run)))
    # A link such as `latest` to one of them is no further run.
    own = {real(run): run for run in reversed(found)}
    own |= {real(run): run for run in found if not _by_link(run, path)}
    runs = [run for run in found if run == own[real(run)]]
    holds_more = any(weights_in(path)) or find_model(path) is not None or numbered_models(path)[0]
    return [*([path] if holds_more or not runs else []), *runs]


def _by_link(path: PurePath, directory: PurePath) -> bool:
    """Whether a link leads from a directory to a path below it."""
    straight = os.path.join(real(directory), path.relative_to(directory))
    return real(path) != straight


def _runs_below(directory: PurePath, depth: int) -> Iterator[PurePath]:
    for child in _folders(directory):
        if is_unfinished(child.name):
            continue
        if exists(child / RUN_RECORD):
            yield child
        # Behind a URL each look takes a request, and a numbered folder is a snapshot of many.
        elif depth > 1 and not (isinstance(child, RemotePath) and step_in(child.name) is not None):
            yield from _runs_below(child, depth - 1)


def _folders(directory: PurePath) -> list[PurePath]:
    """The directories in one; what cannot be listed is reported when it is opened."""
    try:
        if isinstance(directory, RemotePath):
            return [child for child in children(directory) if is_directory(child)]
        # Not asked of each child by itself, which takes as long again.
        return [Path(entry.path) for entry in os.scandir(directory) if entry.is_dir()]
    except OSError:
        return []


def _found(path: PurePath, *, alone: bool) -> Series:
    """The series at a path; among several, a run that has just begun is an empty one."""
    try:
        return discover(path)
    except InputRejected as error:
        if alone or not exists(path / RUN_RECORD):
            raise
        return Series(path, (), (Skipped(str(path), error.reason),))


def _single(path: PurePath) -> Snapshot | None:
    """The snapshot that a path is by itself, when its name states a step."""
    step = step_in(_named(path)[1])
    if step is None:
        return None
    if is_directory(path):
        model = None if is_run(path) else model_in(path)
        return None if model is None else Snapshot(model, step)
    return Snapshot(path, step) if is_file(path) else None


def _named(path: PurePath) -> tuple[PurePath, str]:
    """Where a path stands, and what may state its step: its name, or its numbered revision."""
    if isinstance(path, RemotePath) and path.on_hub:
        from rankscope.remote.hub import without_revision

        where, revision = without_revision(path)
        if step_in(revision) is not None:
            return where, revision
    return path.parent, path.name


def _apart(series: Series) -> Iterator[Series]:
    """The series itself, or one for each of its snapshots when no step tells them apart."""
    if len(series.snapshots) < 2 or any(one.step is not None for one in series.snapshots):
        yield series
        return
    for number, snapshot in enumerate(series.snapshots):
        skipped = series.skipped if number == 0 else ()
        yield Series(snapshot.path, (snapshot,), skipped, series.run)
