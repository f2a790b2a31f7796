"""`rankscope check`: the gate that fails a build when a released model loses rank."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rankscope.cli.bundles import bundled
from rankscope.cli.measuring import how_options, store_warnings
from rankscope.cli.options import (
    INCOMPLETE,
    Everything,
    Exclude,
    Include,
    Sources,
    file,
    model_options,
)
from rankscope.cli.output import announce, check_directory
from rankscope.cli.progress import with_progress
from rankscope.cli.screen import show
from rankscope.errors import InputRejected, UsageError

if TYPE_CHECKING:
    from rankscope.gate.baseline import Baseline
    from rankscope.gate.check import Demand
    from rankscope.gate.verdict import Verdict
    from rankscope.how import How
    from rankscope.table import Table

FAILED = 1

Format = Literal["text", "json", "junit", "github", "markdown", "sarif"]


@bundled({"sources": model_options, "how": how_options})
def check(
    sources: Sources,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline", parser=file, help="What it was, as `rankscope baseline` wrote it."
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="What must hold: 'rank: drop <= 2%', 'effective_rank >= 0.4 * min(shape)', "
            "'added: none', each with 'for GLOB' about some matrices only. Repeatable.",
        ),
    ] = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="What is printed: text, json, junit, github, markdown or sarif.",
        ),
    ] = "text",
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            parser=file,
            help="Write to a file too; .json, .csv, .md, .html, .xml (JUnit) or .sarif says how. "
            "Repeatable.",
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Make the model the new baseline, whatever changed.")
    ] = False,
    headers: Annotated[
        bool, typer.Option("--headers", help="Compare names, shapes and types; read no weights.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            parser=file,
            help="Settings. Default: the nearest rankscope.toml, or \\[tool.rankscope.check] "
            "in pyproject.toml, upwards of here.",
            show_default=False,
        ),
    ] = None,
    include: Include = None,
    exclude: Exclude = None,
    everything: Everything = False,
    *,
    how: How,
) -> None:
    """Fail when a model has lost rank since its baseline, or breaks a rule.

    Ends with 1 when a rule is broken, with 4 when something could not
    be measured. Without a baseline, rules on the model alone hold.

    Examples:

        rankscope check model/ --baseline ranks.json

        rankscope check model/ --rule 'effective_rank >= 0.4 * min(shape)'

        rankscope check model/ --baseline ranks.json --format github -o junit.xml
    """
    from rankscope.gate.baseline import baseline_of
    from rankscope.gate.check import verdict_on, verdict_on_headers
    from rankscope.presence import real
    from rankscope.views.formats import check_suffix

    if headers and update:
        raise typer.BadParameter("--headers reads no weights, of which a baseline would be made")
    for path in output or ():
        check_suffix(path)
        check_directory(path)
    rules = tuple(rule or ())
    with _refusal_told(sources.model, form, output or ()):
        demand = _demand(config, baseline, rules, include, exclude, update=update)
    demand = replace(demand, base=sources.base)
    for path in output or ():
        if demand.name is not None and real(path) == real(demand.name):
            raise UsageError(f"{path}: is the baseline, which only --update writes")
    if headers:
        with _refusal_told(sources.model, form, output or ()):
            verdict = verdict_on_headers(sources.model, demand, rules)
        _tell(verdict, form, output or (), everything=everything)
        _end(verdict)
    with _refusal_told(sources.model, form, output or ()):
        table = _measure(sources.model, demand, how)
        verdict = replace(verdict_on(str(sources.model), table, demand), accepted=update)
    _tell(verdict, form, output or (), everything=everything)
    if update and demand.baseline is not None and demand.name is not None:
        _write(baseline_of(table, demand.baseline.question, demand.chosen), Path(demand.name))
        return
    _end(verdict)


def _demand(
    config: Path | None,
    baseline: Path | None,
    rules: tuple[str, ...],
    include: Sequence[str] | None,
    exclude: Sequence[str] | None,
    *,
    update: bool,
) -> Demand:
    """What the options ask, beside what the project has settled; the options come last and win."""
    from rankscope.gate.baseline import check_covers, nothing_yet, read_baseline
    from rankscope.gate.check import Demand
    from rankscope.gate.configuration import find_configuration, read_configuration
    from rankscope.matrices import Selection
    from rankscope.places import seen_from_here

    settled = find_configuration(Path()) if config is None else read_configuration(config)
    selection = settled.selection
    if include or exclude:
        selection = Selection(tuple(include or ()), tuple(exclude or ()))
    place = baseline
    if place is None and settled.baseline is not None:
        place = seen_from_here(settled.baseline)
    if update and place is None:
        raise typer.BadParameter("--update needs to know where the baseline lies: --baseline FILE")
    if place is not None and update:
        check_directory(place)
    known: Baseline | None = None
    if place is not None and update and not place.exists():  # the first one: nothing was there
        known = nothing_yet(settled.eps, settled.norm, selection)
    elif place is not None:
        known = read_baseline(place)
        if update and selection is not None:
            check_covers(selection, known, place)
    return Demand(
        (*settled.rules, *rules),
        known,
        None if place is None else str(place),
        settled.eps,
        settled.norm,
        selection,
    )


def _measure(model: PurePath, demand: Demand, how: How) -> Table:
    from rankscope.gate.check import measured

    with store_warnings():
        return with_progress(
            "measuring", lambda progress: measured(model, demand, replace(how, progress=progress))
        )


def _tell(verdict: Verdict, form: Format, files: Sequence[Path], *, everything: bool) -> None:
    """Write the files, and print what was asked for."""
    from rankscope.views import gate
    from rankscope.views.formats import rendered, save_verdict

    for path in files:
        save_verdict(verdict, path, everything=everything)
        announce(path)
    if form == "text":
        show(gate.report(verdict, narrow=sys.stdout.isatty()), everything=everything)
        return
    sys.stdout.write(rendered(verdict, form, everything=everything))
    sys.stdout.flush()


@contextmanager
def _refusal_told(model: PurePath, form: Format, files: Sequence[Path]) -> Iterator[None]:
    """Tell the formats that CI systems read, too, when what is checked, or against, is not sound.

    The exception goes on, to be told on stderr and to choose the exit code.
    """
    from rankscope.gate.verdict import Refusal
    from rankscope.views.formats import rendered_refusal, save_refusal

    try:
        yield
    except InputRejected as error:
        refusal = Refusal(str(model), str(error))
        sys.stdout.write(rendered_refusal(refusal, form))
        sys.stdout.flush()
        for path in files:
            if save_refusal(refusal, path):
                announce(path)
        raise


def _write(renewed: Baseline, place: Path) -> None:
    from rankscope.release import write_baseline

    write_baseline(renewed, place)
    announce(place)


def _end(verdict: Verdict) -> None:
    """Exit with the code that the verdict has; return when all is fine."""
    if verdict.outcome == "fail":
        raise typer.Exit(FAILED)
    if verdict.outcome == "incomplete":
        typer.echo(
            f"incomplete: not everything could be measured (exit code {INCOMPLETE})", err=True
        )
        raise typer.Exit(INCOMPLETE)
    raise typer.Exit
