"""`rankscope analyze`: measure every matrix of checkpoints and runs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rankscope.cli.options import (
    INCOMPLETE,
    AsJson,
    Everything,
    Exclude,
    Include,
    Metrics,
    Output,
    Paths,
)
from rankscope.cli.output import check_output
from rankscope.cli.screen import complain, present

if TYPE_CHECKING:
    from rankscope.api import Analysis
    from rankscope.measure import How


def analyze(
    paths: Paths,
    metric: Metrics = None,
    eps: Annotated[
        list[float] | None,
        typer.Option("--eps", help="Threshold of the ranks. Repeatable. Default: 0.001."),
    ] = None,
    norm: Annotated[
        Literal["frobenius", "spectral", "none"],
        typer.Option("--norm", help="The norm that eps is relative to; none: eps is absolute."),
    ] = "frobenius",
    include: Include = None,
    exclude: Exclude = None,
    everything: Everything = False,
    as_json: AsJson = False,
    output: Output = None,
    route: Annotated[
        Literal["auto", "gram", "direct"],
        typer.Option("--route", help="How singular values are computed; auto decides by matrix."),
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes. Default: one per core, if it pays."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="Keep spectra in this file.", show_default=False)
    ] = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Keep and look up nothing.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file again, even unchanged ones.")
    ] = False,
) -> None:
    """Measure how many directions each weight matrix really uses.

    PATH is a checkpoint (safetensors, PyTorch, HDF5, Keras, NumPy),
    a sharded or Hugging Face model directory, or a directory of
    training snapshots, which becomes a series ordered by step.

    Examples:

        rankscope analyze model.safetensors

        rankscope analyze runs/digits --eps 0.01 --eps 0.001

        rankscope analyze model/ --include '*mlp*' -m effective_rank -o ranks.csv
    """
    from rankscope.api import analyze as run
    from rankscope.matrices import Selection
    from rankscope.measure import How
    from rankscope.store import StoreWarning
    from rankscope.text import printable
    from rankscope.views.analysis import report

    if store is not None and no_store:
        raise typer.BadParameter("--store and --no-store exclude each other")
    if output is not None:
        check_output(output)
    how = How(route, workers, store or not no_store, verify)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")  # libraries' own are no business of the user's
        warnings.simplefilter("always", StoreWarning)
        result = _with_progress(
            how,
            lambda shown: run(
                *paths,
                metrics=metric or (),
                eps=eps or (1e-3,),
                norm=norm,
                selection=Selection(tuple(include or ()), tuple(exclude or ())),
                how=shown,
            ),
        )
    for warning in caught:
        typer.echo(f"warning: {printable(str(warning.message))}", err=True)
    shown = report(result)
    present(shown, as_json=as_json, output=output, everything=everything)
    if result.incomplete:
        complain(shown.remarks(everything), told=output is None and not as_json)
        raise typer.Exit(INCOMPLETE)


def _with_progress(how: How, run: Callable[[How], Analysis]) -> Analysis:
    """Run with a progress bar on stderr, by floating-point work, where a person watches."""
    if not sys.stderr.isatty():
        return run(how)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    parts = (
        "measuring",
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        return run(
            replace(how, progress=lambda done, total: bar.update(task, completed=done, total=total))
        )
