"""What the package offers to Python for a report: a page of a model, a run, a sweep or a diff."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from rankscope.asking import Average, Source, asked_of, scene_of
from rankscope.comparing import diff_scene
from rankscope.differences.comparison import Asked as AskedOfTwo
from rankscope.errors import UsageError
from rankscope.extras import needs
from rankscope.gate.baseline import METRICS
from rankscope.how import How
from rankscope.matrices import Selection
from rankscope.metrics.thresholded import DEFAULT_EPS, Norm
from rankscope.pages.page import render
from rankscope.pages.payload import lacking
from rankscope.pages.section import Subject
from rankscope.pages.sections import SECTIONS
from rankscope.presence import real
from rankscope.question import Question
from rankscope.training import Given
from rankscope.writing import atomic_write

DEFAULT_PATH = Path("report.html")

SUFFIXES = (".html", ".htm")


def report(  # noqa: PLR0913 - each is a question of its own, and none has to be asked
    *sources: Source,
    path: Path | str = DEFAULT_PATH,
    metrics: str | Sequence[str] = (),
    eps: float | Sequence[float] = DEFAULT_EPS,
    norm: Norm = "frobenius",
    selection: Selection | None = None,
    how: How | None = None,
    given: Given | None = None,
    average: Average = "marked",
    base: PurePath | str | None = None,
) -> list[str]:
    """Write a page that shows a model, a run, or several runs: one HTML file that loads nothing.

    Args:
        *sources: as of `analyze`.
        path: of the page.
        metrics: names as in `rankscope.metrics.METRICS`; empty for the default ones.
        eps: thresholds of the ranks; on the page the first one can be changed.
        norm: what eps is relative to.
        selection: globs over matrix names.
        how: route, workers, store, progress.
        given: what the bounds need to know of a run beyond what it records.
        average: over the matrices that a run marks as averaged, or over all.
        base: the model that the sources are LoRA adapters of.

    Returns:
        A line for each thing that should have been measured and was not; the page has them too.

    Raises:
        InputRejected: no source is sound.
        UsageError: as of `analyze`; plotly is not installed; `path` is no page's or is a source.
        OutputFailed: it could not be written; an old file is intact.
    """
    asked = asked_of(
        metrics=metrics,
        eps=eps,
        norm=norm,
        selection=selection,
        how=how,
        given=given,
        average=average,
        base=base,
    )
    check_page(path, [*sources, base])
    return _write(scene_of(*sources, asked=asked), Path(path))


def report_diff(  # noqa: PLR0913 - as of `diff`
    before: PurePath | str,
    after: PurePath | str,
    *,
    path: Path | str = DEFAULT_PATH,
    metrics: Sequence[str] = METRICS,
    eps: Sequence[float] = (DEFAULT_EPS,),
    norm: Norm = "frobenius",
    selection: Selection | None = None,
    how: How | None = None,
    base: PurePath | str | None = None,
) -> list[str]:
    """Write a page that shows what has moved from one checkpoint to another.

    Args:
        before: one checkpoint A: a file, or a model's directory.
        after: the other one, B; B - A is measured too.
        path: of the page.
        metrics: what is read off each spectrum, and off that of B - A.
        eps: thresholds of the ranks; on the page the first one can be changed.
        norm: what eps is relative to.
        selection: which matrices, by their names in either.
        how: route, workers, store, progress.
        base: the model that B is a LoRA adapter of.

    Returns:
        A line for each thing that should have been measured and was not; the page has them too.

    Raises:
        InputRejected, UsageError, OutputFailed: as of `report`.
    """
    question = Question(tuple(metrics), tuple(eps), norm)
    asked = AskedOfTwo(question, selection or Selection(), delta=True, base=base)
    check_page(path, [before, after, base])
    return _write(diff_scene(before, after, asked, how), Path(path))


def check_page(path: Path | str, sources: Iterable[Source | None]) -> None:
    """Find out before hours of work what would make a page impossible.

    Raises:
        UsageError: plotly is not installed; the suffix is no page's; it is one of the sources.
    """
    needs("a report", "plotly", "report")
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{target}: suffix {target.suffix!r} is no page's, expected {' or '.join(SUFFIXES)}"
        )
    named = [one for one in sources if isinstance(one, str | PurePath)]
    if real(target) in {real(one) for one in named}:
        raise UsageError(f"{target}: holds the weights that were asked for; choose another file")


def _write(subject: Subject, path: Path) -> list[str]:
    text = render(subject, SECTIONS)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))
    return lacking(subject)
