"""`rankscope baseline`: what a released model is, in a small file to be committed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rankscope.cli.measuring import (
    DEFAULT_EPS,
    Eps,
    NormOption,
    NoStore,
    Store,
    Verify,
    Workers,
    how_of,
    store_warnings,
)
from rankscope.cli.options import Base, BaselineMetrics, Exclude, Include, Model
from rankscope.cli.output import announce, check_directory
from rankscope.cli.progress import with_progress


def baseline(
    model: Model,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The file, JSON, to be committed.")
    ],
    metric: BaselineMetrics = None,
    eps: Eps = None,
    norm: NormOption = "frobenius",
    base: Base = None,
    include: Include = None,
    exclude: Exclude = None,
    workers: Workers = None,
    store: Store = None,
    no_store: NoStore = False,
    verify: Verify = False,
) -> None:
    """Write down what a released model is, for the next one to be checked against.

    Readings, shapes, types and a digest of every matrix; no weights.
    Nothing is written unless everything could be measured.

    Examples:

        rankscope baseline model/ -o ranks.json

        rankscope check model/ --baseline ranks.json
    """
    from rankscope.gate.baseline import METRICS
    from rankscope.matrices import Selection
    from rankscope.release import baseline as run
    from rankscope.release import write_baseline

    how = how_of(workers, store, no_store=no_store, verify=verify)
    check_directory(output)
    with store_warnings():
        kept = with_progress(
            "measuring",
            lambda progress: run(
                model,
                metrics=metric or METRICS,
                eps=tuple(eps or (DEFAULT_EPS,)),
                norm=norm,
                selection=Selection(tuple(include or ()), tuple(exclude or ())),
                how=replace(how, progress=progress),
                base=base,
            ),
        )
    write_baseline(kept, output)
    announce(output)
