"""Which figures there are, and who draws them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rankscope.errors import InputRejected, UsageError
from trainers.figures import bound, grid, norm_ratio, p2, p3, per_epoch, spectra
from trainers.figures.measured import Runs, drawable, measure
from trainers.recipes import catalogue
from trainers.recipes.manifest import Manifest, manifest_path, read_manifest
from trainers.recipes.records import Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Way:
    """One way to draw a recipe's runs.

    Attributes:
        metrics: what it needs to know of every snapshot.
        draw: makes the figure of the manifest and the runs, so many inches wide.
        most_eps: how many thresholds it can show; 0 where it shows no rank.
    """

    metrics: tuple[str, ...]
    draw: Callable[[Manifest, Runs, float], Figure]
    most_eps: int


PAGE = 7.0  # inches, the width of the text on a page of the usual two-column papers

MANY = 100  # thresholds; more would be a line without end on the command line

WAYS: Mapping[Drawing, Way] = {
    "per_epoch": Way(per_epoch.METRICS, per_epoch.draw, 4),  # a row of axes each
    "grid": Way(grid.METRICS, grid.draw, 1),
    "norm_ratio": Way(norm_ratio.METRICS, norm_ratio.draw, 0),
    "spectra": Way(spectra.METRICS, spectra.draw, 0),
    "bound": Way(bound.METRICS, bound.draw, MANY),
}

# Figures that are no recipe's, each drawn by a function from the directory of its runs.
FUNCTIONS: Mapping[str, Callable[[Path], Figure]] = {**p2.FIGURES, **p3.FIGURES}

RECIPES = tuple(recipe.name for recipe in catalogue.RECIPES)


def draw(name: str, runs: Path, eps: Sequence[float], width: float | None) -> Figure:
    """The figure of that name from the runs in a directory.

    Args:
        name: a recipe's, or one of those that have a function of their own.
        runs: the directory of its runs.
        eps: thresholds of the rank; empty for the figure's own.
        width: in inches; None for the figure's own.

    Raises:
        UsageError: no such figure, or more thresholds than it can show, or no width to choose.
        InputRejected: none of its runs is there, or nobody has noted which they are.
    """
    if name in FUNCTIONS:
        if eps or width is not None:
            raise UsageError(f"{name} has neither thresholds nor a width to choose")
        return FUNCTIONS[name](runs)
    path = manifest_path(name, runs)
    if not path.exists():
        raise _absent(name, path, runs)
    manifest = read_manifest(path)
    way = WAYS[manifest.drawing]
    if len(eps) > way.most_eps:
        raise UsageError(f"{name} can show {way.most_eps} thresholds, and {len(eps)} were given")
    manifest = replace(manifest, eps=tuple(dict.fromkeys(eps)) or manifest.eps)
    there = measure(manifest, runs, way.metrics)
    return way.draw(drawable(manifest, there), there, width or PAGE)


def _absent(name: str, path: Path, runs: Path) -> UsageError | InputRejected:
    """The error for a figure without a manifest: of which there may be none, or none yet."""
    if name in RECIPES:
        command = f"python -m trainers recipe {name} --out {runs}"
        return InputRejected(path, f"is not there: {name} has not been run; {command}")
    noted = [file.stem for file in runs.glob("*.json")]
    known = list(dict.fromkeys((*RECIPES, *FUNCTIONS, *noted)))
    nearest = difflib.get_close_matches(name, known, 3, 0.0)
    return UsageError(f"no figure {name!r}, nearest: {', '.join(nearest)}")
