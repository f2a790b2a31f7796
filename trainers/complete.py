"""P2's experiment: complete a low-rank matrix with a deep linear network.

    python -m trainers complete --depth 1 --optimizer adam --penalty ratio --lambda 0.05 --out DIR

The defaults are P2's: a 100x100 target of rank 5 with 2000 observed entries, the sum of squared
errors, learning rate 1e-3, layers that start from normal entries of standard deviation 1e-3.
Several seeds train as one batch. A run ends when its error, effective rank and norm have been
level for a while, not when its loss is small: `trainers.completion.plateau` says why.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from trainers.completion.options import Args, add_arguments, from_options
from trainers.devices import check_device
from trainers.outputs import Diverged, check_fresh

if TYPE_CHECKING:
    from trainers.completion.descent import Plan

__all__ = ["Args", "add_arguments", "from_options", "run"]

TRAP = (
    "warning: --stop-loss ends a run when the observed entries fit, which with Adam and a penalty "
    "is long before the others do: do not read its last error and rank as those of convergence"
)


def run(args: Args) -> None:
    """Train, and write a run directory for each seed.

    Raises:
        UsageError: a choice that makes no sense, or a directory that is in use.
        OutputFailed: a directory cannot be written to.
        Diverged: a seed did; the others were trained to their end.
    """
    import torch

    from trainers.completion.progress import Progress, in_words
    from trainers.completion.running import Keeping, train

    check_device(args.device)
    check_fresh(args.out)
    torch.set_num_threads(1)  # the matrices are too small for more; and the sums keep their order
    if args.stop_loss is not None:
        print(TRAP, file=sys.stderr)
    keeping = Keeping(args.saved_at, args.factors, args.recorded_sigma)
    outcomes = train(args.cells, args.directories, _plan(args), keeping, Progress(""))
    for cell, directory, outcome in zip(args.cells, args.directories, outcomes, strict=True):
        if outcome.end != "diverged":
            print(f"seed {cell.seed}: {in_words(outcome)}", file=sys.stderr)
        print(f"rankscope analyze {directory}")
    diverged = [
        f"seed {cell.seed} by iteration {outcome.reading.step}"
        for cell, outcome in zip(args.cells, outcomes, strict=True)
        if outcome.end == "diverged"
    ]
    if diverged:
        raise Diverged(
            f"{', '.join(diverged)} diverged, kept in {args.out} up to there; lower --lr, which "
            f"is {args.cell.lr:g}"
        )


def _plan(args: Args) -> Plan:
    import torch

    from trainers.completion.descent import Plan
    from trainers.completion.plateau import Plateau

    return Plan(
        args.cell.optimiser,
        args.cell.lr,
        args.iterations,
        Plateau() if args.stop == "plateau" else None,
        stop_loss=args.stop_loss,
        record_every=args.record_every,
        also=args.saved_at,
        dtype=getattr(torch, args.dtype),
        device=args.device,
    )
