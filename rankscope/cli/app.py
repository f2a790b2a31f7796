"""The command line: collects the commands, and alone turns an error into an exit code.

0 fine, 1 a check failed, 2 wrong usage, 3 input rejected, 4 incomplete: some matrices could not
be measured, or the output not be written.
"""

from __future__ import annotations

import functools
import gc
import io
import os
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn, ParamSpec

import typer

from rankscope.blas import start_with_one_thread
from rankscope.cli.analyze import analyze
from rankscope.cli.baseline import baseline
from rankscope.cli.bound import bound
from rankscope.cli.certify import certify
from rankscope.cli.check import check
from rankscope.cli.diff import diff
from rankscope.cli.inspect import inspect
from rankscope.cli.options import INCOMPLETE
from rankscope.cli.plot import plot
from rankscope.cli.report import report
from rankscope.cli.watch import watch
from rankscope.errors import InputRejected, RankScopeError
from rankscope.text import inert
from rankscope.version import __version__

# Rows, notes and readings are made by the hundred thousand and kept: collecting after every 700 of
# them, Python's default, takes a fifth of a long run's time and frees nothing.
FEW_COLLECTIONS = 100_000

INTERRUPTED = 130  # 128 + SIGINT, the shell's convention

Parameters = ParamSpec("Parameters")


def guarded(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """A command whose errors end it with one line and the right code, before typer sees them."""

    @functools.wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except RankScopeError as error:
            _fail(f"error: {inert(str(error))}", error.exit_code)
        except KeyboardInterrupt:
            # Only what measures has --verify; `inspect --plan` writes into no store.
            stores = "verify" in kwargs and kwargs.get("no_store") is False
            kept = "; what was finished is kept" if stores else ""
            _fail(f"interrupted{kept}", INTERRUPTED)
        except BrokenPipeError:
            _silence()  # the reader has seen enough (`| head`)
            sys.exit(0)
        except OSError as error:
            _fail(*_of_the_system(error))
        except MemoryError:
            _fail("error: this needs more memory than there is", INCOMPLETE)

    return run


app = typer.Typer(
    name="rankscope",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (analyze, baseline, bound, certify, check, diff, inspect, plot, report, watch):
    app.command(no_args_is_help=True)(guarded(command))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rankscope {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """How many directions the weights of a neural network really use.

    Exact singular values, ranks and norms of any checkpoint or training run.
    """


def main() -> None:
    """The console script."""
    start_with_one_thread()
    _replace_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that a terminal's or a build's encoding has no letters for is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    gc.set_threshold(FEW_COLLECTIONS)
    app()


def _replace_closed() -> None:
    """Write to nowhere what would go to a stream that was closed (`>&-`): the exit code counts."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - to the end


def _of_the_system(error: OSError) -> tuple[str, int]:
    """What to say of a path that may not be looked at, or a full disk behind stdout; the code."""
    if error.filename is not None:
        return f"error: {inert(str(error.filename))}: {error.strerror}", InputRejected.exit_code
    _silence()
    return f"error: {error.strerror or error}", INCOMPLETE


def _silence() -> None:
    """Let nothing more reach a stdout that takes nothing; Python would complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(text: str, code: int) -> NoReturn:
    sys.stderr.write(text + "\n")
    sys.exit(code)
