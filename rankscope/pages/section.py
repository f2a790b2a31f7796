"""What a part of the page is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rankscope.rows import Row
from rankscope.scene import DiffScene, Scene

Subject = Scene | DiffScene


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page; see the package's docstring.

    Attributes:
        name: the key of its part in the page's document.
        payload: its part: plain JSON values; None where it has nothing to show.
        assets: its scripts, files of assets/; in the page only where there is a part.
    """

    name: str
    payload: Callable[[Subject], Row | None]
    assets: tuple[str, ...]
