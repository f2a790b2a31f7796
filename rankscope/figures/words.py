"""Text on figures: foreign text made harmless to matplotlib, and the words of axes.

Between dollar signs matplotlib reads formulas; what its font has no picture for it draws as a box,
with a warning. Names of matrices and paths may hold either.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from rankscope.figures.house import shown
from rankscope.metrics.thresholded import Norm
from rankscope.table import Table
from rankscope.text import printable, shortened, shortened_names

FONT = "DejaVu Sans"  # comes with matplotlib, so that a figure is the same on every machine

TITLE = 30  # letters of a path, so that no line of a title breaks one

WIDE = 1.1  # of the room that so many usual letters have; most names are narrower

FILLER = " projections"  # "value projections, layers 0-23": the word that goes without saying

# At the end of a label: "layers 0-2, 4-23", "decoder layers 1-47 (24 of them)".
RANGE = re.compile(r"(?:,(?= layer))? layers? \d[\d, -]*(?:\(\d+ of them\))?$")

# What the norm of a threshold is called beside it; Frobenius' is P1's and goes without saying.
RELATIVE_TO = {"frobenius": "", "spectral": " of σ₁", "none": ", absolute"}

SHARE = {
    "frobenius": r"$\sigma\,/\,\|W\|_F$",
    "spectral": r"$\sigma\,/\,\sigma_1$",
    "none": r"singular value $\sigma$",
}

RATIO_NAME = r"$\|W_{T-1}\|\,/\,\|W_T\|$"  # of consecutive snapshots


def plain(text: str, letters: int) -> str:
    r"""Foreign text as matplotlib draws it letter by letter, its middle left out where it is long.

    >>> plain("a$b$\n", 20)
    'a\\$b\\$\\n'
    """
    drawn = _glyphs()
    visible = "".join(
        char if ord(char) in drawn else char.encode("unicode_escape").decode("ascii")
        for char in printable(text)
    )
    text = shortened(visible, letters)
    # Fewer where they are wide ones, such as W.
    for fewer in range(letters - 1, 0, -1):
        if sum(map(_width, text)) <= WIDE * letters:
            break
        text = shortened(visible, fewer)
    return text.replace("$", r"\$")


def distinct(names: Sequence[str]) -> list[str]:
    """Names that are told apart: what reads like one before it has its number behind it."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def shorter(text: str, letters: int) -> str:
    """Text that `plain` has made, in fewer letters; none of its escapes is broken."""
    return plain(text.replace(r"\$", "$"), letters)


def in_lines(texts: Sequence[str], letters: int) -> list[str]:
    r"""Texts that `plain` has made, broken at their commas into lines of so many letters; distinct.

    What tells one run from another may stand in its middle, which is therefore not left out.

    >>> in_lines(["B = 8, μ = 0.5, weight decay = 0.1"], 20)
    ['B = 8, μ = 0.5,\nweight decay = 0.1']
    """
    found = []
    for text in texts:
        lines: list[str] = []
        for part in text.split(", "):
            if lines and len(lines[-1]) + len(part) + len(", ") <= letters:
                lines[-1] += f", {part}"
            else:
                lines.append(part)
        found.append(",\n".join(shorter(line, letters) for line in lines))
    return distinct(found)


def plain_names(names: Sequence[str], letters: int) -> list[str]:
    """Names of matrices side by side, whole words left out where they are long; all distinct."""
    return distinct([plain(name, letters) for name in shortened_names(names, letters)])


@lru_cache(maxsize=2**12)
def _width(char: str) -> float:
    """How wide a character is, in letters of the usual 0.6 of the font's size."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(FONT))
    font.set_size(100, 72)
    return float(font.load_char(ord(char)).linearHoriAdvance) / 2**16 / 60


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    """The code points that the font has a picture for."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(FONT)).get_charmap())


def kind_title(label: str, letters: int) -> str:
    """A kind of layers, as above small axes: `value` and below it `layers 0-23`."""
    head, _, tail = label.replace(FILLER, "", 1).partition(", ")
    return "\n".join(plain_names([part], letters)[0] for part in (head, tail) if part)


def without_range(labels: Sequence[str], letters: int) -> dict[str, str]:
    """Kinds of layers beside an axis of their numbers, which need not be said again.

    >>> without_range(["value projections, layers 0-23", "MLP up projections, layer 3"], 20)
    {'value projections, layers 0-23': 'value', 'MLP up projections, layer 3': 'MLP up'}
    """
    short = short_kinds(labels)
    return dict(
        zip(short, distinct([plain(text, letters) for text in short.values()]), strict=True)
    )


def short_kinds(labels: Sequence[str]) -> dict[str, str]:
    """By label the kind of layers without their numbers, where that still tells it from others."""
    short = {label: RANGE.sub("", label).replace(FILLER, "", 1) for label in labels}
    told = list(short.values())
    return {
        label: text if told.count(text) == 1 else label.replace(FILLER, "", 1)
        for label, text in short.items()
    }


def sources_name(table: Table) -> str:
    """What the paths of a table are called in a title: their last part, or that of all of them."""
    sources = list(dict.fromkeys(row["source"] for row in table.summary))
    alike = len(set(map(os.path.isabs, sources))) == 1
    shared = Path(os.path.commonpath(sources) if alike else "")
    what = "runs" if len(table.runs) == len(sources) else "checkpoints"
    several = f"{len(sources)} {what}" if len(sources) > 1 else ""
    return ", ".join(part for part in (plain(shared.name, TITLE), several) if part)


def titled(table: Table, words: str) -> str:
    """A figure's title: what was measured, what is shown of it, and what is lacking."""
    lacking = sum(row["status"] not in ("ok", "empty") for row in table.matrices)
    lacking += sum(row["missing"] for row in table.skipped)
    rest = f"; {lacking} not measured" if lacking else ""
    return f"{sources_name(table)}: {words}{rest}"


def metric_words(key: str) -> str:
    """The metric of a column as words.

    >>> metric_words("effective_rank"), metric_words("rank@0.01")
    ('effective rank', 'rank')
    """
    return key.partition("@")[0].replace("_", " ")


def threshold_words(norm: Norm, eps: float) -> str:
    """The threshold of a rank, and of what it is a share."""
    return f"ε = {shown(float(eps))}{RELATIVE_TO[norm]}"
