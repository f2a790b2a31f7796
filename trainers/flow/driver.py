"""`python -m trainers flow ...`: what gradient flow does, against what theory says."""

from __future__ import annotations

import argparse

from trainers.flow import completion, measured, regression


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand a question; each is a driver itself and takes this one's place."""
    questions = parser.add_subparsers(required=True, metavar="WHAT")
    for name, driver, meaning in (
        ("regression", regression, "least squares: closed form, ODE solver and gradient descent"),
        ("completion", completion, "P3's [[*, 1], [1, 0]]: norms grow, ranks fall"),
        ("dynamics", measured, "how fast singular values move: predicted and measured"),
    ):
        chosen = questions.add_parser(name, help=meaning)
        driver.add_arguments(chosen)
        chosen.set_defaults(driver=driver)
