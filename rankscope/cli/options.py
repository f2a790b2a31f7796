"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

# What a user may state of a run that does not record it, or records it wrongly.
STATED = "How it was trained, where a run does not say"

INCOMPLETE = 4  # the exit code when some matrices could not be measured

Paths = Annotated[
    list[Path],
    typer.Argument(
        help="Checkpoint files, model directories, run directories; several of any.",
        metavar="PATH",
        show_default=False,
    ),
]
Model = Annotated[
    Path, typer.Argument(help="One checkpoint: a file, or a model's directory.", metavar="MODEL")
]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", help="Only matrices whose name matches this glob. Repeatable."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="No matrix whose name matches this glob. Repeatable."),
]
Base = Annotated[
    Path | None,
    typer.Option(
        "--base", help="The model that it is an adapter of; merge it in.", show_default=False
    ),
]
Average = Annotated[
    Literal["marked", "all"],
    typer.Option("--average", help="Means over the matrices that a run marks, or over all."),
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
BASELINE_METRICS = (
    "rank",
    "effective_rank",
    "numerical_rank",
    "stable_rank",
    "energy_rank",
    "spectral_norm",
    "frobenius_norm",
    "nuclear_norm",
)
OTHER_METRICS = (
    "schatten_norm(p)",
    "schatten_ratio(p,q)",
    "distance_to_rank(r)",
    "spectral_entropy",
    "head_mass",
)

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
BaselineMetrics = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--metric",
        help="A metric, as of `rankscope analyze`. Repeatable. "
        f"Default: {', '.join(BASELINE_METRICS)}.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="Write to a file; .json, .csv, .md, .html or .parquet says how."
    ),
]
Everything = Annotated[
    bool, typer.Option("--all", help="Every matrix and every step, however many.")
]

GivenBatch = Annotated[
    int | None,
    typer.Option(
        "--B", min=1, help="Samples per update, over all devices.", rich_help_panel=STATED
    ),
]
GivenMu = Annotated[
    float | None, typer.Option("--mu", min=0, help="A constant step size.", rich_help_panel=STATED)
]
GivenLambda = Annotated[
    float | None,
    typer.Option(
        "--lambda", min=0, help="The theorem's, half of PyTorch's.", rich_help_panel=STATED
    ),
]
GivenWeightDecay = Annotated[
    float | None,
    typer.Option("--weight-decay", min=0, help="PyTorch's, 2 lambda.", rich_help_panel=STATED),
]
GivenMomentum = Annotated[
    float | None,
    typer.Option("--momentum", min=0, help="Of SGD, with dampening 0.", rich_help_panel=STATED),
]
GivenNesterov = Annotated[
    bool | None,
    typer.Option(
        "--nesterov/--no-nesterov", help="Whether it is Nesterov's.", rich_help_panel=STATED
    ),
]
GivenInputs = Annotated[
    int | None,
    typer.Option(
        "--m", min=1, help="Inputs per sample of layers not recorded.", rich_help_panel=STATED
    ),
]


def one_decay(lambda_: float | None, weight_decay: float | None) -> float | None:
    """PyTorch's weight decay from either of two options."""
    if lambda_ is not None and weight_decay is not None:
        raise typer.BadParameter("--lambda and --weight-decay exclude each other")
    return weight_decay if lambda_ is None else 2 * lambda_
