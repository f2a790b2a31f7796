"""What a check's verdict can be rendered as: by the name of a format, or by a file's suffix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rankscope.errors import UsageError
from rankscope.gate.verdict import Refusal, Verdict
from rankscope.writing import atomic_write

# The verdict, and whether a format that sums up is to tell everything.
Render = Callable[[Verdict, bool], str]

# What GitHub takes of a step's summary; of a longer one it shows nothing (its documentation,
# "Workflow commands": 1 MiB a step).
STEP_SUMMARY = 1 << 20


def _text(verdict: Verdict, everything: bool) -> str:
    from rankscope.views import gate, terminal

    return terminal.render(gate.report(verdict, narrow=True), everything=everything)


def _document(verdict: Verdict, _: bool) -> str:
    from rankscope.views import document, gate

    return document.render(gate.report(verdict))


def _junit(verdict: Verdict, _: bool) -> str:
    from rankscope.views import junit

    return junit.render(verdict)


def _github(verdict: Verdict, _: bool) -> str:
    from rankscope.views import github

    return github.render(verdict)


def _markdown(verdict: Verdict, everything: bool) -> str:
    from rankscope.views import gate, markdown
    from rankscope.views.gatewords import headline

    # The verdict before the table.
    head = f"### {markdown.escape(headline(verdict))}\n\n" if verdict.failures else ""
    whole = head + markdown.render(gate.report(verdict), everything=everything)
    if not everything or len(whole.encode("utf-8")) <= STEP_SUMMARY:
        return whole
    where = "every one would be more than the 1 MiB of a step summary: .html and .json have them"
    return head + markdown.render(gate.report(verdict, where=where), everything=False)


def _sarif(verdict: Verdict, _: bool) -> str:
    from rankscope.views import sarif

    return sarif.render(verdict)


def _csv(verdict: Verdict, _: bool) -> str:
    from rankscope.views import csv, gate

    return csv.render(gate.report(verdict))


def _page(verdict: Verdict, _: bool) -> str:
    from rankscope.views import gate, html

    return html.page(gate.report(verdict))


def _refused_junit(refusal: Refusal) -> str:
    from rankscope.views import junit

    return junit.render_refusal(refusal)


def _refused_github(refusal: Refusal) -> str:
    from rankscope.views import github

    return github.render_refusal(refusal)


FORMATS: Mapping[str, Render] = {
    "text": _text,
    "json": _document,
    "junit": _junit,
    "github": _github,
    "markdown": _markdown,
    "sarif": _sarif,
}

SUFFIXES: Mapping[str, Render] = {
    ".json": _document,
    ".csv": _csv,
    ".md": _markdown,
    ".html": _page,
    ".xml": _junit,
    ".sarif": _sarif,
}


# What is read by the machines of a CI system, and so told there too when no check was made. Other
# formats are of a verdict, and there is none.
REFUSALS: Mapping[str, Callable[[Refusal], str]] = {
    "junit": _refused_junit,
    "github": _refused_github,
    ".xml": _refused_junit,
}


def rendered(verdict: Verdict, name: str, *, everything: bool = False) -> str:
    """The verdict in a format.

    Args:
        verdict: of a check.
        name: of the format.
        everything: in text and Markdown, every finding in place of the worst. Markdown that would
            be more than a step summary holds is summed up all the same, and says so.

    Raises:
        UsageError: there is no format of this name.
    """
    if name not in FORMATS:
        raise UsageError(f"format {name!r} is unknown, expected one of {', '.join(FORMATS)}")
    return FORMATS[name](verdict, everything)


def rendered_refusal(refusal: Refusal, name: str) -> str:
    """Why no check was made, in a format or by a file's suffix; nothing in most of them."""
    return REFUSALS[name](refusal) if name in REFUSALS else ""


def save_verdict(verdict: Verdict, path: Path, *, everything: bool = False) -> None:
    """Write to a file, whole or not at all; its suffix chooses the format, as in `rendered`.

    Raises:
        UsageError: no format has this suffix.
        OutputFailed: it could not be written; an old file is intact.
    """
    _write(check_suffix(path)(verdict, everything), path)


def save_refusal(refusal: Refusal, path: Path) -> bool:
    """Write why no check was made, where the file's format tells of it; whether it does.

    Raises:
        OutputFailed: it could not be written; an old file is intact.
    """
    text = rendered_refusal(refusal, path.suffix.lower())
    if text:
        _write(text, path)
    return bool(text)


def _write(text: str, path: Path) -> None:
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def check_suffix(path: Path) -> Render:
    """The format that a file's suffix asks for.

    Raises:
        UsageError: no format has this suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"{path}: suffix {path.suffix!r} names no format, expected one of {known}")
    return SUFFIXES[suffix]
