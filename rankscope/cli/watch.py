"""`rankscope watch`: a live view of a running job."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankscope.blas import THREAD_VARIABLES
from rankscope.cli.measuring import DEFAULT_EPS, Eps, NormOption, NoStore, Store, store_of
from rankscope.cli.options import Exclude, Include, file
from rankscope.live.ending import Ending

if TYPE_CHECKING:
    from rankscope.live.taking import Asked
    from rankscope.live.watch import View

DEFAULT_METRICS = ("rank", "effective_rank")

# What `nice` adds where it is not told: a tenth of the processor time of what it competes with.
NICENESS = 10


def watch(
    run_dir: Annotated[
        Path,
        typer.Argument(
            parser=file,
            help="A run directory, or one of numbered checkpoints; it need not be there yet.",
            metavar="RUN_DIR",
            show_default=False,
        ),
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--metric",
            help="A metric, as of `rankscope analyze`; the first one has the curves. Repeatable. "
            f"Default: {', '.join(DEFAULT_METRICS)}.",
        ),
    ] = None,
    eps: Eps = None,
    norm: NormOption = "frobenius",
    include: Include = None,
    exclude: Exclude = None,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between two looks, at least.")
    ] = 2.0,
    store: Store = None,
    no_store: NoStore = False,
) -> None:
    """Follow a running job: a live table, and curves over its steps.

    Each new snapshot is decomposed once, at low priority, on one core and no GPU.
    The job may end and start again, and be watched from several terminals.

    Ctrl-C ends it, with exit code 0. Where stdout is no terminal, each snapshot is a line.

    Examples:

        rankscope watch runs/digits

        rankscope watch runs/digits --eps 0.01 --include 'hidden.*'

        rankscope watch runs/digits | tee ranks.log
    """
    for variable in THREAD_VARIABLES:
        # Whatever the job's own environment says; NumPy is not loaded yet, and BLAS would start
        # threads that wait for work by spinning.
        os.environ[variable] = "1"
    with Ending() as ending:
        with suppress(KeyboardInterrupt):
            from rankscope.how import How
            from rankscope.live.taking import Asked
            from rankscope.matrices import Selection
            from rankscope.question import Question

            question = Question(
                tuple(metric or DEFAULT_METRICS), tuple(eps or (DEFAULT_EPS,)), norm
            )
            question.columns()  # what makes no sense is told before there is a snapshot
            selection = Selection(tuple(include or ()), tuple(exclude or ()))
            how = How(store=store_of(store, no_store=no_store), cores=1, device="cpu")
            _follow(run_dir, Asked(question, selection, how), interval, ending)
        raise typer.Exit(ending.exit_code)


def _follow(run_dir: Path, asked: Asked, interval: float, ending: Ending) -> None:
    """Show the run until a signal ends it, and leave the terminal as it was."""
    from rankscope.live.lookout import Lookout
    from rankscope.live.watch import Watch

    Lookout(run_dir).check()
    with suppress(OSError, AttributeError):  # Windows has none
        os.nice(NICENESS)
    view = _view()
    try:
        view.start()
        Watch(run_dir, asked, view, interval).run(ending.check)
    finally:
        ending.close()
        view.stop()


def _view() -> View:
    """A live table on a terminal that can be drawn on, lines anywhere else."""
    from rich.console import Console

    from rankscope.live.painter import Painter
    from rankscope.live.printer import Printer

    console = Console(highlight=False)
    if not sys.stdout.isatty() or console.is_dumb_terminal:
        return Printer()
    if console.options.ascii_only and isinstance(sys.stdout, io.TextIOWrapper):
        # One letter for one, as `main` does not have it: what is drawn has to fit.
        sys.stdout.reconfigure(errors="replace")
    return Painter(console)
