"""What is said below the table: what is lacking, then what is to be known."""

from __future__ import annotations

from collections.abc import Iterator

from rankscope.live.following import Follower
from rankscope.live.lookout import Sight
from rankscope.text import printable
from rankscope.views.report import Remark


def remarks(follower: Follower, sight: Sight, log: str, store: str) -> tuple[Remark, ...]:
    """The remarks on a run.

    Args:
        follower: what has been measured, and what could not be.
        sight: what is there.
        log: what is wrong with the log; empty where nothing is.
        store: what is wrong with the store; likewise.
    """
    wrong = [Remark(printable(text), lacking=True) for text in (sight.remark, log, store) if text]
    found = sorted([*wrong, *_failures(follower), *_others(follower, sight)], key=_lacking_first)
    return tuple(found)


def _lacking_first(remark: Remark) -> bool:
    return not remark.lacking


def _failures(follower: Follower) -> Iterator[Remark]:
    for step, one in sorted(follower.failures.items()):
        if one.writing:
            yield Remark(f"step {step} is being written")
        else:
            name, reason = printable(one.name), printable(one.reason)
            yield Remark(f"step {step}: {name}: {reason}", lacking=True)


def _others(follower: Follower, sight: Sight) -> Iterator[Remark]:
    gone = len(follower.gone)
    if gone:
        count = "1 snapshot has" if gone == 1 else f"{gone} snapshots have"
        yield Remark(f"{count} been removed since; the curves keep what was measured")
    order = sorted(sight.seen.items(), key=lambda pair: pair[1].mtime_ns)
    if order and order[-1][0] != max(sight.seen):
        late, last = order[-1][0], max(sight.seen)
        yield Remark(f"step {late} was written after step {last}: is that of an earlier run?")
    skipped = sight.series.skipped if sight.series else ()
    if skipped:
        first = f"{printable(skipped[0].name)}: {printable(skipped[0].reason)}"
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        yield Remark(f"left out: {first}{more}")
