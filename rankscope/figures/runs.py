"""What tells several runs apart: how they were trained, and the colours that go with it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rankscope.figures.words import distinct, plain, shorter
from rankscope.palette import LIGHT, shades
from rankscope.rows import Row
from rankscope.table import Table
from rankscope.views.sweep import SETTINGS, run_names, run_order, setting_text

# Signs of what varies, where a figure has them instead of the table's words.
SIGNS = {"mu": "μ", "weight_decay": "weight decay", "lambda": "λ"}

AXES = {
    "B": "batch size B",
    "mu": "learning rate μ",
    "weight_decay": "weight decay (2λ)",
}

LETTERS = 40  # of what tells a run

# How lines beyond the number of colours differ.
LineStyle = Literal["-", "--", ":"]
STYLES: tuple[LineStyle, ...] = ("-", "--", ":")


@dataclass(frozen=True, slots=True)
class Look:
    """The colour and style of a line."""

    colour: str
    style: LineStyle = "-"


def unordered(texts: Sequence[str]) -> dict[str, Look]:
    """Looks of what has no order: the colours one after the other, then dashed, then dotted."""
    looks = [Look(colour, style) for style in STYLES for colour in LIGHT.unordered]
    return dict(zip(texts, itertools.cycle(looks), strict=False))


def ordered(texts: Sequence[str]) -> dict[str, Look]:
    """Looks of what has an order: shades, the first the darkest."""
    return dict(zip(texts, map(Look, shades(len(texts), LIGHT.span)), strict=True))


def varied(runs: Sequence[Row]) -> list[str]:
    """In what runs differ, but for the seed; lambda is half the weight decay."""
    keys = [key for key in SETTINGS if key not in ("seed", "lambda")]
    return [key for key in keys if len({run[key] for run in runs}) > 1]


def described(run: Row, keys: Sequence[str]) -> str:
    """A run's settings.

    >>> described({"mu": 0.5, "B": 8}, ["B", "mu"])
    'B = 8, μ = 0.5'
    """
    return ", ".join(
        f"{SIGNS.get(key, SETTINGS[key])} = {plain(setting_text(run[key]), LETTERS)}"
        for key in keys
    )


def is_number(value: object) -> bool:
    """Whether a setting is a number, so that one is more than another."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def looks_of(runs: Sequence[Row], keys: Sequence[str]) -> dict[str, Look]:
    """From what describes runs to their looks, in the order of a legend."""
    if len(keys) == 1 and all(is_number(run[keys[0]]) for run in runs):
        ascending = sorted(runs, key=lambda run: float(run[keys[0]]))
        return ordered(list(dict.fromkeys(described(run, keys) for run in ascending)))
    texts = [described(run, keys) for run in sorted(runs, key=run_order)]
    return unordered(list(dict.fromkeys(texts)))


@dataclass(frozen=True, slots=True)
class Told:
    """Runs as a legend tells them.

    Attributes:
        texts: by source, what each is called; runs that differ in the seed alone share it.
        looks: by text, in the order of a legend.
    """

    texts: Mapping[str, str]
    looks: Mapping[str, Look]


def told_runs(table: Table) -> Told:
    """By how they were trained where that differs, else by their names."""
    runs, keys = list(table.runs), varied(table.runs)
    sources = {row["source"] for row in table.summary}
    if not keys or len(runs) < len(sources):  # something among them is no run
        return told_sources(table)
    return Told({run["source"]: described(run, keys) for run in runs}, looks_of(runs, keys))


def apart(table: Table) -> dict[str, str]:
    """By source, what a run is called where each has a place: with its seed, or its name."""
    texts = told_runs(table).texts
    runs = sorted(table.runs, key=run_order)
    names = dict(zip((run["source"] for run in runs), run_names(runs), strict=True))
    seeded = {run["source"]: f"{texts[run['source']]}, seed {run['seed']}" for run in runs}
    found = {}
    for run in runs:
        source = run["source"]
        alike = [other for other in texts if texts[other] == texts[source]]
        by_seed = len({seeded[other] for other in alike}) == len(alike)
        if len(alike) == 1:
            found[source] = texts[source]
        else:
            named = plain(names[source], LETTERS)
            found[source] = shorter(seeded[source], LETTERS) if by_seed else named
    return found


def told_sources(table: Table) -> Told:
    """Checkpoints by their paths, without the directory that they share."""
    sources = list(dict.fromkeys(row["source"] for row in table.summary))
    names = run_names([{"source": source} for source in sources])
    names = distinct([plain(name, LETTERS) for name in names])
    return Told(dict(zip(sources, names, strict=True)), unordered(names))
