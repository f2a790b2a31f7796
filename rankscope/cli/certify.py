"""`rankscope certify`: the theorem's proof checked on the weights of a run."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from rankscope.cli.bundles import bundled
from rankscope.cli.options import (
    INCOMPLETE,
    AsJson,
    Everything,
    Exclude,
    Include,
    Output,
    given_options,
    run_options,
)
from rankscope.cli.output import check_output
from rankscope.cli.progress import with_progress
from rankscope.cli.screen import complain, present

if TYPE_CHECKING:
    from rankscope.training import Given

DOES_NOT_HOLD = 1


@bundled({"run_dir": run_options, "given": given_options})
def certify(
    run_dir: PurePath,
    include: Include = None,
    exclude: Exclude = None,
    everything: Everything = False,
    as_json: AsJson = False,
    output: Output = None,
    *,
    given: Given,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="At a time. Default: one per core.")
    ] = None,
) -> None:
    """Check the theorem's proof on the weights of every two steps that are close enough.

    n updates of SGD leave W_T = a W_{T-n} + U with rank U <= m_l B n.
    What the run does not record, or records wrongly, options state.
    Ends with 1 where it does not hold.

    Examples:

        rankscope certify runs/digits

        rankscope certify runs/digits --weight-decay 0.3

        rankscope certify steps/ --B 8 --mu 0.1 --lambda 5e-4 --m 1
    """
    from rankscope.certificates.certify import certify as run
    from rankscope.matrices import Selection
    from rankscope.views import certificate

    if output is not None:
        check_output(output)
    selection = Selection(tuple(include or ()), tuple(exclude or ()))
    found = with_progress(
        "checking",
        lambda progress: run(run_dir, given, selection, workers=workers, progress=progress),
    )
    shown = certificate.report(found)
    present(shown, as_json=as_json, output=output, everything=everything)
    if output is not None:
        typer.echo(certificate.verdict(found), err=True)
    if found.incomplete:
        complain(shown.remarks(everything), told=output is None and not as_json)
    if found.holds is False:
        raise typer.Exit(DOES_NOT_HOLD)
    if found.incomplete:
        raise typer.Exit(INCOMPLETE)
