"""How long a service that does not answer is asked again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """When to give up.

    The defaults wait 15.5 seconds at most in all, beside what the attempts themselves take.

    Attributes:
        attempts: of a request, the first included; botocore's legacy mode and huggingface_hub
            make five and six.
        first_wait: seconds before the second attempt, doubled before each further one.
        longest_wait: seconds; also of what a server asks for (`Retry-After`). As in
            huggingface_hub's `http_backoff`.
        stall: seconds without a byte after which a connection counts as lost; botocore's default.
    """

    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 8.0
    stall: float = 60.0

    def waits(self) -> Iterator[float]:
        """Seconds to wait before each further attempt.

        Somewhere between nothing and twice as long as before ("full jitter"): many readers that
        were refused at once must not come back at once.
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        for attempt in range(self.attempts - 1):
            longest = min(self.longest_wait, self.first_wait * 2**attempt)
            yield random.uniform(0, longest)  # noqa: S311 - no secret


PATIENT = Patience()
