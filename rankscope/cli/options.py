"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from rankscope.places import RemotePath, WholePath, place

if TYPE_CHECKING:
    from rankscope.training import Given

# What a user may state of a run that does not record it, or records it wrongly.
STATED = "How it was trained, where a run does not say"

INCOMPLETE = 4  # the exit code when some matrices could not be measured


def path(text: str) -> PurePath:
    """What an argument names; the help tells this function's name."""
    return place(text)


def file(text: str) -> Path:
    """What an argument names that has to be on this machine; the help tells this name."""
    where = place(text)
    if not isinstance(where, Path):
        raise typer.BadParameter(f"{where}: a URL, expected a path on this machine")
    return where


Paths = Annotated[
    list[PurePath],
    typer.Argument(
        parser=path,
        help="Checkpoint files, model directories, run directories, URLs of any; several.",
        metavar="PATH",
        show_default=False,
    ),
]
REMOTE = "What is behind a URL"

Revisions = Annotated[
    str | None,
    typer.Option(
        "--revisions",
        metavar="GLOB",
        help="Of hf://ORG/MODEL: the branches and tags that match, as one series: 'step*'.",
        show_default=False,
        rich_help_panel=REMOTE,
    ),
]
Download = Annotated[
    bool,
    typer.Option(
        "--download",
        help="Fetch whole files into the user's cache, and read them there.",
        rich_help_panel=REMOTE,
    ),
]
Model = Annotated[
    PurePath,
    typer.Argument(
        parser=path, help="One checkpoint: a file, a model's directory, a URL.", metavar="MODEL"
    ),
]
Before = Annotated[
    PurePath,
    typer.Argument(
        parser=path, metavar="A", help="A checkpoint: a file, a model's directory, a URL."
    ),
]
After = Annotated[PurePath, typer.Argument(parser=path, metavar="B", help="What has become of it.")]
RunDirectory = Annotated[
    PurePath,
    typer.Argument(
        parser=path, metavar="RUN_DIR", help="A run directory, or a series of numbered checkpoints."
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
Base = Annotated[
    PurePath | None,
    typer.Option(
        "--base",
        parser=path,
        metavar="MODEL",
        help="The model that it is an adapter of; merge it in.",
        show_default=False,
    ),
]
BaseOfAfter = Annotated[
    PurePath | None,
    typer.Option(
        "--base",
        parser=path,
        metavar="MODEL",
        help="The model that B is an adapter of; merge it in.",
        show_default=False,
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
        "-o",
        "--output",
        parser=file,
        help="Write to a file; .json, .csv, .md, .html or .parquet says how.",
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


class Sources(NamedTuple):
    """What is measured, and the model that it is merged into."""

    paths: list[PurePath]
    base: PurePath | None

    @property
    def model(self) -> PurePath:
        """The only one, where a command takes one."""
        (model,) = self.paths
        return model


def source_options(
    paths: Paths, base: Base = None, revisions: Revisions = None, download: Download = False
) -> Sources:
    """The places to read, as these options say."""
    if revisions is not None:
        from rankscope.remote import hub

        paths = [one for path in paths for one in hub.revisions(path, revisions)]
    return _fetched(Sources(paths, base), whole=download)


def listing_options(
    paths: Paths, revisions: Revisions = None, download: Download = False
) -> list[PurePath]:
    """The same where nothing is merged."""
    return source_options(paths, None, revisions, download).paths


def model_options(model: Model, base: Base = None, download: Download = False) -> Sources:
    """The one model to read, as these options say."""
    return _fetched(Sources([model], base), whole=download)


def pair_options(
    before: Before, after: After, base: BaseOfAfter = None, download: Download = False
) -> Sources:
    """The two models to compare, as these options say."""
    return _fetched(Sources([before, after], base), whole=download)


def run_options(run_dir: RunDirectory, download: Download = False) -> PurePath:
    """The run to read, as these options say."""
    return _fetched(Sources([run_dir], None), whole=download).model


def _fetched(sources: Sources, *, whole: bool) -> Sources:
    if not whole:
        return sources
    if not any(isinstance(one, RemotePath) for one in (*sources.paths, sources.base)):
        raise typer.BadParameter("--download is for what is behind a URL")
    paths = [WholePath(one) if isinstance(one, RemotePath) else one for one in sources.paths]
    base = sources.base
    return Sources(paths, WholePath(base) if isinstance(base, RemotePath) else base)


def given_options(
    batch: GivenBatch = None,
    mu: GivenMu = None,
    lambda_: GivenLambda = None,
    weight_decay: GivenWeightDecay = None,
    momentum: GivenMomentum = None,
    nesterov: GivenNesterov = None,
    inputs: GivenInputs = None,
) -> Given:
    """What is stated of how a run was trained."""
    from rankscope.training import Given

    decay = one_decay(lambda_, weight_decay)
    return Given(batch, mu, decay, momentum, nesterov, inputs)


def one_decay(lambda_: float | None, weight_decay: float | None) -> float | None:
    """PyTorch's weight decay from either of two options."""
    if lambda_ is not None and weight_decay is not None:
        raise typer.BadParameter("--lambda and --weight-decay exclude each other")
    return weight_decay if lambda_ is None else 2 * lambda_
