"""Text from files on its way to a screen or a log: nothing in it may act.

Tensor names and paths are whatever somebody wrote into a file: terminal escapes, bidirectional
controls that reorder a line, line breaks that forge one. Each view passes every foreign string
through `printable` and then through its own format's escaping.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

# Control, format (bidi, zero width), surrogate, private use, unassigned; line and paragraph
# separators: Unicode's general categories of what is not seen as itself.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

MANY_WORDS = 50  # between the dots of a name; no module tree that people write is half as deep

# Comparing two names takes up to a millisecond, more where they are longer than people's are.
MANY_NAMES = 500
LONG_NAME = 150

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


def encodable(text: str) -> str:
    r"""The text as UTF-8 holds it: half a surrogate pair, which it does not, as an escape.

    >>> encodable("a\x1b\udc80") == "a\x1b" + r"\udc80"
    True
    """
    return re.sub("[\ud800-\udfff]", lambda found: printable(found[0]), text)


def inert(text: str) -> str:
    r"""The text as it may be printed in any log: `printable`, and nothing in it is an order.

    GitHub's runner obeys a line that begins with `::`, and `##[` anywhere in a line, TeamCity and
    Azure Pipelines what begins with `##teamcity[` and `##vso[`. A long line may be broken anywhere,
    so that nothing of this may stand in a name at all.

    >>> inert("::error::x"), inert("a##[group]")
    (':\\x3aerror:\\x3ax', 'a\\x23\\x23[group]')
    """
    return ORDER.sub(r"\\x23\\x23", printable(text).replace("::", r":\x3a"))


def nearest(word: str, names: Iterable[str]) -> list[str]:
    """Up to three names that are closest to one that is not among them, for a hint.

    Of more names than can be compared in a moment, one for all that differ in numbers only.

    >>> nearest("model.upp", ["model.up", "model.down", "head"])[0]
    'model.up'
    """
    known = [name for name in names if len(name) <= LONG_NAME]
    if len(known) > MANY_NAMES:
        alike = {re.sub(r"\d+", "0", name): name for name in reversed(known)}
        known = list(alike.values())[-MANY_NAMES:]
    return difflib.get_close_matches(word[:LONG_NAME], known, n=3, cutoff=0.3)


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


def shortened_names(names: Sequence[str], width: int) -> list[str]:
    """Names of a column in at most `width` characters each, numbers of layers kept.

    Whole words are left out, first what most names of the column have, for it tells them apart
    least; the last two words stay.

    >>> shortened_names(["model.layers.0.self_attn.k_proj.weight", "lm_head.weight"], 27)
    ['…0.self_attn.k_proj.weight', 'lm_head.weight']
    """
    counts = Counter(word for name in names for word in set(name.split(".")))
    return [_fewer_words(name, width, counts) for name in names]


def _fewer_words(name: str, width: int, counts: Counter[str]) -> str:
    words = name.split(".")
    if len(words) > MANY_WORDS:
        return shortened(name, width)
    spare = [i for i, word in enumerate(words[:-2]) if not any(map(str.isdigit, word))]
    shown = name
    for i in sorted(spare, key=lambda i: -counts[words[i]]):
        if len(shown) <= width:
            break
        words[i] = "…"
        shown = re.sub(r"\.?…[.…]*", "…", ".".join(words))
    return shortened(shown, width)
