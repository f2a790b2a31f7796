"""Snapshots that were measured one by one, put together as the run that they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rankscope.history import History, Sighting
from rankscope.live.taking import Taken
from rankscope.question import Question
from rankscope.rows import Row, averages
from rankscope.runrecord import RunRecord
from rankscope.training import Given, Training, training_of
from rankscope.trajectory import Theory


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a run beside its snapshots.

    Attributes:
        record: its run.json; None where there is none.
        log: the records of its log by step.
        epochs: its snapshots are numbered by epochs.
    """

    record: RunRecord | None
    log: Mapping[int, Row]
    epochs: bool


@dataclass(frozen=True, slots=True)
class Course:
    """The same rows as those of a `Table` of the run, as far as it has been measured.

    Attributes:
        columns: keys of the metrics, then of what needs several snapshots.
        rows: by step, ascending, a row a matrix.
        summary: a row a step: the means, and what the log says of it.
        theory: what the theory says of the run.
    """

    columns: tuple[str, ...]
    rows: Mapping[int, Sequence[Row]]
    summary: tuple[Row, ...]
    theory: Theory


def course(
    taken: Mapping[int, Taken], steps: Sequence[int], question: Question, known: Known
) -> Course:
    """Put together what is there.

    Args:
        taken: the measured snapshots by step.
        steps: of all snapshots, ascending, whether measured or not yet.
        question: that they were asked.
        known: what else is known of the run.
    """
    training = _training(taken, known)
    theory = Theory(training, tuple(dict.fromkeys(question.eps)), question.norm)
    history = History([theory], [steps])
    rows = {
        step: [_noted(history, row, taken[step]) for row in taken[step].rows]
        for step in sorted(taken)
    }
    history.complete()
    keys = (*(column.key for column in question.columns()), *history.keys)
    summary = []
    for step, own in rows.items():
        row = {"step": step, "missing": len(taken[step].left_out), **averages(own, keys)}
        log = known.log.get(step, {})
        summary.append(row | {key: value for key, value in log.items() if key not in row})
    return Course(keys, rows, tuple(summary), theory)


def _training(taken: Mapping[int, Taken], known: Known) -> Training | None:
    beside = {name for one in taken.values() for name in one.beside}
    log = list(known.log.values())
    return training_of(known.record, log, Given(), beside, epochs=known.epochs)


def _noted(history: History, alone: Row, taken: Taken) -> Row:
    """A copy of a row; what needs several snapshots is left to the history."""
    row = alone | dict.fromkeys(history.keys) | {"notes": dict(alone["notes"])}
    theory, fact = history.theories[0], taken.facts.get(row["name"])
    if theory is not None and fact is not None:
        row["averaged"] = theory.averaged(fact.tensor)
        if fact.norm is not None:
            ranks = fact.ranks if theory.bounded else ()
            sighting = Sighting(row, fact.tensor, fact.norm, ranks)
            history.seen.setdefault((0, row["name"]), []).append(sighting)
    return row
