"""`rankscope plot`: a figure of a model, a run, or several runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rankscope.cli.bundles import bundled
from rankscope.cli.measuring import (
    DEFAULT_EPS,
    Eps,
    NormOption,
    how_options,
    store_warnings,
)
from rankscope.cli.options import (
    INCOMPLETE,
    Average,
    Exclude,
    Include,
    Sources,
    file,
    given_options,
    source_options,
)
from rankscope.cli.output import announce, check_directory
from rankscope.cli.progress import with_progress
from rankscope.cli.screen import complain

if TYPE_CHECKING:
    from rankscope.cli.progress import Report
    from rankscope.how import How
    from rankscope.plotting import Picture
    from rankscope.training import Given

WIDTH = 7.0  # inches, as rankscope.figures.PAGE, which imports NumPy


@bundled({"sources": source_options, "how": how_options, "given": given_options})
def plot(
    sources: Sources,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", parser=file, help="The picture; .png, .svg or .pdf says how."
        ),
    ],
    kind: Annotated[
        Literal["spectrum", "rank", "norm-ratio", "bound", "heatmap"] | None,
        typer.Option(
            "--kind",
            help="What is drawn. Default: the spectra of a model, the rank of a run or a sweep.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--metric",
            help="What rank and heatmap draw, and bound beside the bounds; as of "
            "`rankscope analyze`. Default: rank.",
            show_default=False,
        ),
    ] = None,
    eps: Eps = None,
    norm: NormOption = "frobenius",
    include: Include = None,
    exclude: Exclude = None,
    width: Annotated[
        float,
        typer.Option("--width", help="Inches: 7 for a page, 3.3 for a column; the height follows."),
    ] = WIDTH,
    *,
    how: How,
    average: Average = "marked",
    given: Given,
) -> None:
    """Draw a figure fit for a paper.

    PATH is what `rankscope analyze` takes: a model, a run, or several runs.
    The same command on the same weights writes the same bytes.

    spectrum: singular values, of many layers a line each, of a run's steps,
    of several runs. rank: over a run's steps, a model's depth, or what a
    sweep varies. norm-ratio: what Theorem 3.3 has tend to 1. bound: the rank
    and the bounds on it. heatmap: kinds of layers by depth.

    Examples:

        rankscope plot model.safetensors -o spectra.pdf

        rankscope plot runs/digits --kind rank -m effective_rank -o rank.svg

        rankscope plot sweep/ --eps 0.01 --width 3.3 -o trend.pdf
    """
    from rankscope.figures import check_picture, check_wanted, save

    check_picture(output)
    check_directory(output)
    check_wanted(kind, metric, width)

    def draw(progress: Report | None) -> Picture:
        from rankscope.asking import asked_of
        from rankscope.matrices import Selection
        from rankscope.plotting import METRIC, picture

        asked = asked_of(
            metrics=metric or METRIC,
            eps=tuple(eps or (DEFAULT_EPS,)),
            norm=norm,
            selection=Selection(tuple(include or ()), tuple(exclude or ())),
            how=replace(how, progress=progress),
            given=given,
            average=average,
            base=sources.base,
        )
        return picture(*sources.paths, asked=asked, kind=kind, metric=metric, width=width)

    with store_warnings():
        drawn = with_progress("measuring", draw)
    save(drawn.figure, output)
    announce(output)
    if drawn.table.incomplete:
        from rankscope.views.analysis import report

        complain(report(drawn.table).remarks(False), told=False)
        raise typer.Exit(INCOMPLETE)
