"""`rankscope inspect`: what is in a checkpoint and what measuring it would cost."""

from __future__ import annotations

from typing import Annotated

import typer

from rankscope.cli.options import INCOMPLETE, AsJson, Everything, Exclude, Include, Output, Paths
from rankscope.cli.output import check_output
from rankscope.cli.screen import complain, present


def inspect(
    paths: Paths,
    include: Include = None,
    exclude: Exclude = None,
    everything: Everything = False,
    as_json: AsJson = False,
    output: Output = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes to reckon with. Default: one per core."),
    ] = None,
) -> None:
    """Tell what is in there, what would be measured and at what cost, from headers only.

    Nothing is computed, and no weights are read.

    Examples:

        rankscope inspect model/

        rankscope inspect runs/digits --json
    """
    from rankscope.executors import available_cores
    from rankscope.grouping import group_files
    from rankscope.inventory import take_inventory
    from rankscope.matrices import Selection
    from rankscope.overview import overview
    from rankscope.store import SpectrumStore
    from rankscope.views import inspection

    if output is not None:
        check_output(output)

    all_series = group_files(paths)
    selection = Selection(tuple(include or ()), tuple(exclude or ()))
    nothing = [SpectrumStore(None, 0) for _ in all_series]
    found = overview(take_inventory(all_series, selection, nothing), workers or available_cores())
    shown = inspection.report(found)
    present(shown, as_json=as_json, output=output, everything=everything)
    if found.incomplete:
        complain(shown.remarks(everything), told=output is None and not as_json)
        raise typer.Exit(INCOMPLETE)
