"""How a checkpoint was trained that is the only one of a run, or is shown beside others.

What of a run needs several snapshots has a part of its own.
"""

from __future__ import annotations

from rankscope.pages.run import settings_of, told
from rankscope.pages.runcolumns import shortest
from rankscope.pages.section import Subject
from rankscope.rows import Row
from rankscope.scene import Scene
from rankscope.views.cells import LOG_HEADINGS
from rankscope.views.layout import by_source
from rankscope.views.numbers import number


def payload(subject: Subject) -> Row | None:
    """What is known of the one run among the sources; None where there is none, or several."""
    if not isinstance(subject, Scene) or subject.kind != "model" or len(subject.table.runs) != 1:
        return None
    table = subject.table
    run = table.runs[0]
    sources = by_source(table.summary)
    return {
        "source": run["source"] if len(sources) > 1 else None,
        "step": run["step"],
        "snapshots": len(sources[run["source"]]),
        "settings": settings_of(run),
        "logged": [
            [word, number(shortest(run[key]))]
            for key, word in LOG_HEADINGS.items()
            if run.get(key) is not None
        ],
        "verdicts": told(subject),
    }
