"""What makes a record show itself: in a terminal, in a notebook, as a file."""

from __future__ import annotations

import shutil
from pathlib import Path

from rankscope.views import html, save, terminal
from rankscope.views.report import Report


class ShowsItself:
    """A record that has a report; the public results derive from it and from their record."""

    __slots__ = ()

    def _report(self) -> Report:
        raise NotImplementedError

    def __str__(self) -> str:
        return terminal.render(self._report(), width=shutil.get_terminal_size().columns)

    def _repr_html_(self) -> str:
        return html.render(self._report())

    def save(self, path: Path | str) -> None:
        """Write to a file whose suffix chooses the view: .json, .csv, .md or .html.

        Raises:
            UsageError: another suffix.
            OutputFailed: it could not be written; an old file is intact.
        """
        save(self._report(), Path(path))
