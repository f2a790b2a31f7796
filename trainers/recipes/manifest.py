"""What a recipe's runs are, kept beside them: `runs/P1-F2.json`, so that its figure can be drawn.

Whoever ran a recipe at another scale or on other data need not say so again to draw it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from rankscope.errors import InputRejected, OutputFailed
from trainers.recipes.records import Drawing, Recipe

SCHEMA = "rankscope/recipe/1"

Label = str | int | float | bool | None  # what an attribute of `Args` may be, and JSON may hold


@dataclass(frozen=True, slots=True)
class Member:
    """One run of a panel.

    Attributes:
        run: its directory, below the runs directory.
        labels: the values of what varies in the panel, by the names of `Args`.
        epochs: how many it has done when it is finished.
    """

    run: str
    labels: Mapping[str, Label]
    epochs: int


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that stand in one pair of axes.

    Attributes:
        title: what they have in common.
        vary: the names of what varies; they are keys of every run's labels.
        runs: in the order in which they are shown.
    """

    title: str
    vary: tuple[str, ...]
    runs: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A recipe as far as its figure needs it; the attributes are those of `Recipe`."""

    recipe: str
    title: str
    drawing: Drawing
    panels: tuple[Group, ...]
    eps: tuple[float, ...]
    accuracies: bool


def manifest_path(name: str, runs: Path) -> Path:
    """Where the manifest of a recipe lies, `runs` being the directory of its runs."""
    return runs / f"{name}.json"


def manifest_of(recipe: Recipe) -> Manifest:
    """The manifest of a recipe whose runs' `out` are relative to the directory of runs."""
    panels = [
        Group(
            panel.title,
            panel.vary,
            tuple(
                Member(
                    args.out.as_posix(),
                    {name: getattr(args, name) for name in panel.vary},
                    args.epochs,
                )
                for args in panel.runs
            ),
        )
        for panel in recipe.panels
    ]
    return Manifest(
        recipe.name, recipe.title, recipe.drawing, tuple(panels), recipe.eps, recipe.accuracies
    )


def write_manifest(recipe: Recipe, runs: Path) -> Path:
    """Write the manifest of a recipe beside its runs, whole or not at all; returns its path.

    Raises:
        OutputFailed: it cannot be written.
    """
    path = manifest_path(recipe.name, runs)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    document = {"schema": SCHEMA, **asdict(manifest_of(recipe))}
    try:
        runs.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OutputFailed(path, error.strerror or str(error)) from error
    return path


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
        InputRejected: it cannot be read, or is no manifest.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputRejected(path, f"cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputRejected(path, f"is not JSON: {error}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise InputRejected(path, f"schema is {schema!r}, expected {SCHEMA!r}")
    try:
        return _manifest(document)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"is no manifest of a recipe ({error!r}); run the recipe again"
        raise InputRejected(path, reason) from error


def _manifest(document: dict[str, Any]) -> Manifest:
    """The manifest; `KeyError`, `TypeError` or `ValueError` where a part is not what it should."""
    if document["drawing"] not in get_args(Drawing):
        raise ValueError(f"drawing is {document['drawing']!r}")
    return Manifest(
        recipe=_text(document["recipe"]),
        title=_text(document["title"]),
        drawing=document["drawing"],
        panels=tuple(_group(panel) for panel in document["panels"]),
        eps=tuple(float(eps) for eps in document["eps"]),
        accuracies=bool(document["accuracies"]),
    )


def _group(panel: dict[str, Any]) -> Group:
    vary = tuple(_text(name) for name in panel["vary"])
    return Group(_text(panel["title"]), vary, tuple(_member(run, vary) for run in panel["runs"]))


def _member(run: dict[str, Any], vary: tuple[str, ...]) -> Member:
    place = PurePosixPath(_text(run["run"]))
    if place.is_absolute() or ".." in place.parts:
        raise ValueError(f"run is {run['run']!r}, expected a directory below the runs")
    labels = {name: run["labels"][name] for name in vary}
    if not all(isinstance(label, Label) for label in labels.values()):
        raise TypeError(f"labels are {labels!r}, expected numbers or texts")
    return Member(str(place), labels, int(run["epochs"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
