"""What a check's verdict can be rendered as: by the name of a format, or by a file's suffix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rankscope.errors import UsageError
from rankscope.gate.verdict import Verdict
from rankscope.writing import atomic_write


def _text(verdict: Verdict) -> str:
    from rankscope.views import gate, terminal

    return terminal.render(gate.report(verdict, narrow=True))


def _document(verdict: Verdict) -> str:
    from rankscope.views import document, gate

    return document.render(gate.report(verdict))


def _junit(verdict: Verdict) -> str:
    from rankscope.views import junit

    return junit.render(verdict)


def _github(verdict: Verdict) -> str:
    from rankscope.views import github

    return github.render(verdict)


def _markdown(verdict: Verdict) -> str:
    from rankscope.views import gate, markdown
    from rankscope.views.gatewords import headline

    # The verdict before the table. Summed up: a step summary holds 1 MiB, and is for people.
    head = f"### {markdown.escape(headline(verdict))}\n\n" if verdict.failures else ""
    return head + markdown.render(gate.report(verdict), everything=False)


def _sarif(verdict: Verdict) -> str:
    from rankscope.views import sarif

    return sarif.render(verdict)


def _csv(verdict: Verdict) -> str:
    from rankscope.views import csv, gate

    return csv.render(gate.report(verdict))


def _page(verdict: Verdict) -> str:
    from rankscope.views import gate, html

    return html.page(gate.report(verdict))


FORMATS: Mapping[str, Callable[[Verdict], str]] = {
    "text": _text,
    "json": _document,
    "junit": _junit,
    "github": _github,
    "markdown": _markdown,
    "sarif": _sarif,
}

SUFFIXES: Mapping[str, Callable[[Verdict], str]] = {
    ".json": _document,
    ".csv": _csv,
    ".md": _markdown,
    ".html": _page,
    ".xml": _junit,
    ".sarif": _sarif,
}


def rendered(verdict: Verdict, name: str) -> str:
    """The verdict in a format.

    Raises:
        UsageError: there is no format of this name.
    """
    if name not in FORMATS:
        raise UsageError(f"format {name!r} is unknown, expected one of {', '.join(FORMATS)}")
    return FORMATS[name](verdict)


def save_verdict(verdict: Verdict, path: Path) -> None:
    """Write to a file, whole or not at all; its suffix chooses the format.

    Raises:
        UsageError: no format has this suffix.
        OutputFailed: it could not be written; an old file is intact.
    """
    text = check_suffix(path)(verdict)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def check_suffix(path: Path) -> Callable[[Verdict], str]:
    """The format that a file's suffix asks for.

    Raises:
        UsageError: no format has this suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"{path}: suffix {path.suffix!r} names no format, expected one of {known}")
    return SUFFIXES[suffix]
