"""What a person is shown of a run that is followed, apart from how wide and high the screen is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rankscope.identities import Identity
from rankscope.layerkinds import by_layer_kind
from rankscope.live.course import Course
from rankscope.rows import Row, averages
from rankscope.text import printable
from rankscope.trajectory import CLOSED, MEASURED, VACUOUS
from rankscope.views.cells import LOG_HEADINGS, headings, split_key
from rankscope.views.columns import in_reading_order
from rankscope.views.report import Remark

# Of the three bounds the one for the run's own schedule; analyze shows all.
OTHER_BOUNDS = (CLOSED, MEASURED, VACUOUS)

MANY_POINTS = 1000  # of a curve; braille has two a column

Points = tuple[tuple[int, float], ...]  # (step, value), ascending


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table: a matrix, the layers of a kind, or all of them.

    Attributes:
        label: already printable.
        count: how many matrices it stands for.
        shape: rows by columns; empty where they differ.
        status: why it has no values; empty where it has.
        row: the values now, and their notes.
        points: the first metric over the steps.
        step: of the last snapshot; a change is told where the points reach it.
    """

    label: str
    count: int
    shape: str
    status: str
    row: Row
    points: Points
    step: int

    @property
    def change(self) -> float | None:
        """Of the first metric since the first snapshot; None until there are two, or without one.

        What it was before the last snapshot, which has no value, is no change to now.
        """
        if len(self.points) < 2 or self.status or self.points[-1][0] != self.step:
            return None
        return self.points[-1][1] - self.points[0][1]


@dataclass(frozen=True, slots=True)
class Logged:
    """A quantity of the run's log over the steps.

    Attributes:
        label: what it is.
        points: its values by step.
        ended: the last snapshot has none, so that the last value is not how it is now.
    """

    label: str
    points: Points
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Measurements:
    """What the snapshots say; made anew when one more has been measured.

    Attributes:
        keys: columns, in the order in which a narrow screen keeps them; the first has the curves.
        headings: of these.
        matrices: a line each, of the last snapshot.
        kinds: a line for the layers of a kind.
        mean: over those that the run averages.
        steps: of the measured snapshots.
        summary: a row each, with what the log says of its step.
        files: which file each of them is of.
    """

    keys: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()
    matrices: tuple[Line, ...] = ()
    kinds: tuple[Line, ...] = ()
    mean: Line | None = None
    steps: tuple[int, ...] = ()
    summary: tuple[Row, ...] = ()
    files: tuple[Identity, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is shown at a time.

    Attributes:
        title: the directory.
        about: what is run, and how it is measured.
        found: what the snapshots say.
        logged: what the log says.
        waiting: what is waited for; empty when there are snapshots.
        newest: when the last snapshot was written, in seconds since the epoch; None without one.
        doing: what is being measured; empty when everything is.
        writing: whether a writer is at work; None where it cannot be told.
        remarks: what is lacking, and what is to be known.
    """

    title: str
    about: str
    found: Measurements = field(default_factory=Measurements)
    logged: tuple[Logged, ...] = ()
    waiting: str = ""
    newest: float | None = None
    doing: str = ""
    writing: bool | None = None
    remarks: tuple[Remark, ...] = ()


def measurements(course: Course, files: Mapping[int, Identity]) -> Measurements:
    """What is shown of what has been measured, and of which files."""
    if not course.rows:
        return Measurements()
    now = list(course.rows.values())[-1]
    first = course.columns[0]
    others = in_reading_order(course.columns, now)
    keys = (
        first,
        *(key for key in others if key != first and split_key(key)[0] not in OTHER_BOUNDS),
    )
    curves = _curves(course.rows, first)
    matrices = tuple(_matrix(row, curves.get(row["name"], ())) for row in now)
    return Measurements(
        keys,
        headings(keys),
        matrices,
        tuple(_kinds(course, now, first, matrices)),
        _mean(course, first),
        tuple(course.rows),
        course.summary,
        tuple(files[step] for step in course.rows),
    )


def logged(log: Mapping[int, Row]) -> tuple[Logged, ...]:
    """The curves of a log: accuracies before losses, of the test data before the training's."""
    steps = sorted(log)
    found = []
    for key in ("test_accuracy", "test_loss", "train_accuracy", "train_loss"):
        points = tuple((step, log[step][key]) for step in steps if log[step].get(key) is not None)
        if points:
            found.append(Logged(LOG_HEADINGS[key], _thinned(points)))
    return tuple(found)


def _thinned(points: Points) -> Points:
    """No more points than any screen has columns: means of neighbours, and the last point itself.

    A log may have a line for each of a million steps, and it is drawn every second.
    """
    size = -(-len(points) // MANY_POINTS)
    if size < 2:
        return points
    parts = [points[start : start + size] for start in range(0, len(points) - 1, size)]
    means = ((part[0][0], sum(value for _, value in part) / len(part)) for part in parts)
    return (*means, points[-1])


def _curves(rows: Mapping[int, Sequence[Row]], key: str) -> dict[str, Points]:
    found: dict[str, list[tuple[int, float]]] = {}
    for step, own in rows.items():
        for row in own:
            if row[key] is not None:
                found.setdefault(row["name"], []).append((step, row[key]))
    return {name: tuple(points) for name, points in found.items()}


def _matrix(row: Row, points: Points) -> Line:
    shape = "x".join(map(str, row["shape"]))
    status = "" if row["status"] == "ok" else row["status"].replace("_", " ")
    return Line(printable(row["name"]), 1, shape, status, row, points, row["step"])


def _kinds(
    course: Course, now: Sequence[Row], key: str, matrices: Sequence[Line]
) -> Iterator[Line]:
    """The matrices of a kind as one line, over the steps too; one that is alone as itself."""
    own_lines = {row["name"]: line for row, line in zip(now, matrices, strict=True)}
    for label, group in by_layer_kind(now).items():
        if len(group) == 1:
            yield own_lines[group[0]["name"]]
            continue
        names = {row["name"] for row in group}
        points = _points(
            (step, _averages([row for row in own if row["name"] in names], [key])[key])
            for step, own in course.rows.items()
        )
        shapes = {"x".join(map(str, row["shape"])) for row in group}
        ok = any(row["status"] == "ok" for row in group)
        status = "" if ok else group[0]["status"].replace("_", " ")
        shape = shapes.pop() if len(shapes) == 1 else ""
        row = _averages(group, course.columns)
        step = group[0]["step"]
        yield Line(printable(label), len(group), shape, status, row, points, step)


def _averages(rows: Sequence[Row], keys: Sequence[str]) -> Row:
    """Means over all of them: which ones a run averages is no matter within a kind."""
    return {**averages([row | {"averaged": None} for row in rows], keys), "notes": {}}


def _mean(course: Course, key: str) -> Line:
    last = course.summary[-1]
    over, of = last["averaged"], last["matrices"]
    label = f"mean of {of}" if over == of else f"mean of {over} of {of}"
    points = _points((row["step"], row[key]) for row in course.summary)
    now = list(course.rows.values())[-1]
    marked = [row["status"] for row in now if row["averaged"] is not False]
    status = "" if "ok" in marked else next(iter(marked), "").replace("_", " ")
    return Line(label, over, "", status, last | {"notes": {}}, points, last["step"])


def _points(pairs: Iterable[tuple[int, float | None]]) -> Points:
    return tuple((step, value) for step, value in pairs if value is not None)
