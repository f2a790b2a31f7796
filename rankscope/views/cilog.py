"""Names in the log of a CI system, short enough to be read there."""

from __future__ import annotations

from rankscope.text import inert, shortened

# A name this long was made to fill a screen: the longest of published models have some 120.
MANY_CHARACTERS = 300


def short(text: str, width: int = MANY_CHARACTERS) -> str:
    """The same in at most so many characters."""
    return shortened(inert(text), width)
