"""What goes wrong with a cluster as a whole."""

from __future__ import annotations

from rankscope.errors import RankScopeError


class ClusterUnavailable(RankScopeError):
    """A cluster that cannot be reached, or has no worker that could do anything."""

    exit_code = 4


class ClusterLost(RankScopeError):
    """A cluster that went away during the work; what was finished is kept.

    Attributes:
        address: of its scheduler.
        reason: what happened to it.
    """

    exit_code = 4

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(
            f"{reason} (scheduler at {address}); run the command again: what is in the store is "
            "not measured twice"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return ClusterLost, (self.address, self.reason)


class WorkerMismatch(RankScopeError):
    """A worker that would not find the same numbers: other versions, or no RankScope at all.

    Attributes:
        worker: its address, or its host's name.
        found: its versions, or what it lacks.
        expected: the versions here.
    """

    exit_code = 4

    def __init__(self, worker: str, found: str, expected: str) -> None:
        self.worker = worker
        self.found = found
        self.expected = expected
        super().__init__(
            f"worker {worker}: {found}, but here is {expected}: install the same versions on both"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return WorkerMismatch, (self.worker, self.found, self.expected)


def lacks_rankscope(error: BaseException) -> bool:
    """Whether this says that RankScope cannot be imported where it was asked for.

    What travels may be the text of an exception within another one.
    """
    told = [error]
    while told[-1].__cause__ is not None:
        told.append(told[-1].__cause__)
    return any("No module named 'rankscope" in str(one) for one in told)
