"""The pytest plugin: a fixture `rankscope`, whose `check` fails a test when a model lost rank.

    def test_the_release(rankscope):
        rankscope.check("model.safetensors", baseline="ranks.json")

`pytest --rankscope-update` makes what the models are now the new baselines. Every run of pytest
loads this module, so that it imports nothing before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from rankscope.api import Analysis
    from rankscope.asking import Source
    from rankscope.gate.verdict import Verdict
    from rankscope.how import How
    from rankscope.matrices import Selection

MANY = 10  # matrices named in a failure's message

UPDATE = "--rankscope-update"

Answer = TypeVar("Answer")

WRITTEN = pytest.StashKey[list[Path]]()


@dataclass(frozen=True, slots=True)
class RankScope:
    """What the fixture `rankscope` is.

    Attributes:
        directory: the test file's, where baselines with a relative path lie.
        update: whether baselines are written instead of compared with.
        written: those that were.
    """

    directory: Path
    update: bool
    written: list[Path]

    def check(
        self,
        source: Source,
        baseline: Path | str | None = None,
        rules: str | Sequence[str] = (),
        *,
        selection: Selection | None = None,
        how: How | None = None,
    ) -> Verdict:
        """Fail the test unless a model keeps what its baseline and the rules demand of it.

        Args:
            source: a checkpoint's path, relative to where pytest runs; a mapping of names to
                arrays; or a `torch.nn.Module`.
            baseline: the baseline's path, relative to the test file; None for rules alone.
            rules: one or several, as in docs/ci.md, beside the default ones.
            selection: which matrices; None for those of the baseline, or all.
            how: route, workers, store.

        What is not sound or makes no sense fails the test too, with the reason in a line.
        """
        __tracebackhide__ = True
        from rankscope.places import seen_from_here
        from rankscope.release import check, update_baseline

        place = None if baseline is None else seen_from_here(self.directory / baseline)
        if place is not None and self.update:
            answer(lambda: update_baseline(source, place, selection=selection, how=how))
            self.written.append(place)
        if place is not None and not place.exists():
            pytest.fail(f"there is no baseline {place}: `pytest {UPDATE}` writes it")
        verdict = answer(lambda: check(source, place, rules, selection=selection, how=how))
        if verdict.outcome != "pass":
            pytest.fail(message(verdict))
        return verdict

    def analyze(
        self,
        *sources: Source,
        metrics: str | Sequence[str] = (),
        selection: Selection | None = None,
        how: How | None = None,
    ) -> Analysis:
        """Measure, for assertions of one's own; see `rankscope.analyze`.

        What is not sound or makes no sense fails the test with the reason in a line.
        """
        __tracebackhide__ = True
        from rankscope.api import analyze

        return answer(lambda: analyze(*sources, metrics=metrics, selection=selection, how=how))


def answer(ask: Callable[[], Answer]) -> Answer:
    """What a call answers; where it is refused, the test fails with the reason alone.

    The traceback through this package would tell of no mistake in it.
    """
    __tracebackhide__ = True
    from rankscope.errors import RankScopeError
    from rankscope.text import inert

    try:
        return ask()
    except RankScopeError as error:
        reason = inert(str(error))
    pytest.fail(reason)  # outside, so that the error is no context of the failure


def message(verdict: Verdict) -> str:
    """What a failed test shows: the verdict, then the worst matrices, one a line."""
    from rankscope.views.cilog import short
    from rankscope.views.gatewords import by_matrix, headline, next_step, subject, told

    found = by_matrix(verdict.failures)
    lines = [f"{short(name)}: {'; '.join(map(told, of_one))}" for name, of_one in found.items()]
    lines += [
        f"{short(row['name'])}: not measured: {short(row['reason'])}" for row in verdict.lacking
    ]
    more = [f"and {len(lines) - MANY} more"] if len(lines) > MANY else []
    shown = [f"  {line}" for line in [*lines[:MANY], *more]]
    advice = [f"`pytest {UPDATE}` accepts the new state"] if found and next_step(verdict) else []
    return "\n".join([f"{subject(verdict)}: {headline(verdict)}", *shown, *advice])


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    parser.getgroup("rankscope").addoption(
        UPDATE,
        action="store_true",
        help="write the baselines of rankscope.check anew instead of comparing with them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Nothing has been written yet."""
    config.stash[WRITTEN] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which baselines were written, for they are to be committed."""
    written = config.stash[WRITTEN]
    for place in dict.fromkeys(written):
        terminalreporter.write_line(f"rankscope: wrote {place}")


@pytest.fixture
def rankscope(request: pytest.FixtureRequest) -> RankScope:
    """Check models against baselines beside the test file, by rules."""
    update = bool(request.config.getoption(UPDATE))
    return RankScope(request.path.parent, update, request.config.stash[WRITTEN])
