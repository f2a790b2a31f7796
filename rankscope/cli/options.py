"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

INCOMPLETE = 4  # the exit code when some matrices could not be measured

Paths = Annotated[
    list[Path],
    typer.Argument(
        help="Checkpoint files, model directories, run directories; several of any.",
        show_default=False,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", help="Only matrices whose name matches this glob. Repeatable."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="No matrix whose name matches this glob. Repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the JSON document.")]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Write to a file; .json, .csv, .md or .html says how."),
]
Everything = Annotated[
    bool, typer.Option("--all", help="Every matrix and every step, however many.")
]
