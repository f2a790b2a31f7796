"""The palette as a page has it: for its style sheet, and for its charts."""

from __future__ import annotations

from dataclasses import asdict

from rankscope.palette import DARK, LIGHT, VIRIDIS, Theme
from rankscope.rows import Row

# The colour of what can be acted on, which is text too: contrasts of 5.2 and 8.5 to 1.
ACCENTS = {LIGHT: LIGHT.unordered[0], DARK: DARK.unordered[5]}


def themes() -> Row:
    """The colours of charts: by theme, and viridis from dark to light."""
    return {
        "light": {**asdict(LIGHT), "accent": ACCENTS[LIGHT]},
        "dark": {**asdict(DARK), "accent": ACCENTS[DARK]},
        "viridis": VIRIDIS,
    }


def properties() -> str:
    """Custom properties of a style sheet: light, and dark on a screen where the page says so."""
    return (
        f":root {{ color-scheme: light; {_of(LIGHT)} }}\n"
        f"@media screen {{ :root[data-theme=dark] {{ color-scheme: dark; {_of(DARK)} }} }}\n"
    )


def _of(theme: Theme) -> str:
    named = {
        "surface": theme.background,
        "ink": theme.text,
        "muted": theme.muted,
        "line": theme.grid,
        "accent": ACCENTS[theme],
    }
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())
