"""What is trained for P2's figures 1 to 3 and 6 to 8: error, rank and singular values by iteration.

    OUT/P2-F1.json                                          the choices, `choices`
    OUT/P2-F1/observed-2000/gd-2/none/seed-0/               a run directory for each cell

A row of a figure is an optimiser and a number of observed entries, a line of a row a depth or a
factor of the penalty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from trainers.completion.cell import Cell, Initialisation, OptimiserName
from trainers.completion.choices import Choices
from trainers.completion.groups import Group, Settings, grouped

OPTIMISERS: Final[tuple[OptimiserName, ...]] = ("gd", "adam")

# P2 prints a standard deviation of 1e-3 for every layer, from which gradient descent does not leave
# 0 at depth 5 in its 5e5 iterations: W starts at 4e-10. Arora et al. 2019, whom it follows, choose
# the size of the product. This one is ours: at ||W||_F = 1e-2, which is theirs, descent at depth 5
# ends at an error of 0.1, not at the recovery that P2 shows.
DEEP_START = Initialisation("scale", 1e-3)

# P2's limit is 5e5 iterations, which figure 2 would take six hours of one core for. These are ours:
# without a penalty lines are level at 1e4, and at depth 1 Adam with a factor of 1e-2 is at 2e4; at
# depth 2 with a factor of 1e-4 its effective rank has only begun to fall then.
ITERATIONS = 20_000
PENALISED_ITERATIONS = 100_000

READINGS = 20  # a decade of iterations; on a logarithmic axis they are evenly spread


@dataclass(frozen=True, slots=True)
class Dynamics:
    """A figure.

    Attributes:
        title: what is trained.
        depths: of the networks.
        strengths: of the ratio penalty; 0 for none.
        iterations: its own limit, which every line goes on to.
        start: its own initialisation.
        rank: of the target.
        observed: how many of 100x100 entries are known; each has rows of its own.
        beyond: whether the singular value after that of the target's rank is shown.
    """

    title: str
    depths: tuple[int, ...]
    strengths: tuple[float, ...]
    iterations: int
    start: Initialisation
    rank: int = 5
    observed: tuple[int, ...] = (2000,)
    beyond: bool = False


RANK_5: Mapping[str, Dynamics] = {
    "P2-F1": Dynamics("no penalty", (2, 3, 4, 5), (0.0,), ITERATIONS, DEEP_START),
    "P2-F2": Dynamics(
        "ratio penalty, λ = 1e-4", (2, 3, 4, 5), (1e-4,), PENALISED_ITERATIONS, DEEP_START
    ),
    "P2-F3": Dynamics(
        "depth 1, with the ratio penalty and without",
        (1,),
        (0.0, 1e-2),
        ITERATIONS,
        Initialisation(),
    ),
}


def _of_rank_10(figure: Dynamics) -> Dynamics:
    """P2, appendices A.1 and A.2."""
    return replace(figure, rank=10, observed=(3000, 3500), beyond=True)


FIGURES: Mapping[str, Dynamics] = {
    **RANK_5,
    "P2-F6": _of_rank_10(RANK_5["P2-F1"]),
    "P2-F7": _of_rank_10(RANK_5["P2-F2"]),
    "P2-F8": _of_rank_10(RANK_5["P2-F3"]),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a figure.

    Attributes:
        cells: a line each, with seed 0.
    """

    cells: tuple[Cell, ...]

    @property
    def place(self) -> str:
        """The directory of its groups."""
        return observed_place(self.cells[0])


def observed_place(cell: Cell) -> str:
    """The directory of what has as many observed entries."""
    return f"observed-{cell.observed}"


def rows(figure: Dynamics, choices: Choices) -> tuple[Row, ...]:
    """What is in a figure."""
    return tuple(
        Row(
            tuple(
                choices.applied(
                    Cell(
                        optimiser=optimiser,
                        depth=depth,
                        penalty="ratio" if strength else "none",
                        strength=strength,
                        rank=figure.rank,
                        observed=observed,
                        start=figure.start,
                    )
                )
                for depth in figure.depths
                for strength in figure.strengths
            )
        )
        for observed in figure.observed
        for optimiser in OPTIMISERS
    )


def groups(figure: Dynamics, choices: Choices) -> dict[str, Group]:
    """What is trained, by its directory below the figure's; what takes longest first."""
    found = {
        f"{row.place}/{group.name}": group
        for row in rows(figure, choices)
        for group in grouped(row.cells, choices.seeds)
    }
    return dict(sorted(found.items(), key=lambda item: -item[1].cells[0].depth))


def settings(figure: Dynamics, choices: Choices, device: str) -> Settings:
    """How it is trained: every line to the limit, so that a row's lines are equally long."""
    limit = figure.iterations if choices.iterations is None else choices.iterations
    return Settings(
        choices.seeds,
        limit,
        limit,
        choices.dtype,
        device,
        stop="iterations",
        also=readings(limit),
    )


def readings(limit: int) -> frozenset[int]:
    """Steps that are evenly spread over a logarithmic axis, from 1 to the limit.

    >>> sorted(readings(3))
    [1, 2, 3]
    """
    found = {limit}
    step, number = 1, 0
    while step < limit:
        found.add(step)
        number += 1
        step = round(10 ** (number / READINGS))
    return frozenset(found)
