"""`rankscope inspect`: what is in a checkpoint and what measuring it would cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Annotated

import typer

from rankscope.cli.bundles import bundled
from rankscope.cli.measuring import NoStore, Store, store_of
from rankscope.cli.options import (
    INCOMPLETE,
    AsJson,
    Everything,
    Exclude,
    Include,
    Output,
    file,
    listing_options,
)
from rankscope.cli.output import check_output
from rankscope.cli.screen import complain, present


@bundled({"paths": listing_options})
def inspect(
    paths: Sequence[PurePath],
    include: Include = None,
    exclude: Exclude = None,
    everything: Everything = False,
    as_json: AsJson = False,
    output: Output = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes to reckon with. Default: one per core."),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Also predict time and memory, from rates measured in some seconds."
        ),
    ] = False,
    rates: Annotated[
        Path | None,
        typer.Option(
            "--rates",
            parser=file,
            help="With --plan: the rates of another machine, in its plan's -o FILE.json.",
            show_default=False,
        ),
    ] = None,
    store: Store = None,
    no_store: NoStore = False,
) -> None:
    """Tell what is in there, what would be measured and at what cost, from headers only.

    Nothing is computed, and no weights are read; `--plan` times this machine, and reads up to
    40 MB of the files to learn how fast they come.

    Examples:

        rankscope inspect model/

        rankscope inspect runs/big --plan --workers 32

        rankscope inspect runs/digits --json
    """
    from rankscope.executors import available_cores
    from rankscope.grouping import group_files
    from rankscope.inventory import take_inventory
    from rankscope.matrices import Selection
    from rankscope.overview import overview
    from rankscope.store import SpectrumStore
    from rankscope.views import inspection

    if not plan and (rates is not None or store is not None or no_store):
        raise typer.BadParameter("--rates, --store and --no-store are for --plan")
    if output is not None:
        check_output(output)
        if plan and output.suffix in (".csv", ".parquet"):
            raise typer.BadParameter("--plan goes to -o FILE.json, .md or .html: these are of rows")

    started = time.perf_counter()
    all_series = group_files(paths)
    selection = Selection(tuple(include or ()), tuple(exclude or ()))
    nothing = [SpectrumStore(None, 0) for _ in all_series]
    inventory = take_inventory(all_series, selection, nothing)
    listing = time.perf_counter() - started
    count = workers or available_cores()
    found = overview(inventory, count)
    if plan:
        from rankscope.planning import plan_of

        kept = store_of(store, no_store=no_store)
        made = plan_of(inventory, count, listing=listing, store=kept, rates=rates)
        found = replace(found, plan=made)
    shown = inspection.report(found)
    present(shown, as_json=as_json, output=output, everything=everything)
    if found.incomplete:
        complain(shown.remarks(everything), told=output is None and not as_json)
        raise typer.Exit(INCOMPLETE)
