"""Which route's spectrum answers a question, wherever spectra come from: a solver or a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from rankscope.question import Column, needs_direct, read_all
from rankscope.records import MatrixSpec, Measurement, Reading, Route, Spectrum, Unmeasured
from rankscope.solvers import norm_mismatch

RouteChoice = Literal["auto", "gram", "direct"]


class Answer(NamedTuple):
    """A measurement, and what the columns read off it if that was needed to choose it."""

    measurement: Measurement
    readings: tuple[Reading, ...] | None = None


def asked_route(route: RouteChoice, spec: MatrixSpec) -> RouteChoice | Route:
    """By which route a matrix is measured: what is stored as factors, through these."""
    return "factors" if route == "auto" and spec.factors is not None else route


def answer(
    route: RouteChoice | Route,
    columns: Sequence[Column],
    look_up: Callable[[Route], Measurement | None],
) -> Answer | None:
    """The measurement that answers the columns; None when `look_up` has not got it.

    The one place that decides when the Gram route does not do.
    """
    found = look_up("gram" if route == "auto" else route)
    if found is None or route != "auto" or not isinstance(found, Spectrum):
        return None if found is None else Answer(found)
    readings = read_all(columns, found)
    if not needs_direct(found, readings):
        return Answer(found, readings)
    better = look_up("direct")
    # A direct route that failed leaves the Gram spectrum, whose readings say what is not exact.
    if isinstance(better, Unmeasured):
        return Answer(found, readings)
    return None if better is None else Answer(better)


def sound(found: Measurement | None, spec: MatrixSpec) -> Measurement | None:
    """A stored spectrum must be of such a matrix, and pass the same check as a fresh one."""
    if isinstance(found, Spectrum):
        alike = (found.shape, found.dtype) == (spec.shape, spec.dtype)
        return found if alike and not norm_mismatch(found) else None
    return found
