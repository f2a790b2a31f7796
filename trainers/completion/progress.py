"""Lines on stderr while batches train, and how a network ended in words."""

from __future__ import annotations

import sys
import time

from trainers.completion.descent import Visit
from trainers.completion.running import Outcome

ENDS = {
    "plateau": "level",
    "iterations": "not converged at the limit",
    "stop-loss": "below the training loss to stop at",
    "diverged": "diverged",
}


class Progress:
    """A line every few seconds, of a batch's first network.

    Args:
        name: what the line begins with.
        seconds: between two lines.
    """

    def __init__(self, name: str, seconds: float = 10) -> None:
        self._name = name
        self._seconds = seconds
        self._shown = time.monotonic()
        self._step = 0

    def __call__(self, visit: Visit) -> None:
        """Tell, if it is time."""
        passed = time.monotonic() - self._shown
        if passed < self._seconds:
            return
        pace = 1000 * passed / (visit.step - self._step)
        self._shown, self._step = time.monotonic(), visit.step
        first = visit.readings[0]
        print(
            f"{self._name}step {visit.step}  {pace:.2f} ms each  {len(visit.numbers)} left  train "
            f"loss {first.train_loss:.2e}  unobserved {first.error_unobserved:.2e}  effective "
            f"rank {first.effective_rank or 0:.1f}",
            file=sys.stderr,
            flush=True,
        )


def in_words(outcome: Outcome) -> str:
    """How it ended."""
    reading = outcome.reading
    rank = "undefined" if reading.effective_rank is None else f"{reading.effective_rank:.2f}"
    return (
        f"{ENDS[outcome.end]} after {reading.step} iterations: error {reading.error_all:.2e} over "
        f"all entries, {reading.error_unobserved:.2e} over the unobserved, effective rank {rank}"
    )
