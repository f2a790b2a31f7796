"""The options that every command which measures has, and what becomes of the store's warnings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rankscope.text import inert

if TYPE_CHECKING:
    from rankscope.measure import How

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
    Path | None, typer.Option("--store", help="Keep spectra in this file.", show_default=False)
]
NoStore = Annotated[bool, typer.Option("--no-store", help="Keep and look up nothing.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Read every file again, even unchanged ones.")
]


def how_of(workers: int | None, store: Path | None, *, no_store: bool, verify: bool) -> How:
    """How to measure, as these options say."""
    from rankscope.measure import How

    if store is not None and no_store:
        raise typer.BadParameter("--store and --no-store exclude each other")
    return How(workers=workers, store=store or not no_store, verify=verify)


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
