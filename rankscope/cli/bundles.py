"""Options that several commands share, as one parameter of each.

A bundle is a function whose parameters are options, and what it returns is what the command gets:

    @bundled({"how": how_options})
    def analyze(paths: Paths, how: How) -> None: ...

has the options of `how_options` where `how` stands. typer looks at a command's signature, so that
is what is changed.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

Command = Callable[..., None]
Bundle = Callable[..., Any]


def bundled(bundles: Mapping[str, Bundle]) -> Callable[[Command], Command]:
    """A command with the options of bundles in place of the parameters that they fill.

    Args:
        bundles: by the name of the command's parameter; a `contextmanager` is entered, and left
            when the command ends.
    """

    def around(command: Command) -> Command:
        def run(**values: Any) -> None:
            with ExitStack() as stack:
                for name, bundle in bundles.items():
                    taken = {option.name: values.pop(option.name) for option in _options(bundle)}
                    made = bundle(**taken)
                    # Not by its type: a Path is a context manager, too, until Python 3.13.
                    opened = inspect.isgeneratorfunction(inspect.unwrap(bundle))
                    values[name] = stack.enter_context(made) if opened else made
                command(**values)

        parameters: list[inspect.Parameter] = []
        for one in _options(command, leaving=bundles):
            parameters += _options(bundles[one.name]) if one.name in bundles else [one]
        run.__name__, run.__module__, run.__doc__ = (
            command.__name__,
            command.__module__,
            command.__doc__,
        )
        # They are given by name, and one with a default may stand before one without.
        named = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
        run.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return around


def _options(function: Bundle, leaving: Mapping[str, object] | None = None) -> list[Any]:
    """The parameters of a function, their annotations evaluated; not of those to be replaced."""
    told = {
        name: hint
        for name, hint in inspect.unwrap(function).__annotations__.items()
        if name != "return" and name not in (leaving or {})
    }
    scope = inspect.unwrap(function).__globals__
    hints = typing.get_type_hints(SimpleNamespace(__annotations__=told), scope, include_extras=True)
    return [
        one.replace(annotation=hints.get(one.name, one.annotation))
        for one in inspect.signature(function).parameters.values()
    ]
