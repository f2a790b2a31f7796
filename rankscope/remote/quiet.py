"""No log line of a library on the user's screen: what it says comes as an error of ours."""

from __future__ import annotations

import logging

# gcsfs logs tracebacks of requests that it gives up.
LOGGERS = (
    "aiobotocore",
    "aiohttp",
    "botocore",
    "fsspec",
    "gcsfs",
    "google",
    "s3fs",
    "urllib3",
)


def quiet() -> None:
    """Silence the loggers that nobody has set to a level of his own."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL + 1)
