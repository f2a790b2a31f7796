"""The runs behind a figure of P2, made where they are not there.

    python -m trainers curves P2-F1 --out runs/
    python -m trainers figure P2-F1 runs/

Figures 1 to 3 and 6 to 8 show training, 4 and 5 compare methods. What is finished is not done
again: give the same command after a kill, or with more iterations.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TypeVar, get_args

from rankscope.errors import UsageError
from trainers.completion import curves, samples
from trainers.completion.cell import parse_initialisation
from trainers.completion.choices import LEAST_SCALE, Choices, choices_path, write_choices
from trainers.completion.groups import finished, run_group
from trainers.completion.options import DtypeName
from trainers.completion.pool import each
from trainers.devices import check_device
from trainers.flow.tables import show_table

NAMES = sorted((*curves.FIGURES, *samples.FIGURES))

RESUMES = True  # an interrupted run goes on by the same command

Part = TypeVar("Part")


@dataclass(frozen=True)  # without slots, so that Args.jobs is the default
class Args:
    """What can be chosen.

    Attributes:
        name: of the figure.
        out: the directory of all runs; the figure's are in one of its name.
        choices: how they are made.
        only: those whose names this pattern fits.
        jobs: processes at a time.
        device: cpu, cuda, or as PyTorch calls it.
    """

    name: str
    out: Path
    choices: Choices = field(default_factory=Choices)
    only: str = "*"
    jobs: int = 2
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UsageError(f"figure is {self.name!r}, expected one of {', '.join(NAMES)}")
        if self.jobs < 1:
            raise UsageError(f"jobs is {self.jobs}, expected at least 1")

    @property
    def directory(self) -> Path:
        """Of the figure's runs."""
        return self.out / self.name

    @property
    def choices_file(self) -> Path:
        """Where the choices are kept."""
        return choices_path(self.name, self.out)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of this driver."""
    default = "(default %(default)s)"
    parser.add_argument("name", metavar="FIGURE", help=", ".join(NAMES))
    parser.add_argument("--out", type=Path, required=True, help="the directory of all runs")
    parser.add_argument(
        "--seeds",
        type=int,
        default=Choices.seeds,
        metavar="N",
        help=f"each with so many, from 0 on {default}",
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=Choices.scale,
        metavar="X",
        help=f"of the target's sides and rank, {LEAST_SCALE:g} to 1, for a trial {default}",
    )
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="limit of training (default the figure's own)"
    )
    parser.add_argument(
        "--lr", type=float, default=Choices.lr, metavar="X", help=f"learning rate {default}"
    )
    parser.add_argument(
        "--init",
        metavar="KIND:SIZE",
        help="how layers start, as of `complete` (default the figure's own)",
    )
    parser.add_argument(
        "--only", default=Args.only, metavar="GLOB", help="those with such names: '*/adam-2*'"
    )
    parser.add_argument(
        "--jobs", type=int, default=Args.jobs, metavar="N", help=f"processes at a time {default}"
    )
    parser.add_argument(
        "--dtype", choices=get_args(DtypeName), default=Choices.dtype, help=f"of weights {default}"
    )
    parser.add_argument("--device", default=Args.device, help="cpu (default) or cuda")


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    start = None if options.init is None else parse_initialisation(options.init)
    choices = Choices(
        seeds=options.seeds,
        scale=options.scale,
        iterations=options.iterations,
        lr=options.lr,
        start=start,
        dtype=options.dtype,
    )
    return Args(options.name, options.out, choices, options.only, options.jobs, options.device)


def run(args: Args) -> None:
    """Do what is not done; print how it ended.

    Raises:
        UsageError: a choice makes no sense, or there are runs of other choices.
        InputRejected: a file of finished ones is damaged.
        OutputFailed: a directory or a file cannot be written to.
        ModuleNotFoundError: the minimum nuclear norm is wanted without cvxpy.
    """
    check_device(args.device)
    if args.name in curves.FIGURES:
        _train(args, curves.FIGURES[args.name])
    else:
        _compare(args, samples.FIGURES[args.name])
    print(f"python -m trainers figure {args.name} {args.out}")


def _train(args: Args, figure: curves.Dynamics) -> None:
    groups = _chosen(args, curves.groups(figure, args.choices))
    how = curves.settings(figure, args.choices, args.device)
    work = {
        name: partial(run_group, group, how, (args.directory / name).parent)
        for name, group in groups.items()
        if finished(group, how, (args.directory / name).parent) is None
    }
    write_choices(args.choices_file, args.choices)
    _tell(f"{len(groups) - len(work)} of {len(groups)} groups are finished already")
    for number, (name, seconds) in enumerate(each(work, args.jobs), start=1):
        _tell(f"{name}: finished in {seconds:.0f} s, {number} of {len(work)}")
    rows = []
    for name, group in groups.items():
        results = finished(group, how, (args.directory / name).parent) or ()
        errors, ranks = zip(*((one.error_all, one.effective_rank) for one in results), strict=True)
        rows.append((name, median(errors), median(ranks)))
    print(show_table(("group", "error", "effective rank"), rows))


def _compare(args: Args, figure: samples.Samples) -> None:
    wanted = _chosen(args, {one.name: one for one in samples.pieces(figure, args.choices)})
    how = samples.settings(args.choices, args.device)
    work, points = samples.left(wanted.values(), how, args.directory)
    write_choices(args.choices_file, args.choices)
    _tell(f"{len(wanted) - len(work)} of {len(wanted)} are finished already")
    if any("/nuclear-" in name for name in work) and find_spec("cvxpy") is None:
        raise ModuleNotFoundError("No module named 'cvxpy'", name="cvxpy")  # now, not in an hour
    path = args.directory / samples.POINTS
    samples.write_points(path, points.values())
    for number, (name, point) in enumerate(each(work, args.jobs), start=1):
        points[point.key] = point
        samples.write_points(path, points.values())
        _tell(f"{name}: finished, {number} of {len(work)}")
    print(_shown(points[piece.key] for piece in wanted.values()))


def _shown(points: Iterable[samples.Point]) -> str:
    """Medians over the seeds, of those that did not diverge."""
    found: dict[tuple[str, int], list[samples.Point]] = {}
    for point in points:
        found.setdefault((point.method, point.observed), []).append(point)
    rows = [
        (
            *key,
            *(
                _median(getattr(one, name) for one in ones)
                for name in ("error_all", "effective_rank")
            ),
        )
        for key, ones in found.items()
    ]
    return show_table(("method", "observed", "error", "effective rank"), rows)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _chosen(args: Args, parts: dict[str, Part]) -> dict[str, Part]:
    """Those of the names that were asked for."""
    found = {name: part for name, part in parts.items() if fnmatchcase(name, args.only)}
    if not found:
        raise UsageError(f"--only {args.only}: nothing has such a name, as {next(iter(parts))} has")
    return found


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
