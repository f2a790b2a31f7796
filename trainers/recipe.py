"""The runs behind one figure of P1, with one command.

    python -m trainers recipe P1-F2 --data DIR --out runs/

What is finished is skipped and what was killed goes on, so that the same command may be given
again and again. Two figures with the same run share its directory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from rankscope.errors import UsageError
from trainers.devices import check_device
from trainers.imageargs import Args as Run
from trainers.recipes.catalogue import RECIPES
from trainers.recipes.changes import Changes, changed
from trainers.recipes.datasets import SIZES, size_of
from trainers.recipes.records import Recipe

RESUMES = True  # an interrupted run goes on by the same command


@dataclass(frozen=True)  # without slots, so that Args.jobs is the default
class Args:
    """What can be chosen.

    Attributes:
        name: of the recipe: P1-F2.
        out: the directory of all runs.
        changes: in what the runs are to differ from the recipe.
        data_dir: where the data sets' original files lie.
        panel: only the runs of this panel, counted from 1.
        only: only the runs whose names this pattern fits.
        jobs: processes at a time.
        listing: say what would be run, and run nothing.
    """

    name: str
    out: Path
    changes: Changes
    data_dir: Path | None = None
    panel: int | None = None
    only: str = "*"
    jobs: int = 1
    listing: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError(f"jobs is {self.jobs}, expected at least 1")
        found(self.name)


def found(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: there is none.
    """
    recipes = {recipe.name: recipe for recipe in RECIPES}
    if name not in recipes:
        raise UsageError(f"no recipe {name!r}; there are {', '.join(recipes)}")
    return recipes[name]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of this driver."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["recipes:", *(f"  {r.name:14}{r.title}" for r in RECIPES)])
    parser.add_argument("name", metavar="RECIPE", help="one of those below")
    parser.add_argument("--out", type=Path, required=True, help="the directory of all runs")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the data sets' files lie")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument(
        "--jobs", type=int, default=Args.jobs, metavar="N", help="processes at a time (default 1)"
    )
    add_choosing(parser.add_argument_group("which runs"))
    add_changing(parser.add_argument_group("in what they differ from the print"))


def add_choosing(group: argparse._ArgumentGroup) -> None:
    """The options that leave runs out."""
    group.add_argument(
        "--list", "--dry-run", action="store_true", help="say what would be run, and run nothing"
    )
    group.add_argument("--panel", type=int, metavar="N", help="those of a panel, counted from 1")
    group.add_argument("--only", default="*", metavar="GLOB", help="those with such names")
    group.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="each with so many seeds (default 1)"
    )


def add_changing(group: argparse._ArgumentGroup) -> None:
    """The options that change runs."""
    group.add_argument(
        "--scale",
        type=float,
        default=1.0,
        metavar="X",
        help="a share of the epochs, the images and an MLP's width, for a trial",
    )
    group.add_argument("--data-set", metavar="NAME", help=f"another: {', '.join(SIZES)}")
    group.add_argument(
        "--as-code",
        action="store_true",
        help="as the authors' code has it, which is the next four, each where it holds",
    )
    group.add_argument("--lr-factor", type=float, metavar="X", help="of each drop (code: 0.2)")
    group.add_argument("--no-augment", action="store_true", help="neither crop, flip nor rotate")
    group.add_argument("--leaky-relu", action="store_true", help="in place of ReLU")
    group.add_argument(
        "--eps", type=float, nargs="+", metavar="X", help="of the rank: concerns the figure only"
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION[=VALUE]",
        help="an option of `classify` for every run: --set momentum=0.9",
    )


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    changes = Changes(
        data=options.data_set,
        scale=options.scale,
        as_code=options.as_code,
        lr_factor=options.lr_factor,
        augment=not options.no_augment,
        leaky_relu=options.leaky_relu,
        eps=None if options.eps is None else tuple(options.eps),
        seeds=options.seeds,
        settings=tuple(options.set),
        device=options.device,
    )
    return Args(
        name=options.name,
        out=options.out,
        data_dir=options.data,
        changes=changes,
        panel=options.panel,
        only=options.only,
        jobs=options.jobs,
        listing=options.list,
    )


def run(args: Args) -> None:
    """Run what is not finished, or say what would be run.

    Raises:
        UsageError: a choice that makes no sense.
        InputRejected: a data set's files are missing or damaged.
        OutputFailed: a directory cannot be written to.
        RunsFailed: some runs failed.
    """
    from trainers.imagestate import finished
    from trainers.recipes.listing import table
    from trainers.recipes.manifest import write_manifest
    from trainers.recipes.running import run_all, tell

    device = args.changes.device
    if not (args.listing and device.startswith("cuda")):  # a list may be for another machine
        check_device(device)
    recipe = changed(found(args.name), args.changes)
    runs = chosen(recipe, args)
    if args.listing:
        print(table(recipe, runs))
        return
    left = [one for one in runs if not finished(one)]
    tell(f"{len(runs) - len(left)} of {len(runs)} runs are finished already")
    check_data(left)
    write_manifest(recipe, args.out)
    run_all(left, args.jobs)
    print(f"python -m trainers figure {args.name} {args.out}")


def chosen(recipe: Recipe, args: Args) -> tuple[Run, ...]:
    """The runs to do, each in its place.

    Raises:
        UsageError: there is none.
    """
    panels = recipe.panels
    if args.panel is not None:
        if not 1 <= args.panel <= len(panels):
            raise UsageError(f"panel is {args.panel}, {args.name} has 1 to {len(panels)}")
        panels = panels[args.panel - 1 : args.panel]
    runs = tuple(
        replace(one, out=args.out / one.out, data_dir=args.data_dir)
        for one in replace(recipe, panels=panels).runs
        if fnmatchcase(one.out.name, args.only)
    )
    if not runs:
        raise UsageError(f"--only {args.only}: no run has such a name; --list shows them")
    return runs


def check_data(runs: Sequence[Run]) -> None:
    """Read each data set once, rather than have every run fail.

    Raises:
        UsageError: the directory of its files is not named.
        InputRejected: its files are missing or damaged.
    """
    from trainers.data import load

    for name, directory in dict.fromkeys((one.data, one.data_dir) for one in runs):
        if directory is None and size_of(name).needs_files:
            raise UsageError(f"{name} is read from files: --data DIR; --data-set digits needs none")
        load(name, directory)
