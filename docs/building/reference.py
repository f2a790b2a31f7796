"""Pages' parts that follow from the code alone: options, metrics, the list of decisions.

They are committed, so that the pages read the same where nobody builds a site, and stand between
two comments. `python -m docs.building.reference` writes them anew; a test fails where they are not
what the code says.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from rankscope.cli.app import app
from rankscope.metrics import METRICS, Metric

DOCS = Path(__file__).parents[1]

# <!-- options: analyze --> ... <!-- end -->
PART = re.compile(r"^<!-- (\w+)(?:: (\w+))? -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)

# What an option takes, by the name of its type.
TAKES = {
    "boolean": "",
    "choice": "WORD",
    "file": "FILE",
    "float": "X",
    "float range": "X",
    "int": "N",
    "int range": "N",
    "path": "PATH",
    "str": "TEXT",
}

# What is no parameter of a metric's own: of `rank`, `--eps` and `--norm` say it.
THRESHOLD = ("eps", "norm")


def renewed(text: str) -> str:
    """The text of a page with every generated part as the code has it now.

    Raises:
        KeyError: a part of an unknown kind, or of an unknown command.
    """

    def part(match: re.Match[str]) -> str:
        kind, of, _ = match.groups()
        lines = "\n".join(PARTS[kind](of))
        name = kind if of is None else f"{kind}: {of}"
        return f"<!-- {name} -->\n\n{lines}\n\n<!-- end -->"

    return PART.sub(part, text)


def options(command: str) -> Iterator[str]:
    """How a command is called, its arguments and its options, as the command line has them."""
    parameters = [one for one in _command(command).params if "--help" not in one.opts]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    called = " ".join(_metavar(one) + ("..." if one.nargs < 0 else "") for one in arguments)
    yield f"    rankscope {command} [OPTIONS] {called}".rstrip()
    panels: dict[str | None, list[Any]] = {}
    for one in parameters:
        if one.param_type_name == "option":
            panels.setdefault(one.rich_help_panel, []).append(one)
    if arguments:
        yield from _table("argument", [(f"`{_metavar(one)}`", _plain(one)) for one in arguments])
    for panel, members in panels.items():
        if panel is not None:
            yield from ("", f"{panel}:")
        yield from _table("option", [(_spelling(one), _meaning(one)) for one in members])


def _command(name: str) -> Any:  # typer keeps its own copy of click to itself
    group: Any = typer.main.get_command(app)
    return group.commands[name]


def _table(heading: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield from ("", f"| {heading} | meaning |", "|---|---|")
    yield from (f"| {first} | {cell(second)} |" for first, second in rows)


def _spelling(option: Any) -> str:
    names = [f"`{name}`" for name in (*option.opts, *option.secondary_opts)]
    taken = option.metavar or TAKES[option.type.name]
    if taken:
        names[-1] = f"{names[-1][:-1]} {taken}`"
    return ", ".join(names)


def _meaning(option: Any) -> str:
    said = [_plain(option)]
    if option.type.name == "choice" and option.metavar is None:
        words = ", ".join(f"`{word}`" for word in option.type.choices)
        said.append(f"One of {words}.")
    if option.required:
        said.append("Required.")
    elif option.default not in (None, False):
        said.append(f"Default: `{option.default}`.")
    return " ".join(said)


def _plain(parameter: Any) -> str:
    """The help without rich's markup."""
    return Text.from_markup(parameter.help).plain


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def metrics(_: str | None) -> Iterator[str]:
    """Every metric: first all of them in a table, then what the docstring of each says."""
    yield from ("| metric | is | column |", "|---|---|---|")
    for metric in METRICS:
        first = _paragraphs(metric)[0].partition(". ")[0].rstrip(".:")
        shown = "by default" if metric.default else f"`-m {_call(metric)}`"
        yield f"| [`{metric.name}`](#{metric.name}) | {cell(first)} | {shown} |"
    for metric in METRICS:
        yield from ("", f"### {metric.name}", "")
        yield from _entry(metric)


def _entry(metric: Metric) -> Iterator[str]:
    yield "\n\n".join(literal(paragraph) for paragraph in _paragraphs(metric))
    if metric.thresholded:
        eps, norm = (_default(metric, name) for name in THRESHOLD)
        yield from ("", f"Takes `--eps` (default {eps}) and `--norm` (default {norm}).")
    for name in metric.parameters:
        default = _default(metric, name)
        taken = f"`{name}`, default {default}" if default else f"`{name}`, which must be given"
        yield from ("", f"Parameter: {taken}.")
    example = _example(metric)
    if example:
        yield from ("", "```pycon", *example, "```")


def _call(metric: Metric) -> str:
    if not metric.required:
        return metric.name
    return f"'{metric.name}({', '.join(metric.parameters[: metric.required])})'"


def _default(metric: Metric, name: str) -> str:
    default = inspect.signature(metric.function).parameters[name].default
    return "" if default is inspect.Parameter.empty else f"`{default}`"


def _lines(metric: Metric) -> list[str]:
    """The docstring up to what it raises."""
    lines = inspect.cleandoc(metric.function.__doc__ or "").splitlines()
    return lines[: lines.index("Raises:")] if "Raises:" in lines else lines


def _paragraphs(metric: Metric) -> list[str]:
    text = "\n".join(_lines(metric)).partition(">>>")[0]
    return [" ".join(part.split()) for part in text.strip().split("\n\n")]


def _example(metric: Metric) -> list[str]:
    """The docstring's example with what it gives."""
    lines = _lines(metric)
    starts = [i for i, line in enumerate(lines) if line.startswith(">>>")]
    if not starts:
        return []
    rest = lines[starts[0] :]
    return rest[: rest.index("")] if "" in rest else rest


def decisions(_: str | None) -> Iterator[str]:
    """What was decided, in order, by title."""
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        number, _, title = path.read_text("utf-8").splitlines()[0].lstrip("# ").partition(". ")
        yield f"{number}. [{title}]({path.name})"


def literal(text: str) -> str:
    """Plain text as Markdown that shows it as it is, code spans apart."""
    spans = text.split("`")
    spans[::2] = [re.sub(r"([*\[\]])", r"\\\1", span).replace("<", "&lt;") for span in spans[::2]]
    return "`".join(spans)


def cell(text: str) -> str:
    """Plain text as a cell of a table."""
    return literal(text).replace("|", r"\|")


PARTS = {"options": options, "metrics": metrics, "decisions": decisions}


def main() -> None:
    """Write every generated part of every page anew; tell which pages changed."""
    for path in sorted(DOCS.rglob("*.md")):
        before = path.read_text("utf-8")
        after = renewed(before)
        if after != before:
            path.write_text(after, "utf-8")
            sys.stdout.write(f"{path.relative_to(DOCS.parent)}\n")


if __name__ == "__main__":
    main()
