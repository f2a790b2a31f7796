"""`rankscope baseline`: what a released model is, in a small file to be committed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
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
    BaselineMetrics,
    Exclude,
    Include,
    Sources,
    file,
    model_options,
)
from rankscope.cli.output import announce, check_directory
from rankscope.cli.progress import with_progress

if TYPE_CHECKING:
    from rankscope.how import How


@bundled({"sources": model_options, "how": how_options})
def baseline(
    sources: Sources,
    output: Annotated[
        Path, typer.Option("-o", "--output", parser=file, help="The file, JSON, to be committed.")
    ],
    metric: BaselineMetrics = None,
    eps: Eps = None,
    norm: NormOption = "frobenius",
    include: Include = None,
    exclude: Exclude = None,
    *,
    how: How,
) -> None:
    """Write down what a released model is, for the next one to be checked against.

    Readings, shapes, types and a digest of every matrix; no weights.
    Nothing is written unless everything could be measured.

    Examples:

        rankscope baseline model/ -o ranks.json

        rankscope check model/ --baseline ranks.json
    """
    from rankscope.gate.baseline import METRICS, check_replaceable
    from rankscope.matrices import Selection
    from rankscope.release import baseline as run
    from rankscope.release import write_baseline

    check_directory(output)
    check_replaceable(output)
    with store_warnings():
        kept = with_progress(
            "measuring",
            lambda progress: run(
                sources.model,
                metrics=metric or METRICS,
                eps=tuple(eps or (DEFAULT_EPS,)),
                norm=norm,
                selection=Selection(tuple(include or ()), tuple(exclude or ())),
                how=replace(how, progress=progress),
                base=sources.base,
            ),
        )
    write_baseline(kept, output)
    announce(output)
