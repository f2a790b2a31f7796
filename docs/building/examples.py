"""The commands that a page shows, run while the site is built, and what they gave.

    ```console exec
    $ rankscope analyze model.safetensors
    ```

The lines of such a block are run one after the other, and what each wrote to a terminal of 80
columns stands below it. All of a page run in one directory, which holds what `material.py` makes.
Words may follow `exec`:

    exit=1                  the last command of the block ends so; 0 otherwise
    silent                  what the commands wrote is not shown
    until='...'             Ctrl-C is pressed when the last command has written this
    shows=x.svg alt='...'   a picture that they made, and what it shows in words
    gives=x.html            a page that they made; a link leads to it
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from docs.building.running import Outcome, run, working_copy
from docs.building.terminal import to_html

BLOCK = re.compile(r"^```console exec(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
COMMAND = re.compile(r"^\$ (.*(?:\n(?!\$ ).+)*)", re.MULTILINE)  # and lines that go on with it
WORDS = frozenset({"alt", "exit", "gives", "shows", "silent", "until"})


class BuildFailed(Exception):
    """A page cannot be made, and why."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page whose commands have run.

    Attributes:
        text: Markdown, with what they wrote.
        files: what they made and the page shows, by where it lies in the site.
    """

    text: str
    files: Mapping[PurePosixPath, bytes]


def how_many(text: str) -> int:
    """How many commands of a page are to be run."""
    return sum(len(COMMAND.findall(block[1])) for block in BLOCK.findall(text))


def with_output(place: PurePosixPath, text: str, material: Path) -> Page:
    """Run the commands of a page.

    Args:
        place: the page, below docs/.
        text: its Markdown.
        material: the directory that they start from; it stays as it is.

    Raises:
        BuildFailed: one ended with another exit code than the page says, or a word behind `exec` is
            unknown.
    """
    files: dict[PurePosixPath, bytes] = {}
    with working_copy(material) as here:

        def shown(block: re.Match[str]) -> str:
            try:
                words = _words(block[1])
                *first, last = COMMAND.findall(block[2])
                outcomes = [run(command, here) for command in first]
                outcomes.append(run(last, here, words.get("until")))
                _check(outcomes, int(words.get("exit", "0")))
            except BuildFailed as error:
                raise BuildFailed(f"{place}: {error}") from error
            for name in (words[key] for key in ("shows", "gives") if key in words):
                files[place.parent / _folder(place) / name] = (here / name).read_bytes()
            return "\n\n".join(_parts(outcomes, words, _folder(place)))

        return Page(BLOCK.sub(shown, text), files)


def _words(text: str) -> dict[str, str]:
    pairs = [word.partition("=")[::2] for word in shlex.split(text)]
    for name, _ in pairs:
        if name not in WORDS:
            raise BuildFailed(f"{name!r} behind exec, expected one of {', '.join(sorted(WORDS))}")
    return dict(pairs)


def _check(outcomes: Sequence[Outcome], code: int) -> None:
    expected = [0] * (len(outcomes) - 1) + [code]
    for outcome, wanted in zip(outcomes, expected, strict=True):
        if outcome.code != wanted:
            raise BuildFailed(
                f"`{outcome.command}` ended with {outcome.code}, expected {wanted}: "
                f"{outcome.output.strip()[-500:]}"
            )


def _folder(place: PurePosixPath) -> str:
    """Where what a page's commands made lies, beside the page."""
    return f"{place.stem}-made"


def _parts(outcomes: Sequence[Outcome], words: Mapping[str, str], folder: str) -> Iterator[str]:
    for outcome in outcomes:
        yield f"```console\n$ {outcome.command}\n```"
        if "silent" not in words and outcome.output.strip():
            yield to_html(outcome.output)
    if "shows" in words:
        picture = f"{folder}/{words['shows']}"
        yield f"[![{words['alt']}]({picture})]({picture})"  # larger, where the page is narrow
    if "gives" in words:
        yield f"[Open {words['gives']}]({folder}/{words['gives']}){{ .made }}"
