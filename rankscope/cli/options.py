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
# Named here once more because importing METRICS imports NumPy, which --help does without.
DEFAULT_METRICS = (
    "rank",
    "effective_rank",
    "numerical_rank",
    "stable_rank",
    "energy_rank",
    "approximation_rank",
    "participation_ratio",
    "nuclear_ratio",
    "spectral_norm",
    "frobenius_norm",
    "nuclear_norm",
    "condition_number",
)
OTHER_METRICS = ("schatten_norm(p)", "schatten_ratio(p,q)", "distance_to_rank(r)")

Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--metric",
        help="A metric, with parameters as in 'schatten_norm(0.5)'. Repeatable. "
        f"Default: all of {', '.join(DEFAULT_METRICS)}. "
        f"On request: {', '.join(OTHER_METRICS)}.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Write to a file; .json, .csv, .md or .html says how."),
]
Everything = Annotated[
    bool, typer.Option("--all", help="Every matrix and every step, however many.")
]
