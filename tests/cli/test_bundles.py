"""Options that several commands share, as one parameter of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from rankscope.cli.bundles import bundled

SEEN: list[Any] = []


def sum_options(
    first: Annotated[int, typer.Option("--first", help="The first term.")] = 1,
    second: Annotated[int, typer.Option("--second")] = 2,
) -> int:
    return first + second


@contextmanager
def open_options(name: Annotated[str, typer.Option("--name")] = "it") -> Iterator[str]:
    SEEN.append(f"open {name}")
    try:
        yield name.upper()
    finally:
        SEEN.append(f"close {name}")


def place_options(where: Annotated[str, typer.Option("--where")] = ".") -> Path:
    return Path(where)


@bundled({"total": sum_options, "thing": open_options, "place": place_options})
def command(
    word: Annotated[str, typer.Argument()],
    *,
    total: int,
    thing: str,
    place: Path,
    last: bool = False,
) -> None:
    """What it does."""
    assert isinstance(place, Path)
    SEEN.append((word, total, thing, last))
    if word == "fail":
        raise typer.Exit(3)


@pytest.fixture
def invoke() -> Callable[..., Any]:
    SEEN.clear()
    app = typer.Typer()
    app.command()(command)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_the_command_gets_what_the_bundles_return(invoke: Callable[..., Any]) -> None:
    assert invoke("w", "--first", "5", "--name", "x", "--last").exit_code == 0
    assert SEEN == ["open x", ("w", 7, "X", True), "close x"]


def test_defaults(invoke: Callable[..., Any]) -> None:
    assert invoke("w").exit_code == 0
    assert ("w", 3, "IT", False) in SEEN


def test_a_context_is_left_when_the_command_fails(invoke: Callable[..., Any]) -> None:
    assert invoke("fail").exit_code == 3
    assert SEEN[-1] == "close it"


def test_the_help_has_every_option_where_the_bundle_stands(invoke: Callable[..., Any]) -> None:
    text = invoke("--help").output
    places = [text.index(name) for name in ("--first", "--second", "--name", "--last")]
    assert places == sorted(places)
    assert "What it does." in text
    assert "The first term." in text
    assert "--total" not in text
    assert "--thing" not in text


def test_a_value_of_the_wrong_type_is_refused(invoke: Callable[..., Any]) -> None:
    result = invoke("w", "--first", "many")
    assert result.exit_code == 2
    assert not SEEN
