"""The options that every command which measures has, and what becomes of the store's warnings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rankscope.cli.options import file
from rankscope.text import inert

if TYPE_CHECKING:
    from rankscope.how import How

DEFAULT_EPS = 1e-3  # as in metrics/thresholded.py, which imports NumPy

Eps = Annotated[
    list[float] | None,
    typer.Option("--eps", help="Threshold of the ranks. Repeatable. Default: 0.001."),
]
NormOption = Annotated[
    Literal["frobenius", "spectral", "none"],
    typer.Option("--norm", help="The norm that eps is relative to; none: eps is absolute."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes. Default: one per core, if it pays."),
]
Store = Annotated[
    Path | None,
    typer.Option("--store", parser=file, help="Keep spectra in this file.", show_default=False),
]
NoStore = Annotated[bool, typer.Option("--no-store", help="Keep and look up nothing.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Read every file again, even unchanged ones.")
]


ELSEWHERE = "Where it runs"

Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="cpu, cuda, cuda:1, or cuda:* for every GPU; auto takes a GPU where it pays.",
        rich_help_panel=ELSEWHERE,
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Measure on the Dask cluster of this scheduler: tcp://HOST:8786, tls://HOST:8786.",
        show_default=False,
        rich_help_panel=ELSEWHERE,
    ),
]
SchedulerFile = Annotated[
    Path | None,
    typer.Option(
        "--scheduler-file",
        parser=file,
        help="The same, of the scheduler that wrote this file.",
        show_default=False,
        rich_help_panel=ELSEWHERE,
    ),
]
Cluster = Annotated[
    Literal["local", "slurm"] | None,
    typer.Option(
        "--cluster",
        help="Start a Dask cluster of --workers, here or on SLURM, for as long as this takes.",
        show_default=False,
        rich_help_panel=ELSEWHERE,
    ),
]


def store_of(store: Path | None, *, no_store: bool) -> Path | bool:
    """Where spectra are kept, as these options say."""
    if store is not None and no_store:
        raise typer.BadParameter("--store and --no-store exclude each other")
    return store or not no_store


@contextmanager
def how_options(
    workers: Workers = None,
    store: Store = None,
    no_store: NoStore = False,
    verify: Verify = False,
    device: Device = "auto",
    scheduler: Scheduler = None,
    scheduler_file: SchedulerFile = None,
    cluster: Cluster = None,
) -> Iterator[How]:
    """How to measure, as these options say; a cluster is left, or ended, with the command."""
    from rankscope.how import How

    kept = store_of(store, no_store=no_store)
    how = How(workers=workers, store=kept, verify=verify, device=device)
    if scheduler is None and scheduler_file is None and cluster is None:
        yield how
        return
    from rankscope.cluster.connecting import Where, connected

    where = Where(scheduler, scheduler_file, cluster, workers)
    with connected(where, lambda line: typer.echo(inert(line), err=True)) as executor:
        yield replace(how, executor=executor)


@contextmanager
def store_warnings() -> Iterator[None]:
    """Say on stderr what is wrong with the store; libraries' own warnings are not the user's."""
    from rankscope.store import StoreWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", StoreWarning)
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        typer.echo(f"warning: {inert(text)}", err=True)
