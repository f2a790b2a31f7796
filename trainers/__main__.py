"""`python -m trainers DRIVER ...`: train something small and write a run directory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rankscope.errors import RankScopeError
from trainers import digits, images


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a driver; the exit code is that of `rankscope` for the same kind of error."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers", description="Train something small and write a run directory."
    )
    drivers = parser.add_subparsers(required=True, metavar="DRIVER")
    for name, driver, meaning in (
        ("digits", digits, "MLP-BN-L-H on scikit-learn's handwritten digits, in seconds"),
        ("classify", images, "P1's networks on images, resumed where they were killed"),
    ):
        chosen = drivers.add_parser(name, help=meaning)
        driver.add_arguments(chosen)
        chosen.set_defaults(driver=driver)
    options = parser.parse_args(arguments)
    try:
        options.driver.run(options.driver.from_options(options))
    except RankScopeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        print(f"error: {error}: pip install 'rankscope[train]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
