"""The bound as a table: what is given is fixed, what is not is swept over P1's own values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

from rankscope.bounds.closed import check_eps
from rankscope.bounds.setting import FORGETS_NOTHING, Setting, Unknown, solve
from rankscope.errors import UsageError
from rankscope.provenance import made_now

SCHEMA = "rankscope/bound/1"

# The settings of P1's Figs. 1 to 18; eps 0.05 is what its authors' code uses for Fig. 4.
BATCHES = (4, 8, 16, 32, 64, 128)
STEP_SIZES = (1e-3, 5e-3, 1e-2, 0.1, 0.5, 1.0, 1.5)
WEIGHT_DECAYS = tuple(2 * lambda_ for lambda_ in (4e-4, 5e-4, 6e-3, 8e-3))
LEVELS = (1e-3, 0.01, 0.05, 0.3)

# Numbers that a reader of the JSON document in any language can hold.
MOST = 2**63 - 1

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BoundQuestion:
    """What the bound is asked for.

    Attributes:
        setting: what has one value; its batch, mu, weight decay and eps are replaced.
        batch: the batch sizes; () to sweep, likewise for the others.
        mu: step sizes.
        weight_decay: PyTorch's.
        eps: distances from a low-rank matrix.
        solve_for: which is unknown: the least that brings the bound below the setting's width.
    """

    setting: Setting
    batch: tuple[int, ...] = ()
    mu: tuple[float, ...] = ()
    weight_decay: tuple[float, ...] = ()
    eps: tuple[float, ...] = ()
    solve_for: Unknown | None = None

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_schedule(self)
        _check_unknown(self)

    def settings(self) -> Iterator[Setting]:
        """Every combination; with a schedule, at the end of each of its phases."""
        one, unknown = self.setting, self.solve_for
        batches = (one.batch,) if unknown == "B" else self.batch or BATCHES
        rates = (one.mu,) if unknown == "mu" or one.schedule else self.mu or STEP_SIZES
        decays = (one.weight_decay,) if unknown == "lambda" else self.weight_decay or WEIGHT_DECAYS
        levels = (one.eps,) if unknown == "eps" else self.eps or LEVELS
        for batch, mu, decay, eps in itertools.product(batches, rates, decays, levels):
            for step in self._ends():
                yield replace(one, batch=batch, mu=mu, weight_decay=decay, eps=eps, step=step)

    def _ends(self) -> list[int | None]:
        changes = [step for step, _ in self.setting.schedule[1:]]
        until = self.setting.step
        if until is None:
            return [*changes, None]
        return [*(step for step in changes if step < until), until]


@dataclass(frozen=True, slots=True)
class BoundTable:
    """The answer.

    Attributes:
        question: what was asked.
        rows: one a combination: B, mu, lambda, weight_decay, momentum, nesterov, eps, m,
            world_size, accumulation, effective_batch, step, then steps (n*), closed_form, exact,
            first_useful_width, width, vacuous, note. None where undefined; the note says why.
    """

    question: BoundQuestion
    rows: tuple[Row, ...]

    def to_document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "schema": SCHEMA,
            "provenance": {
                **made_now(),
                "weight_decay": "PyTorch's, 2 lambda; lambda is the theorem's",
                "solve_for": self.question.solve_for,
            },
            "rows": list(self.rows),
        }


def bound_table(question: BoundQuestion) -> BoundTable:
    """Every row of the question.

    Raises:
        UsageError: there is no bound in any row.
    """
    rows = tuple(_row(setting, question.solve_for) for setting in question.settings())
    if all(row["note"] for row in rows):
        why = list(dict.fromkeys(row["note"] for row in rows))
        others = "; no other combination has one either" if len(why) > 1 else ""
        # With a schedule, the last row is about the end of training.
        raise UsageError((why[-1] if question.setting.schedule else why[0]) + others)
    return BoundTable(question, rows)


def _row(setting: Setting, unknown: Unknown | None) -> Row:
    try:
        solved = solve(setting, unknown) if unknown else setting
        found = solved.count()
        closed = solved.closed_form() if found else None
        note = "" if found else solved.why_none()
    except UsageError as error:
        return _head(setting, unknown) | _result(setting, None, None) | {"note": str(error)}
    return _head(solved, None) | _result(solved, found, closed) | {"note": note}


def _head(setting: Setting, unknown: Unknown | None) -> Row:
    """What was given, and None for what is still unknown."""
    head: Row = {
        "B": setting.batch,
        "mu": setting.last_mu,
        "lambda": setting.weight_decay / 2,
        "weight_decay": setting.weight_decay,
        "momentum": setting.momentum,
        "nesterov": setting.nesterov,
        "eps": setting.eps,
        "m": setting.inputs,
        "world_size": setting.world_size,
        "accumulation": setting.accumulation,
        "effective_batch": setting.effective_batch,
        "step": setting.step,
    }
    hidden = {"lambda": ("lambda", "weight_decay"), "B": ("B", "effective_batch")}
    for key in hidden.get(unknown, (unknown,)) if unknown and unknown != "width" else ():
        head[key] = None
    return head


def _result(setting: Setting, found: tuple[int, int] | None, closed: float | None) -> Row:
    steps, exact = found or (None, None)
    # A bound that is no smaller than the number of singular values says nothing.
    vacuous = None if setting.width is None else exact is None or exact >= setting.width
    return {
        "steps": steps,
        "closed_form": closed if closed is None or math.isfinite(closed) else None,
        "exact": exact,
        "first_useful_width": None if exact is None else exact + 1,
        "width": setting.width,
        "vacuous": vacuous,
    }


def _check_numbers(question: BoundQuestion) -> None:
    one = question.setting
    counts = [
        *(("B", batch) for batch in question.batch),
        ("m", one.inputs),
        ("world size", one.world_size),
        ("accumulation", one.accumulation),
        ("width", 1 if one.width is None else one.width),
        *(("the start of a phase", max(start, 1)) for start, _ in one.schedule),
        ("the end of training", 1 if one.step is None else one.step),
    ]
    for name, value in counts:
        if value < 1:
            raise UsageError(f"{name} is {value}, expected at least 1")
        if value > MOST:
            raise UsageError(f"{name} is above 2^63 - 1 = {MOST}, the largest expected")
    for eps in question.eps:
        check_eps(eps)
    if 0 in question.weight_decay or 0 in question.mu:
        raise UsageError(FORGETS_NOTHING)
    if one.nesterov and not one.momentum:
        raise UsageError("nesterov needs a momentum above 0")
    # What is typed has to be in the theorem's range; of what is swept, a row says so.
    for mu, decay in itertools.product(question.mu or (0.0,), question.weight_decay or (0.0,)):
        replace(one, mu=mu, weight_decay=decay).dynamics()


def _check_schedule(question: BoundQuestion) -> None:
    schedule = question.setting.schedule
    if not schedule:
        if question.setting.step is not None:
            raise UsageError("an end of training needs a schedule; without one it is far away")
        return
    if question.mu or question.solve_for == "mu":
        raise UsageError("mu and a schedule exclude each other: the schedule says mu")
    starts = [step for step, _ in schedule]
    if starts[0] != 0 or any(a >= b for a, b in itertools.pairwise(starts)):
        listed = ", ".join(map(str, starts))
        raise UsageError(f"the schedule's phases start at {listed}; expected 0, then ascending")


def _check_unknown(question: BoundQuestion) -> None:
    unknown, width = question.solve_for, question.setting.width
    if unknown is None:
        return
    if unknown not in get_args(Unknown):
        known = ", ".join(get_args(Unknown))
        raise UsageError(f"cannot solve for {unknown!r}, expected one of {known}")
    given = {
        "width": width,
        "eps": question.eps,
        "lambda": question.weight_decay,
        "mu": question.mu,
        "B": question.batch,
    }
    if given[unknown]:
        raise UsageError(f"{unknown} is given, so there is nothing to solve for")
    if unknown != "width" and width is None:
        raise UsageError(
            f"solving for {unknown} needs a width: the smaller side of the matrix that the bound "
            "shall be below"
        )
