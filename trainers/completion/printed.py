"""P2's tables 1, 3 and 4 as printed: error and effective rank, a line for each optimiser and depth.

Rank 5, 100x100, 2000 observed entries, lambda 0.05, learning rate 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from rankscope.errors import UsageError
from trainers.completion.cell import Cell, OptimiserName

RATIOS = "ratio schatten:1/2:2/3 schatten:1/3:2/3 schatten:1/3:1/2 nuclear none"

PRINTED = {
    "P2-T1": f"""
optimiser depth {RATIOS}
adam     1 4e-7/5  0.72/33 0.80/45  0.81/53  0.36/6  1.00/79
adam     3 4e-7/5  3e-6/5  1e-5/5   6e-6/5   0.30/5  0.04/6
adagrad  1 0.58/31 0.81/60 0.97/32  0.79/60  0.12/8  0.80/70
adagrad  3 3e-7/5  9e-7/5  1e-5/5   2e-7/5   0.05/6  4e-3/6
adamax   1 4e-7/5  0.76/44 0.85/22  0.80/58  0.05/6  0.81/72
adamax   3 7e-7/5  3e-6/5  7e+5/1   6e-6/5   0.07/7  0.01/7
rmsprop  1 2e-4/6  0.08/4  1.6e+3/5 1.8e+3/8 0.05/8  0.80/70
rmsprop  3 0.03/5  8e-4/5  2e-3/5   1.9/5    0.05/6  0.11/14
gd       1 0.81/67 0.81/62 0.80/47  0.81/60  0.82/59 0.83/72
gd       3 0.51/3  0.25/5  0.56/3   0.39/5   0.24/4  1e-5/5
""",
    "P2-T3": f"""
optimiser depth {RATIOS}
amsgrad  1 0.83/29 0.99/53 1.00/61 1.00/60 0.34/6  1.00/79
amsgrad  3 9e-3/5  0.05/6  0.04/6  0.10/6  0.32/6  0.06/6
adadelta 1 0.98/59 1.00/63 0.98/37 1.00/53 0.77/21 1.01/74
adadelta 3 3e-3/5  2e-4/5  3e-3/5  2e-3/5  0.29/5  5e-3/5
momentum 1 0.80/70 0.79/64 0.77/47 0.80/63 0.78/54 0.81/69
momentum 3 3e-3/5  1e-4/5  0.43/4  0.07/5  0.02/5  0.07/4
adamw    1 1e-3/5  0.98/45 1.00/49 1.00/64 0.34/6  1.00/79
adamw    3 1e-3/5  2e-4/5  0.01/5  3e-2/5  0.31/6  0.02/5
nadam    1 1e-3/5  0.97/43 0.99/54 0.99/61 0.32/6  1.01/79
nadam    3 2e-3/5  1e-4/5  0.05/5  0.01/5  0.30/5  0.02/5
radam    1 1e-3/5  0.95/46 0.99/51 1.00/62 0.25/6  1.00/80
radam    3 7e-4/5  5e-4/5  0.01/5  0.01/5  0.18/5  0.05/6
""",
    "P2-T4": """
optimiser depth schatten:1/3 schatten:1/2 schatten:2/3
amsgrad  1 0.99/69  0.97/11 0.55/7
amsgrad  3 1.00/5   1.00/1  0.80/2
adam     1 1.00/50  0.94/5  0.10/5
adam     3 0.88/1   0.84/1  0.17/4
adagrad  1 1.00/12  0.97/2  0.70/15
adagrad  3 0.81/1   0.85/1  0.08/5
adamax   1 1.00/54  0.87/1  1.00/41
adamax   3 1.00/23  0.85/1  1.00/4
rmsprop  1 1.04/53  1.00/40 0.10/7
rmsprop  3 1.00/8   0.74/1  0.08/5
momentum 1 266.7/43 2.14/29 0.65/16
momentum 3 1.00/25  1.00/17 0.41/3
gd       1 67.6/45  0.94/3  0.77/19
gd       3 1.10/34  0.99/1  0.58/2
adadelta 1 0.99/60  1.05/48 1.00/60
adadelta 3 0.99/56  0.94/1  0.99/56
adamw    1 1.00/48  0.97/9  0.67/6
adamw    3 1.00/10  0.99/1  0.82/2
nadam    1 1.00/47  0.98/8  0.80/7
nadam    3 1.00/3   0.92/1  0.71/3
radam    1 1.00/46  1.01/25 0.57/7
radam    3 0.99/7   0.91/1  0.68/3
""",
}


@dataclass(frozen=True, slots=True)
class Printed:
    """A cell of a table.

    Attributes:
        cell: what was trained, with seed 0.
        error: "Err": a mean square, over all entries in some rows, over the unobserved in others.
        rank: "Rk": the effective rank, rounded.
    """

    cell: Cell
    error: float
    rank: int


def printed(table: str) -> tuple[Printed, ...]:
    """The cells of a table, by its id.

    Raises:
        UsageError: there is no such table here.
    """
    if table not in PRINTED:
        raise UsageError(f"table is {table!r}, expected one of {', '.join(PRINTED)}")
    heading, *lines = PRINTED[table].strip().splitlines()
    penalties = heading.split()[2:]
    found = []
    for line in lines:
        optimiser, depth, *values = line.split()
        row = Cell(optimiser=cast("OptimiserName", optimiser), depth=int(depth))
        for penalty, value in zip(penalties, values, strict=True):
            error, rank = value.split("/")
            found.append(Printed(replace(row, penalty=penalty), float(error), int(rank)))
    return tuple(found)
