"""What a command wrote to a terminal, as HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from itertools import groupby

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

# Of the 16 colours of a terminal, by number; the site's style sheet has one of each for light and
# one for dark.
COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


# What an editor or a live view draws on a screen of its own, which is gone when it ends.
OTHER_SCREEN = re.compile(r"\x1b\[\?1049h.*?\x1b\[\?1049l", re.DOTALL)


def to_html(output: str) -> str:
    """Text with escape sequences as an element of the page; long lines scroll, and do not break.

    Raises:
        ValueError: a colour that is none of the 16.
    """
    console = Console(width=10_000, color_system="standard", force_terminal=True)
    left = OTHER_SCREEN.sub("", output.replace("\r\n", "\n")).strip("\n")
    text = Text.from_ansi(left, tab_size=8)
    runs = groupby(console.render(text), key=lambda segment: _classes(segment.style))
    shown = "".join(_span(classes, segments) for classes, segments in runs)
    # Whoever uses the keyboard alone can scroll what may have the focus.
    return (
        '<div class="terminal"><pre tabindex="0" role="group" aria-label="Output">'
        f"<samp>{shown.rstrip()}</samp></pre></div>"
    )


def _span(classes: str, segments: Iterable[Segment]) -> str:
    inside = escape("".join(one.text for one in segments), quote=False)
    return f'<span class="{classes}">{inside}</span>' if classes else inside


def _classes(style: Style | None) -> str:
    if style is None:
        return ""
    names = [f"t-{name}" for name in ("bold", "dim", "italic", "underline") if getattr(style, name)]
    if style.color is not None and style.color.number is not None:
        if style.color.number >= 2 * len(COLOURS):
            raise ValueError(f"{style.color.name} is none of the 16 colours of a terminal")
        names.append(f"t-{COLOURS[style.color.number % len(COLOURS)]}")
    return " ".join(names)
