"""P3's figures, from the tables that `python -m trainers flow` leaves beside its snapshots."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from rankscope.errors import InputRejected
from trainers.figures import house
from trainers.flow import completionpath, regression
from trainers.flow.tables import read_table

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = TypeVar("Row", regression.Point, completionpath.Point)

LineStyle: TypeAlias = Literal["-", "--"]

WIDTH = 7.0  # inches, a page of the usual two-column papers

LEAST_RANK = 1e-15  # of the effective rank less 1; below it there is only rounding

# What is shown of each method: its name, its line, and its weight.
METHODS: tuple[tuple[str, LineStyle, float], ...] = (("flow", "-", 1.3), ("descent", "--", 1.9))

WORDS = {"flow": "gradient flow", "descent": "gradient descent"}

TIME = "time t (descent: learning rate times steps)"


def draw_f1(directory: Path) -> Figure:
    """P3-F1: least squares, every start's way to the solutions; from 0 to that of least norm.

    Args:
        directory: a run of `flow regression`.

    Raises:
        InputRejected: it is none.
    """
    points = _read(directory / regression.PATH_FILE, regression.Point)
    figure = house.blank(WIDTH, 3.1, "P3-F1: gradient flow of least squares")
    plane, errors = figure.subplots(1, 2)
    starts = {
        number: [one for one in points if one.start == number]
        for number in sorted({one.start for one in points})
    }
    for number, path in reversed(starts.items()):
        colour = house.UNORDERED[1] if number == 0 else house.GREY
        x, y = [one.along for one in path], [one.across for one in path]
        label = {0: "from 0", 1: "from other starts"}.get(number)
        plane.plot(x, y, color=colour, label=label, zorder=2 + (number == 0), clip_on=False)
        plane.plot(x[:1], y[:1], "o", color=colour, markerfacecolor="white", clip_on=False)
        plane.plot(x[-1:], y[-1:], "o", color=colour, zorder=3, clip_on=False)
        times = [one.time for one in path[1:]]
        errors.plot(times, [one.to_limit for one in path[1:]], color=colour)
    _plane(plane, starts[0][-1].norm)
    _errors(errors, points, starts[0])
    return figure


def _plane(axes: Axes, least: float) -> None:
    angles = [math.pi / 2 * step / 60 for step in range(61)]
    axes.plot(
        [least * math.cos(angle) for angle in angles],
        [least * math.sin(angle) for angle in angles],
        color=house.UNORDERED[0],
        linestyle=":",
        label="least norm of a solution",
    )
    axes.axvline(least, color="0.7", linewidth=0.8, label="solutions")
    axes.set_xlabel("component of β along X⁺y")
    axes.set_ylabel("‖P_null β‖, which stays as it is")
    axes.set_ylim(bottom=0)
    axes.set_title("○ start, ● end")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)


def _errors(
    axes: Axes, points: Sequence[regression.Point], first: Sequence[regression.Point]
) -> None:
    """Over all starts, the solver's and descent's largest distance from the closed form."""
    times = [one.time for one in first[1:]]
    for name, line, colour in (
        ("descent_error", "--", house.UNORDERED[0]),
        ("solver_error", ":", house.UNORDERED[2]),
    ):
        largest: dict[float, float] = {}
        for one in points:
            largest[one.time] = max(largest.get(one.time, 0.0), getattr(one, name))
        words = "gradient descent" if name == "descent_error" else "ODE solver"
        label = f"{words} from the closed form"
        axes.plot(times, [largest[time] for time in times], line, color=colour, label=label)
    axes.plot([], [], color=house.UNORDERED[1], label="flow from its limit")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("time t")
    axes.set_ylabel("distance")
    axes.set_title("closed form, ODE solver, gradient descent")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2))


def draw_f2(directory: Path) -> Figure:
    """P3-F2: the Frobenius, nuclear and spectral norms grow without bound.

    Args:
        directory: a run of `flow completion`.

    Raises:
        InputRejected: it is none.
    """
    points = _read(directory / completionpath.PATH_FILE, completionpath.Point)
    figure = house.blank(WIDTH, 3.1, "P3-F2: norms of the product")
    over_time, over_loss = figure.subplots(1, 2, sharey=True)
    norms = ("nuclear", "frobenius", "spectral")
    for axes, key in ((over_time, "time"), (over_loss, "loss")):
        # Over the loss both methods lie on one line, and the norms nearly so.
        for method, path in _paths(points)[: 2 if key == "time" else 1]:
            for norm, colour, width in zip(norms, house.UNORDERED, (3.6, 2.4, 1.2), strict=False):
                x, y = [_value(one, key) for one in path], [_value(one, norm) for one in path]
                if method == "flow":
                    axes.plot(x, y, color=colour, linewidth=width)
                else:
                    axes.plot(x, y, color="black", linewidth=0.8, linestyle="--")
        _bound(axes, points, (key, "norm_bound"))
        axes.set_xscale("log")
        axes.set_yscale("log")
    over_time.set_xlabel(TIME)
    over_time.set_ylabel("norm")
    over_loss.set_xlabel("loss l, falling to the right")
    over_loss.invert_xaxis()
    _norm_legend(figure, norms, points)
    return figure


def _norm_legend(
    figure: Figure, norms: Sequence[str], points: Sequence[completionpath.Point]
) -> None:
    from matplotlib.lines import Line2D

    names = [norm.capitalize() if norm == "frobenius" else norm for norm in norms]
    entries: dict[str, Artist] = {
        f"{name} norm, flow": Line2D([], [], color=colour)
        for name, colour in zip(names, house.UNORDERED, strict=False)
    }
    if "descent" in dict(_paths(points)):
        entries[WORDS["descent"]] = Line2D([], [], color="black", linestyle="--")
    entries[r"at least: $1/\sqrt{2l} - 2$"] = Line2D([], [], color="black", linestyle=":")
    house.legend_below(figure, entries)


def draw_f3(directory: Path) -> Figure:
    """P3-F3: effective rank and distance to the infimal rank, and the theorem's hypotheses.

    Args:
        directory: a run of `flow completion`.

    Raises:
        InputRejected: it is none.
    """
    from matplotlib.lines import Line2D

    points = _read(directory / completionpath.PATH_FILE, completionpath.Point)
    figure = house.blank(WIDTH, 4.4, "P3-F3: ranks of the product")
    panels = figure.subplots(2, 2, sharex=True, height_ratios=(2, 1)).ravel()
    colours = dict(zip(WORDS, house.UNORDERED, strict=False))
    for method, path in _paths(points):
        for axes, key in zip(
            panels, ("excess", "distance", "determinant", "imbalance"), strict=True
        ):
            _curve(axes, method, path, ("time", key), colours[method])
    _bound(panels[0], points, ("time", "excess_bound"))
    _bound(panels[1], points, ("time", "distance_bound"))
    panels[0].set_ylabel(r"effective rank $-\ 1$")
    panels[1].set_ylabel("distance to the infimal rank")
    panels[2].set_ylabel("sign of the\ndeterminant")
    panels[2].set_yticks([-1, 0, 1], ["$-$", "0", "$+$"])
    panels[2].set_ylim(-1.5, 1.5)
    panels[3].set_ylabel("largest imbalance")
    for axes in (panels[0], panels[1], panels[3]):
        axes.set_yscale("log")
    panels[0].set_xscale("log")
    for axes in panels[2:]:
        axes.set_xlabel(TIME)
    figure.align_ylabels()
    entries = _method_entries(points, *colours.values())
    entries["at most, under Theorem 1"] = Line2D([], [], color="black", linestyle=":")
    house.legend_below(figure, entries)
    return figure


FIGURES: Mapping[str, Callable[[Path], Figure]] = {
    "P3-F1": draw_f1,
    "P3-F2": draw_f2,
    "P3-F3": draw_f3,
}


def _read(path: Path, kind: type[Row]) -> list[Row]:
    what = "regression" if kind is regression.Point else "completion"
    command = f"`python -m trainers flow {what} --out {path.parent}` writes one"
    try:
        rows = read_table(path, kind)
    except InputRejected as error:
        raise InputRejected(path, f"{error.reason}; {command}") from error
    if not rows:
        raise InputRejected(path, f"holds no rows; {command}")
    return rows


def _paths(
    points: Sequence[completionpath.Point],
) -> list[tuple[str, list[completionpath.Point]]]:
    """Both methods' points from the first step on, which a logarithmic axis can show."""
    found = [(name, [one for one in points if one.method == name and one.step]) for name in WORDS]
    return [(name, path) for name, path in found if path]


def _value(one: completionpath.Point, key: str) -> float:
    """A column, or the effective rank less 1 and its bound; NaN where no axis can show it."""
    if key == "excess":
        excess = one.effective_rank - 1
        return excess if excess > LEAST_RANK else math.nan
    if key == "excess_bound":
        return math.nan if one.effective_rank_bound is None else one.effective_rank_bound - 1
    value = float(getattr(one, key))
    return math.nan if key == "imbalance" and value == 0 else value


def _curve(
    axes: Axes,
    method: str,
    path: Sequence[completionpath.Point],
    keys: tuple[str, str],
    colour: str,
) -> None:
    line, width = next((line, width) for name, line, width in METHODS if name == method)
    x, y = ([_value(one, key) for one in path] for key in keys)
    axes.plot(x, y, linestyle=line, linewidth=width, color=colour)


def _bound(axes: Axes, points: Sequence[completionpath.Point], keys: tuple[str, str]) -> None:
    """The flow's bound, where it says something."""
    path = [one for one in dict(_paths(points))["flow"] if not _value(one, keys[1]) <= 0]
    x, y = ([_value(one, key) for one in path] for key in keys)
    axes.plot(x, y, color="black", linestyle=":", zorder=3)


def _method_entries(points: Sequence[completionpath.Point], *colours: str) -> dict[str, Artist]:
    from matplotlib.lines import Line2D

    there = dict(_paths(points))
    return {
        WORDS[name]: Line2D([], [], color=colours[index % len(colours)], linestyle=line)
        for index, (name, line, _) in enumerate(METHODS)
        if name in there
    }
