"""A figure of a paper, drawn from the runs in a directory.

python -m trainers figure P1-F2 runs/
"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import dataclass
from pathlib import Path

from rankscope.errors import UsageError
from rankscope.figures import check_picture, save, styled
from trainers.figures.catalogue import FUNCTIONS, draw
from trainers.recipes.catalogue import RECIPES


@dataclass(frozen=True, slots=True)
class Args:
    """What can be chosen.

    Attributes:
        name: the figure's, such as P1-F2.
        runs: the directory of its runs.
        out: the file, .png, .pdf or .svg; None for a .png beside the runs.
        eps: thresholds of the rank; empty for the figure's own.
        width: of the figure, in inches; None for its own, a page's 7.
    """

    name: str
    runs: Path
    out: Path | None = None
    eps: tuple[float, ...] = ()
    width: float | None = None

    def __post_init__(self) -> None:
        check_picture(self.target)
        for eps in self.eps:
            if not 0 < eps < float("inf"):
                raise UsageError(f"eps is {eps:g}, expected a number above 0")
        if self.width is not None and not 2 <= self.width <= 40:
            raise UsageError(f"width is {self.width:g}, expected 2 to 40 inches")

    @property
    def target(self) -> Path:
        """The file to write."""
        return self.runs / f"{self.name}.png" if self.out is None else self.out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of this driver."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    others = textwrap.fill(
        ", ".join(sorted(FUNCTIONS)), 78, initial_indent="  ", subsequent_indent="  "
    )
    parser.epilog = "\n".join(
        [
            "figures of recipes:",
            *(f"  {recipe.name:14}{recipe.title}" for recipe in RECIPES),
            "figures of the runs of `curves` (P2) and `flow` (P3):",
            others,
        ]
    )
    parser.add_argument("name", metavar="FIGURE", help="one of those below")
    parser.add_argument("runs", type=Path, metavar="RUNS", help="the directory of its runs")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help=".png, .pdf or .svg (default RUNS/FIGURE.png)",
    )
    parser.add_argument(
        "--eps",
        type=float,
        nargs="+",
        default=[],
        metavar="E",
        help="thresholds of the rank (default the figure's own)",
    )
    parser.add_argument(
        "--width",
        type=float,
        metavar="INCHES",
        help="7 for a page (the default), 3.3 for a column",
    )


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    return Args(options.name, options.runs, options.out, tuple(options.eps), options.width)


def run(args: Args) -> None:
    """Draw the figure and write it; what is missing of it is told on stderr.

    Raises:
        UsageError: no such figure, or an option that it does not take.
        InputRejected: none of its runs is there.
        OutputFailed: it cannot be written.
    """
    with styled():
        figure = draw(args.name, args.runs, args.eps, args.width)
    save(figure, args.target)
    print(args.target)
