"""What makes a record show itself: in a terminal, in a notebook, as a data frame, as a file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rankscope.frames import Frame, frame, to_pandas, to_polars
from rankscope.records import Spectrum
from rankscope.views import html, save, spectrum, terminal
from rankscope.views.report import Report

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class ShownSpectrum(Spectrum):
    """A `Spectrum` that shows itself in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return html.fragment([spectrum.grid(self)], [spectrum.remark(self)])


class ShowsItself:
    """A record that has a report; the public results derive from it and from their record."""

    __slots__ = ()

    def _report(self) -> Report:
        raise NotImplementedError

    def __str__(self) -> str:
        return terminal.render(self._report(), width=shutil.get_terminal_size().columns)

    def _repr_html_(self) -> str:
        return html.render(self._report())

    def to_pandas(self, rows: str = "") -> pd.DataFrame:
        """Rows of the document as a data frame: one row each, a column for each of their keys.

        Args:
            rows: which of the document's rows, by their key in it; by default those that `.csv`
                holds too.

        Raises:
            UsageError: there are no such rows, or pandas is not installed.
        """
        return to_pandas(self._frame(rows))

    def to_polars(self, rows: str = "") -> pl.DataFrame:
        """As `to_pandas`, with what is neither number nor text nor a list of these as JSON.

        Raises:
            UsageError: there are no such rows, or Polars is not installed.
        """
        return to_polars(self._frame(rows))

    def _frame(self, rows: str) -> Frame:
        shown = self._report()
        return frame(shown.document(), rows or shown.part)

    def save(self, path: Path | str) -> None:
        """Write to a file whose suffix chooses the view: .json, .csv, .md, .html or .parquet.

        Raises:
            UsageError: another suffix, or what it needs is not installed.
            OutputFailed: it could not be written; an old file is intact.
        """
        save(self._report(), Path(path))
