"""What a released model was: a small file to be committed, and compared with the next release.

It holds readings, shapes, types and a digest of each matrix, no weights. One matrix is one line,
so that a difference of two baselines reads as what changed; numbers have six digits, of which a
machine's own rounding changes none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

from rankscope.checkpoints.strictjson import parse_strict
from rankscope.errors import InputRejected, UsageError
from rankscope.files import open_file
from rankscope.jsonobject import JsonObject, is_finite, read_limited
from rankscope.matrices import Selection
from rankscope.metrics.thresholded import Norm
from rankscope.question import Question
from rankscope.rows import Row
from rankscope.table import COMPLETE, Table

SCHEMA = "rankscope/baseline/1"

# A million matrices at 100 bytes of name and 200 of readings, and three times as much to spare.
MAX_BYTES = 1_000_000_000

# What a baseline holds unless told otherwise: each settled by the Gram route alone, in every type.
METRICS = (
    "rank",
    "effective_rank",
    "numerical_rank",
    "stable_rank",
    "energy_rank",
    "spectral_norm",
    "frobenius_norm",
    "nuclear_norm",
)

DIGITS = 6

ADVICE = "write it with `rankscope baseline MODEL -o FILE`"

MARK = b'"rankscope/baseline/'  # of every version, a file with conflicts of git's included

# What a matrix is, beside its readings.
FACTS = ("content", "dtype", "kind", "shape", "status")


@dataclass(frozen=True, slots=True)
class Baseline:
    """The readings of one model.

    Attributes:
        question: which metrics, at which eps of which norm.
        selection: which matrices.
        matrices: by name: shape, dtype, kind, status, content, and one key a column.
        vectors: names of the floating-point tensors of one axis: gains, biases. None of a
            baseline from before they were noted.
        ties: further names of its tensors, as the model's files told, and which each is of.
    """

    question: Question
    selection: Selection
    matrices: Mapping[str, Row]
    vectors: tuple[str, ...] | None = None
    ties: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of the readings."""
        return tuple(column.key for column in self.question.columns())


def nothing_yet(eps: tuple[float, ...], norm: Norm, selection: Selection | None) -> Baseline:
    """The baseline that a model has before its first one is written."""
    return Baseline(Question(METRICS, eps, norm), selection or Selection(), {})


def baseline_of(table: Table, question: Question, selection: Selection) -> Baseline:
    """The baseline that the table of one checkpoint makes.

    Raises:
        InputRejected: something was not measured; a baseline without it would let it go unseen.
            Or there is nothing.
    """
    source = table.provenance["sources"][0]["path"]
    codes = [
        (row["name"], row["reason"])
        for row in table.skipped
        if row["what"] == "weight" and selection.why_not(row["name"]) is None
    ]
    if table.incomplete or codes:
        unread = [
            (row["name"], row["notes"]["status"])
            for row in table.matrices
            if row["status"] not in COMPLETE
        ]
        missing = [(row["name"], row["reason"]) for row in table.skipped if row["missing"]]
        (name, reason), *others = (*unread, *missing, *codes)
        more = f", and {len(others)} more" if others else ""
        more += "; what no baseline is to hold, name with --exclude" if codes else ""
        raise InputRejected(source, f"no baseline without it: {reason}{more}", tensor=name)
    if not table.matrices:
        raise InputRejected(source, "holds no weight matrix, of which a baseline could be made")
    keys = [column.key for column in question.columns()]
    vectors = sorted(
        row["name"]
        for row in table.skipped
        if row["what"] == "vector" and selection.why_not(row["name"]) is None
    )
    rows = {row["name"]: noted(row, keys) for row in table.matrices}
    ties = {row["name"]: row["same_as"] for row in table.skipped if row["same_as"]}
    return Baseline(question, selection, rows, tuple(vectors), ties)


def noted(row: Row, keys: Sequence[str]) -> Row:
    """What a baseline keeps of a row of a table."""
    return {key: row[key] for key in FACTS} | {key: rounded(row[key]) for key in keys}


def rounded(value: float | None) -> float | int | None:
    """A reading in as many digits as a baseline has."""
    return value if value is None or isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def to_text(baseline: Baseline) -> str:
    """The file: JSON with sorted keys, one matrix or vector a line."""
    question = {
        "eps": list(baseline.question.eps),
        "exclude": list(baseline.selection.exclude),
        "include": list(baseline.selection.include),
        "metrics": list(baseline.question.metrics),
        "norm": baseline.question.norm,
    }
    lines = [
        f"    {json.dumps(name)}: {json.dumps(baseline.matrices[name], sort_keys=True)}"
        for name in sorted(baseline.matrices)
    ]
    ties = f"{json.dumps(dict(baseline.ties), sort_keys=True)},\n  " if baseline.ties else ""
    head = f'"question": {json.dumps(question)},\n  "schema": {json.dumps(SCHEMA)}'
    vectors = ",\n".join(f"    {json.dumps(name)}" for name in baseline.vectors or ())
    tail = f'"vectors": [\n{vectors}\n  ]' if vectors else '"vectors": []'
    tail = f',\n  "ties": {ties}{tail}' if ties else f",\n  {tail}"
    return '{\n  "matrices": {\n' + ",\n".join(lines) + "\n  },\n  " + head + tail + "\n}\n"


def check_covers(selection: Selection, baseline: Baseline, path: Path | str) -> None:
    """Refuse to forget matrices that a baseline holds: later checks would pass without them.

    Raises:
        UsageError: the selection leaves some of them out.
    """
    held = (*baseline.matrices, *(baseline.vectors or ()))
    lost = [name for name in held if selection.why_not(name) is not None]
    if lost:
        raise UsageError(
            f"{path}: {len(lost)} of its {len(held)} matrices and vectors are not selected and "
            f"would be forgotten, {lost[0]} among them; to narrow it, remove the file first"
        )


def check_replaceable(path: Path | str) -> None:
    """Refuse to write a baseline over what is none: weights, an index of shards, a report.

    Raises:
        UsageError: the file is there, and neither empty nor a baseline, be it a damaged one.
        InputRejected: it cannot be read.
    """
    if not Path(path).exists():
        return
    file = open_file(Path(path))
    try:
        known = file.size <= MAX_BYTES and MARK in file.read(0, file.size)
        if file.size and not known:
            raise UsageError(
                f"{path}: is no baseline, and would be lost; choose another file, or remove it"
            )
    finally:
        file.close()


def read_baseline(path: Path | str) -> Baseline:
    """The baseline in a file.

    Raises:
        InputRejected: it is not there, no baseline, of another version, or not whole.
    """
    path = Path(path)
    if not path.exists():
        raise InputRejected(path, f"no such file; {ADVICE}")
    document = JsonObject(path, "", parse_strict(path, read_limited(path, MAX_BYTES), "baseline"))
    if document.value.get("schema") != SCHEMA:
        raise document.wrong("schema", f"{SCHEMA!r}: {ADVICE}")
    asked = document.needed("question", document.object("question"))
    matrices = document.needed("matrices", document.object("matrices"))
    try:
        question = _question(asked)
        keys = [column.key for column in question.columns()]
    except UsageError as error:
        raise InputRejected(path, f"question: {error}") from error
    rows = {name: _row(matrices, name, keys) for name in matrices.value}
    selection = Selection(_words(asked, "include"), _words(asked, "exclude"), settled=True)
    vectors = _words(document, "vectors") if "vectors" in document.value else None
    return Baseline(question, selection, rows, vectors, _ties(document))


def _question(asked: JsonObject) -> Question:
    norm = asked.needed("norm", asked.text("norm"))
    if norm not in get_args(Norm):
        raise asked.wrong("norm", f"one of {', '.join(get_args(Norm))}")
    levels = asked.array("eps")
    if not all(map(is_finite, levels)):
        raise asked.wrong("eps", "a list of numbers")
    return Question(_words(asked, "metrics"), tuple(map(float, levels)), cast("Norm", norm))


def _ties(document: JsonObject) -> dict[str, str]:
    told = document.object("ties")
    if told is None:
        return {}
    return {name: told.needed(name, told.text(name)) for name in told.value}


def _words(asked: JsonObject, key: str) -> tuple[str, ...]:
    words = asked.array(key)
    if not all(isinstance(word, str) for word in words):
        raise asked.wrong(key, "a list of strings")
    return tuple(words)


def _row(matrices: JsonObject, name: str, keys: Sequence[str]) -> Row:
    """One matrix, every member of the type that it must have."""
    found = matrices.needed(name, matrices.object(name))
    shape = found.array("shape")
    if len(shape) != 2 or not all(type(side) is int and side >= 0 for side in shape):
        raise found.wrong("shape", "two sides")
    row: dict[str, Any] = {"shape": shape, "content": found.text("content")}
    for key in ("dtype", "kind", "status"):
        row[key] = found.needed(key, found.text(key))
    for key in keys:
        if key not in found.value:
            raise found.wrong(key, "a number or null: every column of the question")
        value = found.number(key)
        whole = type(found.value[key]) is int
        row[key] = int(found.value[key]) if whole and value is not None else value
    return row
