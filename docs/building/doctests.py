"""Examples within docstrings, as code: what mkdocstrings takes for Markdown otherwise."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

# A prompt, and what follows up to an empty line.
EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Doctests(Extension):
    """Puts a fence around every example of a docstring."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Of each module, class, function and attribute as griffe has read it."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """A docstring whose examples are fenced."""
    return EXAMPLE.sub(lambda match: f"```pycon\n{match[0]}\n```", text)
