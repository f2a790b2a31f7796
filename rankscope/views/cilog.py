"""Text in the log of a CI system, which takes some of what a program prints for orders to itself.

GitHub's runner obeys a line that begins with `::`, and `##[` anywhere in a line, TeamCity and Azure
Pipelines what begins with `##teamcity[` and `##vso[`. A long line may be broken anywhere, so that
nothing of this may stand in a name at all.
"""

from __future__ import annotations

import re

from rankscope.text import printable, shortened

ORDER = re.compile(r"##(?=\w*\[)")

# A name this long was made to fill a screen: the longest of published models have some 120.
MANY_CHARACTERS = 300


def inert(text: str) -> str:
    r"""The text as it may be printed in any log: `printable`, and nothing in it is an order.

    >>> inert("::error::x"), inert("a##[group]")
    (':\\x3aerror:\\x3ax', 'a\\x23\\x23[group]')
    """
    return ORDER.sub(r"\\x23\\x23", printable(text).replace("::", r":\x3a"))


def short(text: str, width: int = MANY_CHARACTERS) -> str:
    """The same in at most so many characters."""
    return shortened(inert(text), width)
