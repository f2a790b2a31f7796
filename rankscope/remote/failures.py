"""What the libraries raise, in our words: one line, and whether it may pass.

Told by the names of the classes, so that no library is imported to understand another's error.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from rankscope.places import RemotePath, masked
from rankscope.text import printable

# What a server may answer once and not the next time: RFC 9110, RFC 6585; the same as
# https://cloud.google.com/storage/docs/retry-strategy tries again.
PASSING_ANSWERS = frozenset({408, 429, 500, 502, 503, 504})

LONGEST = 200  # characters of a library's own text that are shown


@dataclass(frozen=True, slots=True)
class Failure:
    """What an error means.

    Attributes:
        number: as of `errno`; decides the class of the OSError.
        text: one line; `{}` is where the library's own first line goes.
        passing: whether asking again may help.
    """

    number: int
    text: str
    passing: bool = False


NO_CREDENTIALS = Failure(errno.EACCES, "no credentials found; see the service's own tools: {}")
NO_CONNECTION = Failure(errno.ECONNREFUSED, "no connection to the server", passing=True)
LOST = Failure(errno.ECONNRESET, "the connection was lost", passing=True)
SLOW = Failure(errno.ETIMEDOUT, "the server did not answer in time", passing=True)
CERTIFICATE = Failure(errno.ECONNABORTED, "no safe connection: {}")
MALFORMED = Failure(errno.EINVAL, "no URL that can be asked for: {}")
CONFIGURED = Failure(errno.EINVAL, "the service's own configuration does not serve: {}")

AWS_CREDENTIALS = Failure(
    errno.EACCES,
    "no AWS credentials found (environment, ~/.aws); for a public bucket set "
    """FSSPEC_S3='{{"anon": true}}'""",
)

MEANINGS = {
    "aiohttp.client_exceptions.ClientConnectorCertificateError": CERTIFICATE,
    "aiohttp.client_exceptions.ClientSSLError": CERTIFICATE,
    "aiohttp.client_exceptions.ClientConnectorError": NO_CONNECTION,
    "aiohttp.client_exceptions.ServerTimeoutError": SLOW,
    "aiohttp.client_exceptions.InvalidURL": MALFORMED,
    "aiohttp.client_exceptions.NonHttpUrlClientError": MALFORMED,
    "aiohttp.client_exceptions.TooManyRedirects": Failure(errno.ELOOP, "redirected in a circle"),
    "aiohttp.client_exceptions.ClientPayloadError": LOST,
    "aiohttp.client_exceptions.ClientConnectionError": LOST,
    "aiohttp.http_exceptions.HttpProcessingError": LOST,
    "botocore.exceptions.NoCredentialsError": AWS_CREDENTIALS,
    "botocore.exceptions.PartialCredentialsError": NO_CREDENTIALS,
    "botocore.exceptions.CredentialRetrievalError": NO_CREDENTIALS,
    "botocore.exceptions.TokenRetrievalError": NO_CREDENTIALS,
    "botocore.exceptions.SSOError": NO_CREDENTIALS,
    "botocore.exceptions.ProfileNotFound": NO_CREDENTIALS,
    "botocore.exceptions.SSLError": CERTIFICATE,
    "botocore.exceptions.ConnectTimeoutError": SLOW,
    "botocore.exceptions.ReadTimeoutError": SLOW,
    "botocore.exceptions.ConnectionError": NO_CONNECTION,
    "botocore.exceptions.ProxyConnectionError": NO_CONNECTION,
    "botocore.exceptions.IncompleteReadError": LOST,
    "botocore.exceptions.HTTPClientError": LOST,
    "botocore.exceptions.ParamValidationError": MALFORMED,
    "botocore.exceptions.BotoCoreError": CONFIGURED,
    "fsspec.exceptions.FSTimeoutError": SLOW,
    "google.auth.exceptions.TransportError": NO_CONNECTION,
    "google.auth.exceptions.GoogleAuthError": NO_CREDENTIALS,
    "requests.exceptions.ConnectionError": NO_CONNECTION,
    "requests.exceptions.Timeout": SLOW,
    "requests.exceptions.RequestException": LOST,
    "httpx2.ConnectError": NO_CONNECTION,
    "httpx2.TimeoutException": SLOW,
    "httpx2.TransportError": LOST,
    "builtins.TimeoutError": SLOW,
    "builtins.ConnectionRefusedError": NO_CONNECTION,
    "builtins.ConnectionError": LOST,
    "builtins.ValueError": MALFORMED,
    "builtins.NotImplementedError": MALFORMED,
}


def as_os_error(error: BaseException, path: RemotePath) -> OSError:
    """What went wrong with a URL as an OSError whose `strerror` is one line."""
    if path.on_hub:
        from rankscope.remote.hubanswers import refusal

        told = refusal(error)
        if told is not None:
            return OSError(getattr(error, "errno", None) or errno.EACCES, told)
    found = _meaning(error)
    return OSError(found.number, found.text.format(first_line(error)))


def cause_of(error: Exception, path: RemotePath) -> Exception | None:
    """The library's error as the cause of ours; None where its text would tell a secret URL."""
    return None if path.is_secret else error


def is_passing(error: BaseException) -> bool:
    """Whether the same request may be answered another time."""
    return _meaning(error).passing


def is_unreachable(error: BaseException) -> bool:
    """Whether no connection came about at all."""
    return _meaning(error) is NO_CONNECTION


def retry_after(error: BaseException) -> float:
    """The seconds that a server asks to wait for; 0 when it asks for none."""
    headers: Any = getattr(error, "headers", None) or {}
    told = str(headers.get("Retry-After", "0"))
    return float(told) if told.isascii() and told.isdecimal() else 0.0


def first_line(error: BaseException) -> str:
    """The first line of a library's text, harmless and not too long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _unsigned(printable(lines[0]))[:LONGEST]


def _meaning(error: BaseException) -> Failure:
    answer = _answer(error)
    if answer is not None:
        return _refusal(answer, error)
    for cls in type(error).__mro__:
        found = MEANINGS.get(f"{cls.__module__}.{cls.__qualname__}")
        if found is not None:
            return found
    if isinstance(error, OSError):
        return _of_system(error)
    return Failure(errno.EIO, "{}")


def _answer(error: BaseException) -> int | None:
    """The status code of the HTTP answer that an error tells of."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        code = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:  # httpx2's, requests'
        code = getattr(response, "status_code", None)
    elif hasattr(error, "status"):  # aiohttp's, whose `code` is deprecated
        code = error.status
    else:
        code = getattr(error, "code", None)  # gcsfs's
    return int(str(code)) if str(code).isdecimal() else None


def _refusal(answer: int, error: BaseException) -> Failure:
    response: Any = getattr(error, "response", None)
    told = response.get("Error", {}) if isinstance(response, dict) else {}
    said = str(told.get("Message") or getattr(error, "message", None) or error).strip()
    text = _literal(f"the server answers {answer}: {said}".partition("\n")[0])
    if answer in (401, 403):
        return Failure(errno.EACCES, f"no permission: {text}")
    if answer in (404, 410):
        return Failure(errno.ENOENT, text)
    if answer in (400, 405):  # what it is asked for is not asked for like this, or not by anybody
        return Failure(errno.EPERM, text)
    return Failure(errno.EIO, text, answer in PASSING_ANSWERS)


def _of_system(error: OSError) -> Failure:
    """An OSError that a library made: s3fs gives many of them a text and no number."""
    cause = error.__cause__
    if cause is not None and _answer(cause) is not None:
        of_cause = _meaning(cause)
        known = error.errno or _number_of(error)
        return Failure(known or of_cause.number, of_cause.text, of_cause.passing)
    text = _literal(error.strerror or first_line(error))
    return Failure(error.errno or _number_of(error) or errno.EIO, text)


def _literal(text: str) -> str:
    return _unsigned(printable(text))[:LONGEST].replace("{", "{{").replace("}", "}}")


def _unsigned(text: str) -> str:
    """A library's text without what is secret of the URLs that it names."""
    return " ".join(map(masked, text.split(" ")))


def _number_of(error: OSError) -> int | None:
    numbers = {
        PermissionError: errno.EACCES,
        FileNotFoundError: errno.ENOENT,
        NotADirectoryError: errno.ENOTDIR,
        IsADirectoryError: errno.EISDIR,
    }
    return next((number for cls, number in numbers.items() if isinstance(error, cls)), None)
