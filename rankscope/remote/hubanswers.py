"""What the Hugging Face hub answers when it does not give what it is asked for."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from rankscope.remote.patience import PATIENT
from rankscope.text import printable

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

Answer = TypeVar("Answer")

# As huggingface_hub itself tries again where it reads ranges and lists trees (`http_backoff` in its
# utils/_http.py); elsewhere it gives up at once.
PASSING = frozenset({408, 429, 500, 502, 503, 504})

# The hub counts requests in windows of five minutes and tells when the next one begins.
LONGEST_WAIT = 300.0  # seconds

LONGEST = 200  # characters of a library's own text that are shown

LOG_IN = "log in with `hf auth login`"


class HubRefused(OSError):
    """What the hub does not give; `strerror` is one line that tells why and what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EACCES, reason)


def asked(question: Callable[[], Answer]) -> Answer:
    """What the hub answers, asked again while it is busy or out of reach.

    Raises:
        HubRefused: it does not answer, or refuses.
        Exception: whatever else `question` raises.
    """
    try:
        return _patiently(question)
    except Exception as error:
        reason = refusal(error)
        if reason is None:
            raise
        raise HubRefused(reason) from error


def refusal(error: BaseException) -> str | None:
    """Why the hub or its client refuses, in one line; None for an error that is none of theirs.

    That there is no such file is no refusal, but an answer.
    """
    from huggingface_hub import errors

    if any(isinstance(one, errors.EntryNotFoundError) for one in _causes(error)):
        return None
    return next(filter(None, map(_reason, _causes(error))), None)


def _reason(error: BaseException) -> str | None:
    """What one error says by itself."""
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, HubRefused):
        return str(error.strerror)
    if isinstance(error, errors.HfHubHTTPError):
        return _told(error)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "the client is offline: unset HF_HUB_OFFLINE"
    if isinstance(error, (errors.HfUriError, errors.HFValidationError)):
        return "names no repository, expected hf://org/model[@revision][/path]"
    if isinstance(error, httpx2.TransportError):
        return f"the hub cannot be reached: {first_line(error)}"
    return None


def first_line(error: BaseException) -> str:
    """The first line of a library's text, harmless and not too long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0])[:LONGEST]


def quiet() -> None:
    """Keep the client's remarks off the screen, where nobody asked for them."""
    from huggingface_hub.utils import logging as remarks

    if remarks.get_verbosity() == logging.WARNING:  # as it is by itself
        remarks.set_verbosity(logging.CRITICAL)


def _patiently(question: Callable[[], Answer]) -> Answer:
    for wait in PATIENT.waits():
        try:
            return question()
        except Exception as error:
            if not _passes(error):
                raise
            time.sleep(min(max(wait, _asked_to_wait(error)), LONGEST_WAIT))
    return question()


def _passes(error: BaseException) -> bool:
    """Whether the hub may answer when it is asked again: it is busy, or the connection was lost.

    A hub that is not there at all will not be there in a moment: a mistyped HF_ENDPOINT.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    for one in _causes(error):
        if isinstance(one, HfHubHTTPError):
            return one.response.status_code in PASSING
        if isinstance(one, httpx2.TransportError):
            return not isinstance(one, httpx2.ConnectError)
    return False


def _asked_to_wait(error: BaseException) -> float:
    """Seconds that the hub asks to wait: `RateLimit: "api";r=0;t=55`, or `Retry-After: 55`."""
    response: Any = next(filter(None, (getattr(e, "response", None) for e in _causes(error))), None)
    if response is None:
        return 0.0
    told = re.search(r"\bt=(\d{1,4})", response.headers.get("RateLimit", ""))
    told = told or re.fullmatch(r"(\d{1,4})", response.headers.get("Retry-After", ""))
    return float(told[1]) if told else 0.0


def _told(error: HfHubHTTPError) -> str:
    """What an answer says that is an error."""
    from huggingface_hub import errors

    # The first that fits: a gated repository counts as one that is not found, too.
    meanings = (
        (errors.GatedRepoError, f"gated: {LOG_IN} and accept its terms on its page"),
        (
            errors.RepositoryNotFoundError,
            f"no such repository, or a private one: check its name, or {LOG_IN}",
        ),
        (errors.RevisionNotFoundError, "no such branch, tag or commit"),
        (errors.DisabledRepoError, "the hub has disabled this repository"),
    )
    for kind, reason in meanings:
        if isinstance(error, kind):
            return reason
    status = error.response.status_code
    if status in (401, 403):
        return f"the hub does not let this token read it: {LOG_IN} again, or see HF_TOKEN"
    if status == 429:
        return f"the hub gets too many requests from here: wait five minutes, or {LOG_IN}"
    return f"the hub answers {status}" + (": try again later" if status in PASSING else "")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
