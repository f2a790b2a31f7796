"""A table of P2: our cells beside the printed ones."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from trainers.completion.groups import Result
from trainers.completion.printed import Printed

WIDTH = 100

HEADINGS = (
    "optimiser",
    "depth",
    "penalty",
    "Err P2",
    "unobs.",
    "all",
    "ours/P2",
    "Rk P2",
    "ours",
    "diff",
    "iterations",
)

COLUMNS = (
    "optimiser",
    "depth",
    "penalty",
    "seed",
    "printed_error",
    "printed_rank",
    "error_all",
    "error_unobserved",
    "effective_rank",
    "iterations",
    "end",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A cell: what is printed, and the medians over our seeds.

    Attributes:
        printed: the paper's.
        results: ours, one for each seed.
    """

    printed: Printed
    results: tuple[Result, ...]

    @property
    def error_all(self) -> float:
        """Mean square over all entries."""
        return statistics.median(result.error_all for result in self.results)

    @property
    def error_unobserved(self) -> float:
        """Mean square over the entries that are not observed."""
        return statistics.median(result.error_unobserved for result in self.results)

    @property
    def rank(self) -> float:
        """The effective rank."""
        return statistics.median(result.effective_rank for result in self.results)

    @property
    def iterations(self) -> int:
        """How many updates there were."""
        return round(statistics.median(result.iterations for result in self.results))

    @property
    def nearer(self) -> tuple[str, float]:
        """Which of our errors, all or unobserved, is nearer to the printed one, by which factor.

        P2 does not say over which entries "Err" is taken; both occur.
        """
        factors = {
            "a": self.error_all / self.printed.error,
            "u": self.error_unobserved / self.printed.error,
        }
        distances = {
            name: abs(math.log(factor)) if factor else math.inf for name, factor in factors.items()
        }
        name = min(distances, key=distances.__getitem__)
        return name, factors[name]

    @property
    def mark(self) -> str:
        """What is to be known of the numbers: `_caption` says what it means."""
        ends = {result.end for result in self.results}
        if "diverged" in ends:
            return "!"
        return "*" if ends != {"plateau"} else ""


def compare(cells: Sequence[Printed], results: Sequence[Result]) -> list[Row]:
    """The cells of a table that were run, in the order of the print."""
    rows = []
    for one in cells:
        wanted = (one.cell.optimiser, one.cell.depth, one.cell.penalty)
        ours = tuple(r for r in results if (r.optimiser, r.depth, r.penalty) == wanted)
        if ours:
            rows.append(Row(one, ours))
    return rows


def terminal(rows: Sequence[Row], title: str) -> str:
    """For reading, at most 100 columns wide."""
    shown = Table(title=title, caption=_caption(rows), box=None, pad_edge=False)
    for heading in HEADINGS:
        left = heading in ("optimiser", "penalty")
        shown.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*_texts(row))
    console = Console(width=WIDTH, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def markdown(rows: Sequence[Row], title: str) -> str:
    """For documents."""
    lines = [f"**{title}**", "", "| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    lines += ["| " + " | ".join(_texts(row)) + " |" for row in rows]
    return "\n".join([*lines, "", _caption(rows)]) + "\n"


def comma_separated(rows: Sequence[Row]) -> str:
    """For machines: a line for each seed, all digits."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(COLUMNS)
    for row in rows:
        for result in row.results:
            out.writerow(
                (
                    result.optimiser,
                    result.depth,
                    result.penalty,
                    result.seed,
                    row.printed.error,
                    row.printed.rank,
                    result.error_all,
                    result.error_unobserved,
                    result.effective_rank,
                    result.iterations,
                    result.end,
                )
            )
    return text.getvalue()


def _texts(row: Row) -> list[str]:
    measure, factor = row.nearer
    known = math.isfinite(row.rank)
    return [
        row.printed.cell.optimiser,
        str(row.printed.cell.depth),
        row.printed.cell.penalty,
        _error(row.printed.error),
        _error(row.error_unobserved),
        _error(row.error_all),
        f"{factor:.2g} {measure}",
        str(row.printed.rank),
        f"{row.rank:.1f}",
        f"{round(row.rank) - row.printed.rank:+d}" if known else "-",
        f"{row.iterations}{row.mark}",
    ]


def _error(value: float) -> str:
    return f"{value:.2f}" if 0.01 <= value < 1000 else f"{value:.0e}"


def _caption(rows: Sequence[Row]) -> str:
    seeds = max((len(row.results) for row in rows), default=0)
    return (
        f"Medians of {seeds}. Err: mean square over the unobserved and over all entries; ours/P2 "
        "with the nearer, u or a. Rk: effective rank. * some not converged at the limit, ! some "
        "diverged."
    )
