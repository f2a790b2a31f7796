"""`rankscope bound`: the bound on the rank as numbers."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from rankscope.cli.options import AsJson, Output
from rankscope.cli.output import check_output
from rankscope.cli.screen import present
from rankscope.errors import UsageError

SWEPT = "Repeatable. Default: P1's values."


def bound(
    batch: Annotated[
        list[int] | None, typer.Option("--B", help=f"Samples per device and step. {SWEPT}")
    ] = None,
    mu: Annotated[list[float] | None, typer.Option("--mu", help=f"Step size. {SWEPT}")] = None,
    lambda_: Annotated[
        list[float] | None,
        typer.Option("--lambda", help=f"The theorem's, factor of ||W||^2 in the loss. {SWEPT}"),
    ] = None,
    weight_decay: Annotated[
        list[float] | None,
        typer.Option(
            "--weight-decay", help="PyTorch's, 2 lambda; instead of --lambda. Repeatable."
        ),
    ] = None,
    eps: Annotated[
        list[float] | None,
        typer.Option("--eps", help=f"Distance from low rank, between 0 and 2. {SWEPT}"),
    ] = None,
    inputs: Annotated[
        int,
        typer.Option(
            "--m",
            help="Inputs per sample: 1 fully connected, height x width of a convolution's "
            "output, tokens for a layer applied per token.",
        ),
    ] = 1,
    momentum: Annotated[float, typer.Option("--momentum", help="PyTorch's, dampening 0.")] = 0.0,
    nesterov: Annotated[bool, typer.Option("--nesterov", help="The momentum is Nesterov's.")] = (
        False
    ),
    world_size: Annotated[int, typer.Option("--world-size", help="Devices.")] = 1,
    accumulation: Annotated[int, typer.Option("--accumulation", help="Batches per step.")] = 1,
    schedule: Annotated[
        str | None,
        typer.Option(
            "--schedule",
            help="mu over time, as '0:0.1, 60:0.01, 100:0.001': 0.1 from step 0 on, 0.01 from "
            "step 60 on, ...; epochs with --steps-per-epoch. Rows are at the end of each phase.",
            show_default=False,
        ),
    ] = None,
    steps_per_epoch: Annotated[
        int | None, typer.Option("--steps-per-epoch", min=1, help="The schedule is in epochs.")
    ] = None,
    until: Annotated[
        int | None,
        typer.Option(
            "--until",
            help="When training ends, in the schedule's unit. Default: long after its last change.",
            show_default=False,
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            "--width", help="A matrix's smaller side: marks bounds that are vacuous for it."
        ),
    ] = None,
    solve_for: Annotated[
        Literal["width", "eps", "lambda", "weight-decay", "mu", "B"] | None,
        typer.Option(
            "--solve-for",
            help="The least (of B the largest) that brings the exact count below --width.",
        ),
    ] = None,
    optimizer: Annotated[
        str, typer.Option("--optimizer", help="The theorem is about SGD only.")
    ] = "sgd",
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Bound the rank that SGD with weight decay leaves, from hyperparameters alone.

    What is given is fixed, what is not is swept over the values of
    Galanti et al., "SGD and Weight Decay Secretly Minimize the Rank".

    Examples:

        rankscope bound --B 8 --mu 0.5

        rankscope bound --B 8 --mu 0.5 --eps 0.1 --width 4096 --solve-for lambda
    """
    from rankscope.bounds.optimisers import check_optimiser
    from rankscope.bounds.setting import Setting
    from rankscope.bounds.table import BoundQuestion, bound_table
    from rankscope.views.bound import report

    if output is not None:
        check_output(output)
    check_optimiser(optimizer)
    unit = 1 if steps_per_epoch is None else steps_per_epoch
    if schedule is None and steps_per_epoch is not None:
        raise UsageError("--steps-per-epoch needs a --schedule")
    setting = Setting(
        inputs=inputs,
        momentum=momentum,
        nesterov=nesterov,
        world_size=world_size,
        accumulation=accumulation,
        schedule=_schedule(schedule, unit),
        step=None if until is None else until * unit,
        width=width,
    )
    decays = _decays(lambda_ or (), weight_decay or ())
    question = BoundQuestion(
        setting,
        tuple(batch or ()),
        tuple(mu or ()),
        decays,
        tuple(eps or ()),
        "lambda" if solve_for == "weight-decay" else solve_for,
    )
    shown = report(bound_table(question))
    present(shown, as_json=as_json, output=output, everything=True)


def _decays(lambdas: Sequence[float], weight_decays: Sequence[float]) -> tuple[float, ...]:
    """PyTorch's weight decay from either of two options."""
    if lambdas and weight_decays:
        raise UsageError("--lambda and --weight-decay exclude each other: one is half of the other")
    for value in lambdas:
        if not 0 <= 2 * value < math.inf:
            most = sys.float_info.max / 2
            raise UsageError(f"lambda is {value:g}, expected a number from 0 to {most:.2g}")
    return (*weight_decays, *(2 * value for value in lambdas))


def _schedule(text: str | None, unit: int) -> tuple[tuple[int, float], ...]:
    """`0:0.1,60:0.01` as (step, mu) pairs."""
    if text is None:
        return ()
    pairs: list[tuple[int, float]] = []
    for part in text.split(","):
        start, _, mu = part.partition(":")
        try:
            pairs.append((int(start) * unit, float(mu)))
        except ValueError as error:
            raise UsageError(
                f"--schedule {text!r}: {part!r} is no pair of a start and mu, "
                "expected something like '0:0.1,60:0.01'"
            ) from error
    return tuple(pairs)
