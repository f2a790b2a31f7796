"""`rankscope report`: a page that shows a model, a run, a sweep, or what has moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

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
    Metrics,
    Sources,
    file,
    given_options,
    path,
    source_options,
)
from rankscope.cli.output import announce, check_directory
from rankscope.cli.progress import with_progress
from rankscope.cli.screen import complain

if TYPE_CHECKING:
    from rankscope.cli.progress import Report
    from rankscope.how import How
    from rankscope.training import Given


@bundled({"sources": source_options, "how": how_options, "given": given_options})
def report(
    sources: Sources,
    output: Annotated[
        Path, typer.Option("-o", "--output", parser=file, help="The page; its name ends in .html.")
    ] = Path("report.html"),
    since: Annotated[
        PurePath | None,
        typer.Option(
            "--since",
            parser=path,
            metavar="BEFORE",
            help="A checkpoint; the page shows what PATH has moved since.",
            show_default=False,
        ),
    ] = None,
    metric: Metrics = None,
    eps: Eps = None,
    norm: NormOption = "frobenius",
    include: Include = None,
    exclude: Exclude = None,
    *,
    how: How,
    average: Average = "marked",
    given: Given,
) -> None:
    """Write one page that shows it all, to be opened in a browser or sent on.

    PATH is what `rankscope analyze` takes: a model, a run, or several runs.
    The page is a single file, loads nothing, and needs no network.
    On it the threshold of the ranks can be moved.

    Examples:

        rankscope report model.safetensors

        rankscope report runs/digits -o digits.html

        rankscope report tuned/ --since base/ -o moved.html
    """
    from rankscope.matrices import Selection
    from rankscope.reporting import check_page

    if since is not None and (len(sources.paths) > 1 or given.anything or average != "marked"):
        raise typer.BadParameter(
            "--since compares one PATH with BEFORE, which --average and how a run was trained do "
            "not change"
        )
    check_page(output, [*sources.paths, since, sources.base])
    check_directory(output)
    levels = tuple(eps or (DEFAULT_EPS,))
    selection = Selection(tuple(include or ()), tuple(exclude or ()))

    def write(progress: Report | None) -> list[str]:
        from rankscope import reporting
        from rankscope.gate.baseline import METRICS

        if since is not None:
            return reporting.report_diff(
                since,
                sources.paths[0],
                path=output,
                metrics=metric or METRICS,
                eps=levels,
                norm=norm,
                selection=selection,
                how=replace(how, progress=progress),
                base=sources.base,
            )
        return reporting.report(
            *sources.paths,
            path=output,
            metrics=metric or (),
            eps=levels,
            norm=norm,
            selection=selection,
            how=replace(how, progress=progress),
            given=given,
            average=average,
            base=sources.base,
        )

    with store_warnings():
        lines = with_progress("measuring", write)
    announce(output)
    if lines:
        from rankscope.views.report import Remark

        complain([Remark(line, lacking=True) for line in lines], told=False)
        raise typer.Exit(INCOMPLETE)
