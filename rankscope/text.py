"""Text from files on its way to a screen or a log: nothing in it may act.

Tensor names and paths are whatever somebody wrote into a file: terminal escapes, bidirectional
controls that reorder a line, line breaks that forge one. Each view passes every foreign string
through `printable` and then through its own format's escaping.
"""

from __future__ import annotations

import re
import unicodedata

# Control, format (bidi, zero width), surrogate, private use, unassigned; line and paragraph
# separators: Unicode's general categories of what is not seen as itself.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

ORDER = re.compile(r"##(?=\w*\[)")  # what CI systems take for an order to themselves


def printable(text: str) -> str:
    r"""The text with every invisible or acting character written as an escape.

    >>> printable("a\x1b[31mb\nc")
    'a\\x1b[31mb\\nc'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if unicodedata.category(char) not in INVISIBLE
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def inert(text: str) -> str:
    r"""The text as it may be printed in any log: `printable`, and nothing in it is an order.

    GitHub's runner obeys a line that begins with `::`, and `##[` anywhere in a line, TeamCity and
    Azure Pipelines what begins with `##teamcity[` and `##vso[`. A long line may be broken anywhere,
    so that nothing of this may stand in a name at all.

    >>> inert("::error::x"), inert("a##[group]")
    (':\\x3aerror:\\x3ax', 'a\\x23\\x23[group]')
    """
    return ORDER.sub(r"\\x23\\x23", printable(text).replace("::", r":\x3a"))


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names as numbers.

    >>> sorted(["h.10", "h.2", "h.1"], key=natural)
    ['h.1', 'h.2', 'h.10']
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def shortened(text: str, width: int) -> str:
    """The text in at most `width` characters, its middle left out, more of its end kept.

    The end of a tensor's name tells the layer and what it is, the beginning which tower.

    >>> shortened("model.layers.10.mlp.down_proj.weight", 25)
    'model.…p.down_proj.weight'
    """
    if len(text) <= width:
        return text
    head = max(0, (width - 1) // 4)
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
