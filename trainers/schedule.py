"""When something is due in a run: the drops of the learning rate, and the snapshots."""

from __future__ import annotations

from collections.abc import Sequence

# P1, appendix B.1: the learning rate is divided by 10 at epochs 60, 100 and 200 of 500.
P1_DROPS = (60 / 500, 100 / 500, 200 / 500)


def rate_changes(rates: Sequence[float], updates: int) -> tuple[tuple[int, float], ...]:
    """From which step on a learning rate holds, and which, where it is not the one before.

    Args:
        rates: of each epoch.
        updates: of an epoch.
    """
    changed = (epoch for epoch in range(1, len(rates)) if rates[epoch] != rates[epoch - 1])
    return tuple((epoch * updates, rates[epoch]) for epoch in changed)


def drops_passed(drops: Sequence[float], epoch: int, epochs: int) -> int:
    """How many times the learning rate has dropped before an epoch, counted from 0.

    Args:
        drops: when, as shares of the run; none falls into the first epoch.
        epoch: which one.
        epochs: how many there are.
    """
    return sum(epoch >= max(1, round(share * epochs)) for share in drops)


def snapshot_epochs(epochs: int, snapshots: int, every: int | None = None) -> frozenset[int]:
    """After which epochs to save; 0 is the initialisation.

    Args:
        epochs: how many there are.
        snapshots: how many to save beside the initialisation, evenly spread.
        every: how many epochs from one to the next, in place of that; the last one is saved too.
    """
    if every is not None:
        return frozenset({*range(0, epochs, every), epochs})
    return frozenset(round(i * epochs / snapshots) for i in range(snapshots + 1))


def burst_steps(due: frozenset[int], steps: int, burst: int) -> frozenset[int]:
    """The steps to save because a snapshot is due soon after.

    Args:
        due: the epochs after which one is.
        steps: updates of an epoch.
        burst: how many consecutive steps to save up to each of these, itself included.
    """
    ends = {epoch * steps for epoch in due}
    before = {step for end in ends for step in range(max(0, end - burst + 1), end)}
    return frozenset(before - ends)
