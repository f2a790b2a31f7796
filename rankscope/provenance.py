"""What made a document: versions, time and command."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from typing import Any

from rankscope.places import masked
from rankscope.version import __version__


def made_now() -> dict[str, Any]:
    """The part of a provenance that is the same for every document; NumPy's version if it is used.

    `command` is what was typed, or the script that called the library; of URLs in it, no secrets.
    """
    numpy = sys.modules.get("numpy")
    return {
        "rankscope": __version__,
        "python": platform.python_version(),
        **({} if numpy is None else {"numpy": str(numpy.__version__)}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [masked(one) for one in sys.argv],
    }
