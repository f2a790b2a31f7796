"""What the package offers to a release: a baseline of a model, and a check of the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path, PurePath

from rankscope.api import analyze
from rankscope.asking import MEMORY, Source
from rankscope.errors import UsageError
from rankscope.gate.baseline import (
    METRICS,
    Baseline,
    baseline_of,
    check_covers,
    check_replaceable,
    nothing_yet,
    read_baseline,
    to_text,
)
from rankscope.gate.check import Demand, measured, verdict_on, verdict_on_headers
from rankscope.gate.verdict import Verdict
from rankscope.how import How
from rankscope.matrices import Selection
from rankscope.metrics.thresholded import DEFAULT_EPS, Norm
from rankscope.places import place
from rankscope.presence import real
from rankscope.question import Question
from rankscope.showing import ShowsItself
from rankscope.table import Table
from rankscope.views.formats import save_verdict
from rankscope.views.gate import report
from rankscope.views.gatewords import headline, subject
from rankscope.views.report import Report
from rankscope.writing import atomic_write


class Check(ShowsItself, Verdict):
    """A `Verdict` that shows itself: in a terminal, in a notebook, as a file."""

    __slots__ = ()

    def _report(self) -> Report:
        return report(self)

    def __repr__(self) -> str:
        return f"<Check: {subject(self)}: {headline(self)}>"

    def save(self, path: Path | str) -> None:
        """Write to a file: .json, .csv, .md, .html, .xml (JUnit) or .sarif, every finding in it.

        Raises:
            UsageError: another suffix.
            OutputFailed: it could not be written; an old file is intact.
        """
        save_verdict(self, Path(path), everything=True)


def baseline(
    source: Source,
    *,
    metrics: Sequence[str] = METRICS,
    eps: Sequence[float] = (DEFAULT_EPS,),
    norm: Norm = "frobenius",
    selection: Selection | None = None,
    how: How | None = None,
    base: PurePath | str | None = None,
) -> Baseline:
    """Measure what a released model is, to be compared with the next one.

    Args:
        source: one checkpoint, a file or a model's directory; or weights in memory, as `check`
            takes them.
        metrics: what is kept of each spectrum.
        eps: thresholds of `rank` and its like.
        norm: what eps is relative to.
        selection: which matrices; the check is about the same ones.
        how: route, workers, store, progress.
        base: the model that it is an adapter of, to be merged in.

    Raises:
        InputRejected: it is not sound, no single checkpoint, or not all of it can be measured.
        UsageError: an unknown metric, a glob that matches nothing.
    """
    question = Question(tuple(metrics), tuple(eps), norm)
    known = Baseline(question, selection or Selection(), {})
    return _renewed(source, Demand(baseline=known, base=_path(base)), how)


def update_baseline(
    source: Source,
    path: Path | str,
    *,
    selection: Selection | None = None,
    how: How | None = None,
) -> None:
    """Make a model the new baseline; what is asked of it stays, where there was one before.

    Args:
        source: as in `baseline`.
        path: the file, there or not yet.
        selection: which matrices; None for those of the old baseline, or all.
        how: route, workers, store, progress.

    Raises:
        InputRejected: the model or the old baseline is not sound, or not all can be measured.
        UsageError: the selection leaves out matrices that the old baseline holds.
        OutputFailed: it could not be written; the old file is intact.
    """
    if Path(path).exists():
        known = read_baseline(path)
        check_covers(selection or known.selection, known, path)
        known = replace(known, selection=selection or known.selection)
    else:
        known = nothing_yet((DEFAULT_EPS,), "frobenius", selection)
    write_baseline(_renewed(source, Demand(baseline=known), how), path)


def write_baseline(kept: Baseline, path: Path | str) -> None:
    """Write a baseline to a file, whole or not at all.

    Raises:
        UsageError: there is a file that is no baseline.
        OutputFailed: it could not be written; an old file is intact.
    """
    check_replaceable(path)
    with atomic_write(real(path)) as file:  # a link stays one
        file.write(to_text(kept).encode("utf-8"))


def check(  # noqa: PLR0913 - likewise
    source: Source,
    baseline: Path | str | None = None,
    rules: str | Sequence[str] = (),
    *,
    eps: Sequence[float] = (DEFAULT_EPS,),
    norm: Norm = "frobenius",
    selection: Selection | None = None,
    how: How | None = None,
    base: PurePath | str | None = None,
) -> Check:
    """Say whether a model keeps what its baseline, or rules alone, demand of it.

    Args:
        source: one checkpoint, a file or a model's directory; or weights in memory, a mapping of
            names to arrays or tensors, or a `torch.nn.Module`.
        baseline: the file that `write_baseline` wrote; None for rules on the model alone.
        rules: one or several, as in docs/ci.md, beside the default ones.
        eps: thresholds where there is no baseline, which has its own.
        norm: what eps is relative to, likewise.
        selection: which matrices; None for those of the baseline, or all.
        how: route, workers, store, progress.
        base: the model that it is an adapter of, to be merged in.

    Raises:
        InputRejected: the model or the baseline is not sound.
        UsageError: a rule that is not understood or about nothing.

    >>> import numpy, rankscope
    >>> rankscope.check({"w": numpy.eye(3)}, rules=["rank >= 0.9 * min(shape)"]).outcome
    'pass'
    """
    known = None if baseline is None else read_baseline(baseline)
    place = None if baseline is None else str(baseline)
    demand = Demand(_several(rules), known, place, tuple(eps), norm, selection, _path(base))
    name = str(source) if isinstance(source, str | PurePath) else str(MEMORY)
    verdict = verdict_on(name, _table(source, demand, how or How()), demand)
    return Check(**{part.name: getattr(verdict, part.name) for part in fields(verdict)})


def check_headers(
    source: PurePath | str, baseline: Path | str, rules: str | Sequence[str] = ()
) -> Verdict:
    """Compare names, shapes and types with a baseline, and read no weights; see `check`.

    Raises:
        InputRejected: the model or the baseline is not sound.
        UsageError: a rule that is not understood, about nothing, or on a reading.
    """
    demand = Demand(_several(rules), read_baseline(baseline), str(baseline))
    return verdict_on_headers(source, demand, demand.rules)


def _several(rules: str | Sequence[str]) -> tuple[str, ...]:
    return (rules,) if isinstance(rules, str) else tuple(rules)


def _path(base: PurePath | str | None) -> PurePath | None:
    return None if base is None else place(base)


def _renewed(source: Source, demand: Demand, how: How | None) -> Baseline:
    """What would be the next baseline."""
    table = _table(source, demand, how or How())
    return baseline_of(table, demand.question, demand.chosen)


def _table(source: Source, demand: Demand, how: How) -> Table:
    if isinstance(source, str | PurePath):
        return measured(source, demand, how)
    if demand.base is not None:
        raise UsageError("weights in memory are merged with no base")
    demand.book()  # before any work
    asked = demand.question
    return analyze(
        source,
        metrics=asked.metrics,
        eps=asked.eps,
        norm=asked.norm,
        selection=demand.chosen,
        how=replace(how, keyed=True),
    )
