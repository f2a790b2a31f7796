"""A table of P2 beside the paper's numbers, trained where it is not.

    python -m trainers table P2-T1 --seeds 3 --out runs/

The cells of one optimiser and depth are one batch; what is finished is not done again.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import get_args

from rankscope.errors import OutputFailed, UsageError
from trainers.completion.groups import Group, Settings, finished, grouped, run_group
from trainers.completion.options import DtypeName
from trainers.completion.pool import each
from trainers.completion.printed import PRINTED, printed
from trainers.devices import check_device

FORMATS = (".csv", ".md")

RESUMES = True  # an interrupted run goes on by the same command


@dataclass(frozen=True)  # without slots, so that Args.seeds is the default
class Args:
    """What can be chosen.

    Attributes:
        name: of the table.
        out: the directory of all runs; the table's are in one of its name.
        seeds: how many each cell is trained with.
        iterations: limit of a cell with a penalty.
        plain_iterations: limit of a cell without one, whose updates cost a fifth to a twentieth.
        only: the groups of cells whose names this pattern fits.
        jobs: processes at a time.
        files: where the table is written to as well, .csv or .md.
        dtype: of the weights.
        device: cpu, cuda, or as PyTorch calls it.
    """

    name: str
    out: Path
    seeds: int = 3
    iterations: int = 20_000
    plain_iterations: int = 100_000
    only: str = "*"
    jobs: int = 2
    files: tuple[Path, ...] = ()
    dtype: DtypeName = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("seeds", "iterations", "plain_iterations", "jobs"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.dtype not in get_args(DtypeName):
            raise UsageError(f"dtype is {self.dtype!r}, expected float32 or float64")
        for path in self.files:
            if path.suffix.lower() not in FORMATS:
                raise UsageError(f"{path}: expected a name that ends in {' or '.join(FORMATS)}")
        printed(self.name)

    @property
    def settings(self) -> Settings:
        """What all groups have in common."""
        return Settings(self.seeds, self.iterations, self.plain_iterations, self.dtype, self.device)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of this driver."""
    default = "(default %(default)s)"
    parser.add_argument("name", metavar="TABLE", help=", ".join(PRINTED))
    parser.add_argument("--out", type=Path, required=True, help="the directory of all runs")
    for flag, value, meaning in (
        ("--seeds", Args.seeds, "train each cell so often"),
        ("--iterations", Args.iterations, "limit of a cell with a penalty"),
        ("--plain-iterations", Args.plain_iterations, "limit of a cell without one"),
        ("--jobs", Args.jobs, "processes at a time"),
    ):
        parser.add_argument(flag, type=int, default=value, metavar="N", help=f"{meaning} {default}")
    parser.add_argument(
        "--only", default=Args.only, metavar="GLOB", help="groups with such names: 'adam-1*'"
    )
    parser.add_argument(
        "-o",
        dest="files",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="write the table there, too: .csv or .md; may be given again",
    )
    parser.add_argument("--dtype", choices=get_args(DtypeName), default=Args.dtype, help=default)
    parser.add_argument("--device", default=Args.device, help="cpu (default) or cuda")


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    return Args(
        name=options.name,
        out=options.out,
        seeds=options.seeds,
        iterations=options.iterations,
        plain_iterations=options.plain_iterations,
        only=options.only,
        jobs=options.jobs,
        files=tuple(options.files),
        dtype=options.dtype,
        device=options.device,
    )


def run(args: Args) -> None:
    """Train the groups that are not finished; print the table.

    Raises:
        UsageError: a choice makes no sense, or the directory holds other settings' groups.
        InputRejected: a finished group's file is damaged.
        OutputFailed: a directory or a file cannot be written to.
    """
    from trainers.completion.table import comma_separated, compare, markdown, terminal

    check_device(args.device)
    cells = printed(args.name)
    groups = chosen(args)
    directory = args.out / args.name
    left = [group for group in groups if finished(group, args.settings, directory) is None]
    _tell(f"{len(groups) - len(left)} of {len(groups)} groups are finished already")
    work = {group.name: partial(run_group, group, args.settings, directory) for group in left}
    for name, seconds in each(work, args.jobs):
        _tell(f"{name}: finished in {seconds:.0f} s")
    results = [
        result for group in groups for result in finished(group, args.settings, directory) or ()
    ]
    rows = compare(cells, results)
    title = f"{args.name}, {args.seeds} seeds"
    for path in args.files:
        csv = path.suffix.lower() == ".csv"
        _write(path, comma_separated(rows) if csv else markdown(rows, title))
    print(terminal(rows, title), end="")


def chosen(args: Args) -> tuple[Group, ...]:
    """The groups of the table, or some.

    Raises:
        UsageError: there is none of such a name.
    """
    groups = grouped([one.cell for one in printed(args.name)], args.seeds)
    found = tuple(group for group in groups if fnmatchcase(group.name, args.only))
    if not found:
        names = ", ".join(group.name for group in groups)
        raise UsageError(f"--only {args.only}: no group has such a name, expected one of {names}")
    return found


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputFailed(path, error.strerror or str(error)) from error
