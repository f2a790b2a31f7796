"""Which spectra stand in which axes, and which of them are one line.

A large model has more matrices than a figure has room for lines. Layers of a kind share axes; what
is one line there (the experts of a layer, all layers of a kind at one step) is its median.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankscope.figures.groups import OTHERS, depth_of, largest_kinds
from rankscope.figures.runs import Look, Told, ordered, told_runs, told_sources
from rankscope.figures.words import plain_names
from rankscope.metrics.thresholded import Norm, shares
from rankscope.palette import LIGHT, shades
from rankscope.rows import Row
from rankscope.scene import Curve, Scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

FEW = 6  # lines that are told apart by their shades, each named in a legend

MANY_NAMES = 12  # matrices that have axes each; of more, those of a kind share them

MANY_PANELS = 24  # kinds of layers that have axes; those beyond share the last

LETTERS = 44  # of a name in a legend


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a figure of spectra.

    Attributes:
        panel: the matrix or the kind of layers that its axes are for, as the file names it.
        told: what the legend calls it; empty where its colour tells.
        look: its colour and style.
        values: singular values over the norm, descending, shape (k,).
        members: of so many matrices the median.
    """

    panel: str
    told: str
    look: Look
    values: Vector
    members: int = 1


@dataclass(frozen=True, slots=True)
class Drawing:
    """The lines of a figure.

    Attributes:
        lines: in the order of axes and legend.
        depths: the layers, ascending, where the colours go from the first to the last.
    """

    lines: Sequence[Line]
    depths: Sequence[int] = ()


def drawing_of(scene: Scene, norm: Norm) -> Drawing:
    """What is drawn of a scene: matrices by depth, snapshots by step, runs by their settings."""
    kind = scene.kind
    if kind == "run":
        steps = sorted({curve.step or 0 for curve in scene.curves})
        looks = ordered([_step(step) for step in steps])
        told = {id(curve): _step(curve.step or 0) for curve in scene.curves}
        return Drawing(_lines(scene, told, looks, norm))
    if kind == "sweep":
        return _by_source(scene, told_runs(scene.table), norm)
    if len({curve.source for curve in scene.curves}) > 1:
        return _by_source(scene, told_sources(scene.table), norm)
    return _named(scene, norm) if len(scene.curves) <= FEW else _by_depth(scene, norm)


def _step(step: int) -> str:
    return f"step {step}"


def _by_source(scene: Scene, told: Told, norm: Norm) -> Drawing:
    texts = {id(curve): told.texts[curve.source] for curve in scene.curves}
    return Drawing(_lines(scene, texts, told.looks, norm))


def _named(scene: Scene, norm: Norm) -> Drawing:
    """Few matrices in one pair of axes, each named."""
    names = plain_names([curve.name for curve in scene.curves], LETTERS)
    looks = ordered(names)
    return Drawing(
        [
            Line("", name, looks[name], shares(curve.spectrum, norm))
            for name, curve in zip(names, scene.curves, strict=True)
        ]
    )


def _by_depth(scene: Scene, norm: Norm) -> Drawing:
    """Axes a kind of layers; a line a layer, coloured by its depth."""
    groups = largest_kinds(_rows(scene), MANY_PANELS)
    place = {
        row["name"]: None if label == OTHERS else depth_of(row, index, len(rows))
        for label, rows in groups.items()
        for index, row in enumerate(rows)
    }
    known = sorted({depth for depth in place.values() if depth is not None})
    colours = dict(zip(known, shades(len(known), LIGHT.span), strict=True))
    found = {curve.name: shares(curve.spectrum, norm) for curve in scene.curves}
    lines = []
    for title, rows in groups.items():
        depths = list(dict.fromkeys(place[row["name"]] for row in rows))
        for depth in [None] if title == OTHERS else depths:
            members = [
                found[row["name"]] for row in rows if title == OTHERS or place[row["name"]] == depth
            ]
            colour = LIGHT.muted if depth is None else colours[depth]
            lines.append(Line(title, "", Look(colour), median(members), len(members)))
    return Drawing(lines, known if len(known) > 1 else ())


def _rows(scene: Scene) -> list[Row]:
    """A row for each matrix that has a curve, once."""
    wanted = {curve.name for curve in scene.curves}
    rows = {row["name"]: row for row in scene.table.matrices if row["name"] in wanted}
    return list(rows.values())


def _lines(
    scene: Scene, told: Mapping[int, str], looks: Mapping[str, Look], norm: Norm
) -> list[Line]:
    """Axes a matrix, or a kind of layers where there are many; a line a run or snapshot."""
    rows = _rows(scene)
    if len(rows) > MANY_NAMES:
        title = {
            row["name"]: label
            for label, group in largest_kinds(rows, MANY_PANELS).items()
            for row in group
        }
    else:
        title = {row["name"]: row["name"] for row in rows}
    groups: dict[tuple[str, str, int | None, str], list[Curve]] = {}
    for curve in scene.curves:
        key = (curve.source, title[curve.name], curve.step, told[id(curve)])
        groups.setdefault(key, []).append(curve)
    order = {text: index for index, text in enumerate(looks)}
    place = {text: index for index, text in enumerate(dict.fromkeys(title.values()))}
    return [
        Line(panel, text, looks[text], median([shares(c.spectrum, norm) for c in one]), len(one))
        for (_, panel, _, text), one in sorted(
            groups.items(), key=lambda item: (place[item[0][1]], order[item[0][3]])
        )
    ]


def median(spectra: Sequence[Vector]) -> Vector:
    """The median at each index, over those that are long enough; shape (longest,)."""
    if len(spectra) == 1:
        return spectra[0]
    longest = max(map(len, spectra))
    padded = np.full((len(spectra), longest), np.nan)
    for row, sigma in zip(padded, spectra, strict=True):
        row[: len(sigma)] = sigma
    return np.asarray(np.nanmedian(padded, axis=0))
