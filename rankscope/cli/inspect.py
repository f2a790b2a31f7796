"""`rankscope inspect`: what is in a checkpoint and what measuring it would cost."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from rankscope.cli.options import INCOMPLETE, AsJson, Everything, Exclude, Include, Paths
from rankscope.cli.screen import complain, show


def inspect(
    paths: Paths,
    include: Include = None,
    exclude: Exclude = None,
    everything: Everything = False,
    as_json: AsJson = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes to reckon with. Default: one per core."),
    ] = None,
) -> None:
    """Tell what is in there, what would be measured and at what cost, from headers only.

    Examples:

        rankscope inspect model/

        rankscope inspect runs/digits --json
    """
    from rankscope.executors import available_cores
    from rankscope.inventory import take_inventory
    from rankscope.matrices import Selection
    from rankscope.overview import overview
    from rankscope.series import group_files
    from rankscope.store import SpectrumStore
    from rankscope.views.remarks import left_out

    all_series = group_files(paths)
    selection = Selection(tuple(include or ()), tuple(exclude or ()))
    nothing = [SpectrumStore(None, 0) for _ in all_series]
    found = overview(take_inventory(all_series, selection, nothing), workers or available_cores())
    if as_json:
        sys.stdout.write(json.dumps(found.to_document(), indent=1) + "\n")
    else:
        from rankscope.views import inspection

        show(lambda width: inspection.renderable(found, width, everything=everything))
    if found.incomplete:
        complain(left_out(found.skipped, everything=everything), told=not as_json)
        raise typer.Exit(INCOMPLETE)
