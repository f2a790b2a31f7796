"""What the package offers to Python for a run: check the theorem's proof on its weights."""

from __future__ import annotations

from dataclasses import fields
from pathlib import PurePath

from rankscope.certificates.certification import Certification
from rankscope.certificates.certify import Progress
from rankscope.certificates.certify import certify as certification
from rankscope.matrices import Selection
from rankscope.showing import ShowsItself
from rankscope.training import Given
from rankscope.views.certificate import report, verdict
from rankscope.views.report import Report


class Proof(ShowsItself, Certification):
    """A `Certification` that shows itself: in a terminal, a notebook, as a frame, as a file."""

    __slots__ = ()

    def _report(self) -> Report:
        return report(self)

    def __repr__(self) -> str:
        return f"<Proof: {verdict(self)}>"


def certify(
    path: PurePath | str,
    given: Given | None = None,
    selection: Selection | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Proof:
    """Check P1's Lemma 3.2 and its proof on every pair of snapshots that is close enough.

    Args:
        path: a run directory, or any series of snapshots whose numbers count updates.
        given: what the user states of the run; wins over what it records.
        selection: which matrices; all by default.
        workers: processes or threads; None for one per core.
        progress: called with the operations done and to be done.

    Raises:
        InputRejected: there is nothing to check; the message says what is missing.
        UsageError: a glob that matches no matrix.
    """
    found = certification(path, given, selection, workers=workers, progress=progress)
    return Proof(**{part.name: getattr(found, part.name) for part in fields(found)})
