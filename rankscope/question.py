"""What is asked of every spectrum: metric names and parameters to the columns of a table."""

from __future__ import annotations

import ast
import difflib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankscope.errors import UsageError
from rankscope.metrics import METRICS, Metric
from rankscope.metrics.thresholded import DEFAULT_EPS, Norm
from rankscope.records import Reading, Spectrum

# Longer than any metric with its parameters, too short to nest deeply or to overflow a float.
MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Column:
    """One metric with its parameters: a key in every row.

    Attributes:
        key: `rank`, `rank@0.01` where several eps are asked for, `schatten_norm(p=0.5)`.
        metric: whose reading it is.
        parameters: (name, value) pairs that the function is called with.
    """

    key: str
    metric: Metric
    parameters: tuple[tuple[str, Any], ...] = ()

    def read(self, spectrum: Spectrum) -> Reading:
        """The reading of one spectrum."""
        return self.metric.function(spectrum, **dict(self.parameters))


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every spectrum.

    Attributes:
        metrics: names, with parameters in parentheses; empty for the default ones.
        eps: thresholds of the thresholded metrics.
        norm: what eps is relative to.
    """

    metrics: tuple[str, ...] = ()
    eps: tuple[float, ...] = (DEFAULT_EPS,)
    norm: Norm = "frobenius"

    def columns(self) -> tuple[Column, ...]:
        """The columns, in the order asked; `UsageError` for what makes no sense."""
        if not self.eps:
            raise UsageError("no eps given, expected at least one")
        texts = self.metrics or tuple(metric.name for metric in METRICS if metric.default)
        found: dict[str, Column] = {}
        for text in texts:
            metric, parameters = _parse(text)
            if not metric.thresholded:
                key = _key(metric.name, parameters)
                found[key] = Column(key, metric, parameters)
                continue
            for eps in dict.fromkeys(self.eps):
                key = eps_key(metric.name, eps, self.eps)
                found[key] = Column(key, metric, (("eps", eps), ("norm", self.norm)))
        columns = tuple(found.values())
        for column in columns:
            try:
                column.read(_PROBE)
            except TypeError as error:
                raise UsageError(
                    f"metric {column.key}: a parameter is of the wrong kind"
                ) from error
        return columns


def eps_key(name: str, eps: float, levels: Sequence[float]) -> str:
    """The key of what depends on eps: `rank`, or `rank@0.01` where there are several levels."""
    return f"{name}@{_short(eps)}" if len(set(levels)) > 1 else name


def read_all(columns: Sequence[Column], spectrum: Spectrum) -> tuple[Reading, ...]:
    """The reading of every column."""
    return tuple(column.read(spectrum) for column in columns)


def needs_direct(spectrum: Spectrum, readings: Sequence[Reading]) -> bool:
    """Whether a reading of this spectrum may change when computed by the direct route."""
    return spectrum.route != "direct" and not all(reading.exact for reading in readings)


def _parse(text: str) -> tuple[Metric, tuple[tuple[str, Any], ...]]:
    """`name`, `name(0.5)` or `name(p=0.5, q=0.7)`; values are numbers or bare words."""
    node = _tree(text)
    call = node if isinstance(node, ast.Call) else None
    head = call.func if call else node
    metric = _named(head.id if isinstance(head, ast.Name) else text)
    given = list(zip(metric.parameters, call.args, strict=False)) if call else []
    if call:
        given += [(keyword.arg or "", keyword.value) for keyword in call.keywords]
    names = [name for name, _ in given]
    too_many = call is not None and len(call.args) > len(metric.parameters)
    unknown = [name for name in names if name not in metric.parameters]
    missing = [name for name in metric.parameters[: metric.required] if name not in names]
    if too_many or unknown or missing or len(set(names)) < len(names):
        form = (
            f"{metric.name}({', '.join(metric.parameters)})" if metric.parameters else metric.name
        )
        raise UsageError(f"metric {text!r}, expected {form}")
    parameters = tuple((name, _value(text, node)) for name, node in given)
    if any(not isinstance(value, str) and not math.isfinite(value) for _, value in parameters):
        raise UsageError(f"metric {text!r}: a parameter is too large for a number")
    return metric, parameters


def _tree(text: str) -> ast.expr:
    """The text as a Python expression; None's where it is none, or too long to be looked into."""
    nothing = ast.Constant(None)
    if len(text) > MAX_TEXT:
        return nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the parser's own, on how Python should be written
        try:
            return ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return nothing


def _named(name: str) -> Metric:
    for metric in METRICS:
        if metric.name == name:
            return metric
    names = [metric.name for metric in METRICS]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    shown = name if len(name) <= MAX_TEXT else f"{name[:MAX_TEXT]}..."
    raise UsageError(f"metric {shown!r} is not known; {hint}")


def _value(text: str, node: ast.expr) -> float | int | str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(text, node.operand)
        return number if isinstance(number, str) else -number
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        above, below = _value(text, node.left), _value(text, node.right)
        if not isinstance(above, str) and not isinstance(below, str) and below != 0:
            return above / below
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, str):
        return node.value  # type: ignore[return-value]
    raise UsageError(f"metric {text!r}: a parameter is neither a number nor a word")


def _key(name: str, parameters: tuple[tuple[str, Any], ...]) -> str:
    if not parameters:
        return name
    inside = ",".join(
        f"{key}={value}" if isinstance(value, str) else f"{key}={_short(value)}"
        for key, value in parameters
    )
    return f"{name}({inside})"


def _short(number: float) -> str:
    """A number as short as it can be without becoming another one."""
    text = f"{number:g}"
    return text if float(text) == number else repr(number)


# Any spectrum will do to have a metric refuse its parameters before work begins.
_PROBE = Spectrum(np.ones(1), (1, 1), "float64", 1.0, 1.0, 1.0, 2.0**-53, "direct")
