"""`rankscope analyze`: measure every matrix of checkpoints and runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
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
    AsJson,
    Average,
    Everything,
    Exclude,
    Include,
    Metrics,
    Output,
    Sources,
    given_options,
    source_options,
)
from rankscope.cli.output import announce, check_directory, check_output
from rankscope.cli.progress import with_progress
from rankscope.cli.screen import complain, present
from rankscope.cli.sketch import can_sketch, sketch
from rankscope.text import printable

if TYPE_CHECKING:
    from rankscope.asking import Asked
    from rankscope.how import How
    from rankscope.matrices import Selection
    from rankscope.metrics.thresholded import Norm
    from rankscope.scene import Scene
    from rankscope.table import Table
    from rankscope.training import Given


@bundled({"sources": source_options, "how": how_options, "given": given_options})
def analyze(
    sources: Sources,
    metric: Metrics = None,
    eps: Eps = None,
    norm: NormOption = "frobenius",
    include: Include = None,
    exclude: Exclude = None,
    everything: Everything = False,
    plot: Annotated[
        bool,
        typer.Option("--plot", help="Also draw the spectra of a model, or the rank of a run."),
    ] = False,
    as_json: AsJson = False,
    output: Output = None,
    route: Annotated[
        Literal["auto", "gram", "direct"],
        typer.Option("--route", help="How singular values are computed; auto decides by matrix."),
    ] = "auto",
    *,
    how: How,
    spectra: Annotated[
        bool,
        typer.Option(
            "--spectra", help="Write the singular values themselves: -o FILE.csv, .h5 or .parquet."
        ),
    ] = False,
    average: Average = "marked",
    given: Given,
) -> None:
    """Measure how many directions each weight matrix really uses.

    PATH is a checkpoint (safetensors, PyTorch, GGUF, HDF5, Keras,
    NumPy), a sharded or Hugging Face model directory, an adapter,
    a directory of training snapshots, which becomes a series
    ordered by step, or a directory of such runs, which becomes a sweep.

    Examples:

        rankscope analyze model.safetensors

        rankscope analyze runs/digits --eps 0.01 --eps 0.001

        rankscope analyze model/ --include '*mlp*' -m effective_rank -o ranks.csv

        rankscope analyze adapter/ --base model/
    """
    from rankscope.matrices import Selection

    how = replace(how, route=route)
    if spectra and (output is None or as_json):
        raise typer.BadParameter(
            "--spectra writes to a file, -o FILE.csv, .h5 or .parquet, no --json"
        )
    if spectra and (metric or given.anything or average != "marked" or everything or plot):
        raise typer.BadParameter(
            "--spectra writes singular values, which --metric, --average, --all, --plot and how a "
            "run was trained do not change"
        )
    levels = tuple(eps or (DEFAULT_EPS,))
    selection = Selection(tuple(include or ()), tuple(exclude or ()))
    if spectra and output is not None:
        _write_spectra(sources, output, norm=norm, eps=levels, selection=selection, how=how)
        return
    if plot and (as_json or output is not None):
        raise typer.BadParameter("--plot draws on a terminal: no --json, no -o FILE")
    from rankscope.asking import asked_of
    from rankscope.views.analysis import report

    if output is not None:
        check_output(output)
    drawable = plot and can_sketch()
    with store_warnings():
        measured = with_progress(
            "measuring",
            lambda progress: _measured(
                sources.paths,
                asked_of(
                    metrics=metric or (),
                    eps=levels,
                    norm=norm,
                    selection=selection,
                    how=replace(how, progress=progress),
                    given=given,
                    average=average,
                    base=sources.base,
                ),
                spectra=drawable,
            ),
        )
    shown = report(measured.table)
    present(shown, as_json=as_json, output=output, everything=everything)
    if measured.scene is not None:
        sketch(measured.scene)
    if measured.table.incomplete:
        complain(shown.remarks(everything), told=output is None and not as_json)
        raise typer.Exit(INCOMPLETE)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A table, and what is drawn beside it where somebody wants that."""

    table: Table
    scene: Scene | None


def _measured(paths: Sequence[PurePath], asked: Asked, *, spectra: bool) -> _Measured:
    from rankscope.asking import scene_of, table_of

    if not spectra:
        return _Measured(table_of(*paths, asked=asked), None)
    scene = scene_of(*paths, asked=asked)
    return _Measured(scene.table, scene)


def _write_spectra(
    sources: Sources,
    target: Path,
    *,
    norm: Norm,
    eps: Sequence[float],
    selection: Selection,
    how: How,
) -> None:
    from rankscope.api import export_spectra
    from rankscope.spectra import check_target
    from rankscope.views.report import Remark

    check_target(target)
    check_directory(target)
    with store_warnings():
        lacking = with_progress(
            "measuring",
            lambda progress: export_spectra(
                target,
                *sources.paths,
                norm=norm,
                eps=eps,
                selection=selection,
                how=replace(how, progress=progress),
                base=sources.base,
            ),
        )
    announce(target)
    if lacking:
        complain([Remark(printable(line), lacking=True) for line in lacking], told=False)
        raise typer.Exit(INCOMPLETE)
