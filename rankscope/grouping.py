"""Several paths, as given on a command line -> series.

Numbered files given one by one are a series; a directory of runs is a series each, a sweep.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from rankscope.checkpoints.directory import find_model
from rankscope.errors import InputRejected
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


def group_files(paths: Sequence[Path]) -> list[Series]:
    """Several paths, as given on a command line, to series.

    Numbered files or model directories that stand in one directory and are named alike are one
    series. Files of a directory that nothing orders are a series each, so that they can be told
    apart; so are the runs in a directory of runs.
    """
    paths = [one for path in paths for one in _with_runs(path)]
    groups: dict[tuple[Path, str], list[Snapshot]] = defaultdict(list)
    keys: dict[Path, tuple[Path, str]] = {}
    for path in dict.fromkeys(paths):
        snapshot = _single(path)
        if snapshot is not None:
            keys[path] = (path.parent, family(path.name))
            groups[keys[path]].append(snapshot)
    found: list[Series] = []
    done: set[tuple[Path, str]] = set()
    for path in dict.fromkeys(paths):
        key = keys.get(path)
        members = groups[key] if key else []
        if key is None or len({member.step for member in members}) < max(2, len(members)):
            found += _apart(_found(path, alone=len(paths) == 1))
        elif key not in done:
            done.add(key)
            found.append(ordered(path.parent, members))
    return found


def _with_runs(path: Path) -> list[Path]:
    """The path itself, or the runs in a directory of runs (a sweep), and its own weights if any."""
    if not os.path.isdir(path) or is_run(path):
        return [path]
    found = sorted(_runs_below(path, SWEEP_DEPTH), key=lambda run: natural(str(run)))
    # A link such as `latest` to one of them is no further run.
    own = {os.path.realpath(run): run for run in reversed(found)}
    own |= {os.path.realpath(run): run for run in found if not _by_link(run, path)}
    runs = [run for run in found if run == own[os.path.realpath(run)]]
    holds_more = any(weights_in(path)) or find_model(path) is not None or numbered_models(path)[0]
    return [*([path] if holds_more or not runs else []), *runs]


def _by_link(path: Path, directory: Path) -> bool:
    """Whether a link leads from a directory to a path below it."""
    straight = os.path.join(os.path.realpath(directory), path.relative_to(directory))
    return os.path.realpath(path) != straight


def _runs_below(directory: Path, depth: int) -> Iterator[Path]:
    try:
        children = [Path(entry.path) for entry in os.scandir(directory) if entry.is_dir()]
    except OSError:
        return  # what cannot be listed is reported when it is opened
    for child in children:
        if is_unfinished(child.name):
            continue
        if os.path.exists(child / RUN_RECORD):
            yield child
        elif depth > 1:
            yield from _runs_below(child, depth - 1)


def _found(path: Path, *, alone: bool) -> Series:
    """The series at a path; among several, a run that has just begun is an empty one."""
    try:
        return discover(path)
    except InputRejected as error:
        if alone or not os.path.exists(path / RUN_RECORD):
            raise
        return Series(path, (), (Skipped(str(path), error.reason),))


def _single(path: Path) -> Snapshot | None:
    """The snapshot that a path is by itself, when its name states a step."""
    step = step_in(path.name)
    if step is None:
        return None
    if os.path.isdir(path):
        model = None if is_run(path) else model_in(path)
        return None if model is None else Snapshot(model, step)
    return Snapshot(path, step) if os.path.isfile(path) else None


def _apart(series: Series) -> Iterator[Series]:
    """The series itself, or one for each of its snapshots when no step tells them apart."""
    if len(series.snapshots) < 2 or any(one.step is not None for one in series.snapshots):
        yield series
        return
    for number, snapshot in enumerate(series.snapshots):
        skipped = series.skipped if number == 0 else ()
        yield Series(snapshot.path, (snapshot,), skipped, series.run)
