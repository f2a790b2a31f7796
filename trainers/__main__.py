"""`python -m trainers DRIVER ...`: the experiments of three papers, as run directories."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rankscope.errors import RankScopeError
from trainers import baseline, complete, curves, digits, figure, images, recipe, table
from trainers.flow import driver as flow
from trainers.movielens import driver as movielens


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a driver; the exit code is that of `rankscope` for the same kind of error."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers",
        description="The experiments of three papers on rank, as run directories.",
    )
    drivers = parser.add_subparsers(required=True, metavar="DRIVER")
    for name, driver, meaning in (
        ("digits", digits, "MLP-BN-L-H on scikit-learn's handwritten digits, in seconds"),
        ("classify", images, "P1's networks on images, resumed where they were killed"),
        ("recipe", recipe, "the runs behind a figure of P1"),
        ("complete", complete, "P2's matrix completion by deep linear networks"),
        ("table", table, "a table of P2 beside the paper's numbers"),
        ("curves", curves, "the runs behind a figure of P2"),
        ("baseline", baseline, "the same matrices completed without training"),
        ("movielens", movielens, "P2's ratio penalty on MovieLens-100K's ratings"),
        ("flow", flow, "gradient flow: least squares, P3's completion, singular values"),
        ("figure", figure, "a figure of a paper, drawn from the runs in a directory"),
    ):
        chosen = drivers.add_parser(name, help=meaning)
        driver.add_arguments(chosen)
        chosen.set_defaults(driver=driver)
    options = parser.parse_args(arguments)
    used = _in_use(options)
    try:
        options.driver.run(options.driver.from_options(options))
    except RankScopeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ("trainers", "rankscope"):
            raise  # a fault of ours, which installing something does not mend
        extra = "baselines" if error.name == "cvxpy" else "train"
        print(f"error: {error}: pip install 'rankscope[{extra}]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted{_next_step(options, used=used)}", file=sys.stderr)
        return 130
    return 0


def _in_use(options: argparse.Namespace) -> bool:
    """Whether there is something in the way of --out already, which is not to be removed."""
    out: Path | None = getattr(options, "out", None)
    try:
        return out is not None and out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError:
        return True


def _next_step(options: argparse.Namespace, *, used: bool) -> str:
    """What to do after Ctrl-C: a driver whose constant `RESUMES` is true goes on where it was.

    Args:
        options: of the command line.
        used: whether --out held something before.
    """
    if getattr(options.driver, "RESUMES", False):
        return "; the same command goes on"
    out: Path | None = getattr(options, "out", None)
    if used or out is None or not out.exists():
        return ""
    return f"; remove {out} to start again"


if __name__ == "__main__":
    sys.exit(main())
