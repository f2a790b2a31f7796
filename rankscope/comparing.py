"""What the package offers to Python for two checkpoints: compare them, and look at the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import PurePath

from rankscope.differences.comparison import Asked, difference, with_spectra
from rankscope.differences.difference import Difference
from rankscope.gate.baseline import METRICS
from rankscope.how import How
from rankscope.matrices import Selection
from rankscope.metrics.thresholded import DEFAULT_EPS, Norm
from rankscope.question import Question
from rankscope.records import Spectrum
from rankscope.scene import Curve, DiffScene
from rankscope.showing import ShowsItself
from rankscope.text import natural
from rankscope.views.difference import report, sentence
from rankscope.views.report import Report


class Diff(ShowsItself, Difference):
    """A `Difference` that shows itself: in a terminal, a notebook, as a data frame, as a file."""

    __slots__ = ()

    def _report(self) -> Report:
        return report(self)

    def __repr__(self) -> str:
        return f"<Diff: {sentence(self)}>"


def diff(  # noqa: PLR0913 - each is a question of its own, and none has to be asked
    before: PurePath | str,
    after: PurePath | str,
    delta: bool = False,
    *,
    metrics: Sequence[str] = METRICS,
    eps: Sequence[float] = (DEFAULT_EPS,),
    norm: Norm = "frobenius",
    selection: Selection | None = None,
    how: How | None = None,
    base: PurePath | str | None = None,
) -> Diff:
    """Set two checkpoints side by side, the matrices that lost most first.

    Args:
        before: one checkpoint A: a file, or a model's directory.
        after: the other one, B.
        delta: also measure B - A: how far each matrix moved, in how many directions.
        metrics: what is read off each spectrum, and off that of B - A.
        eps: thresholds of `rank` and its like; of B - A they are relative to B - A.
        norm: what eps is relative to.
        selection: which matrices, by their names in either.
        how: route, workers, store, progress.
        base: the model that B is a LoRA adapter of; compared is that model with it merged in.

    Raises:
        InputRejected: one of them is not sound, or no single checkpoint.
        UsageError: an unknown metric, a glob that matches nothing.
    """
    question = Question(tuple(metrics), tuple(eps), norm)
    asked = Asked(question, selection or Selection(), delta, base)
    found = difference(before, after, asked, how or How())
    return Diff(**{part.name: getattr(found, part.name) for part in fields(found)})


def diff_scene(
    before: PurePath | str, after: PurePath | str, asked: Asked, how: How | None = None
) -> DiffScene:
    """Two checkpoints side by side with their spectra, as `diff` compares them.

    Raises:
        InputRejected: one of them is not sound, or no single checkpoint.
        UsageError: an unknown metric, a glob that matches nothing.
    """
    found, spectra = with_spectra(before, after, asked, how or How())
    old, new = found.before["path"], found.after["path"]
    return DiffScene(
        found,
        _curves(old, spectra.before),
        _curves(new, spectra.after),
        _curves(new, spectra.moved),
    )


def _curves(source: str, spectra: Mapping[str, Spectrum]) -> tuple[Curve, ...]:
    """Curves by name, so that they stand in one order however they came."""
    return tuple(Curve(source, name, None, spectra[name]) for name in sorted(spectra, key=natural))
