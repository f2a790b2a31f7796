"""`rankscope diff`: two checkpoints side by side, and what lies between them."""

from __future__ import annotations

from dataclasses import replace
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
    AsJson,
    BaselineMetrics,
    Everything,
    Exclude,
    Include,
    Output,
    Sources,
    pair_options,
)
from rankscope.cli.output import check_output
from rankscope.cli.progress import with_progress
from rankscope.cli.screen import complain, present

if TYPE_CHECKING:
    from rankscope.how import How


@bundled({"sources": pair_options, "how": how_options})
def diff(
    sources: Sources,
    delta: Annotated[
        bool,
        typer.Option("--delta", help="Measure B - A itself: in how many directions it moved."),
    ] = False,
    metric: BaselineMetrics = None,
    eps: Eps = None,
    norm: NormOption = "frobenius",
    include: Include = None,
    exclude: Exclude = None,
    everything: Everything = False,
    as_json: AsJson = False,
    output: Output = None,
    *,
    how: How,
) -> None:
    """Set two checkpoints side by side, the matrices that lost most first.

    With --delta also the spectrum of B - A: how far each matrix moved,
    and in how many directions that no rounding explains.
    Matrices that are equal in both are only counted.
    A difference is no failure: the exit code is 0 (`check` has rules).

    Examples:

        rankscope diff base.safetensors tuned.safetensors

        rankscope diff base/ tuned/ --delta -o diff.html

        rankscope diff base/ adapter/ --base base/ --delta
    """
    from rankscope.comparing import diff as run
    from rankscope.gate.baseline import METRICS
    from rankscope.matrices import Selection
    from rankscope.views.difference import report

    if output is not None:
        check_output(output)
    before, after = sources.paths
    with store_warnings():
        found = with_progress(
            "comparing",
            lambda progress: run(
                before,
                after,
                delta,
                metrics=metric or METRICS,
                eps=tuple(eps or (DEFAULT_EPS,)),
                norm=norm,
                selection=Selection(tuple(include or ()), tuple(exclude or ())),
                how=replace(how, progress=progress),
                base=sources.base,
            ),
        )
    shown = report(found)
    present(shown, as_json=as_json, output=output, everything=everything)
    if found.incomplete:
        complain(shown.remarks(everything), told=output is None and not as_json)
        raise typer.Exit(INCOMPLETE)
