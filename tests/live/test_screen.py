"""What a person sees, at the sizes that terminals have."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from rankscope.identities import Identity
from rankscope.live.course import Course
from rankscope.live.picture import Logged, Picture, logged, measurements
from rankscope.live.screen import Screen, drawn
from rankscope.rows import Row, averages
from rankscope.trajectory import Theory
from rankscope.views.report import Remark

COLUMNS = ("rank", "effective_rank", "norm_ratio", "bound_closed", "bound_exact", "vacuous")
SMALL = ("hidden.0.weight", "hidden.1.weight", "output.weight")
LAYERS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
LARGE = tuple(f"model.layers.{i}.{name}.weight" for i in range(32) for name in LAYERS)
STEPS = range(0, 5001, 500)
SIZES = [(80, 24), (120, 40), (100, 30), (200, 60), (80, 12), (50, 20)]


def falling(index: int, step: int) -> float:
    return 128 - index - step // 50


def picture(
    names: Sequence[str],
    rank: Callable[[int, int], float | None] = falling,
    steps: Sequence[int] = STEPS,
) -> Picture:
    rows: dict[int, list[Row]] = {}
    for step in steps:
        rows[step] = [
            {
                "name": name,
                "step": step,
                "shape": [128, 64],
                "kind": "linear",
                "averaged": name != "output.weight",
                "status": "ok",
                "rank": rank(index, step),
                "effective_rank": 30.25,
                "norm_ratio": 1.0,
                "bound_closed": 1e6,
                "bound_exact": 1e5 if index else 20.0,
                "vacuous": index > 0,
                "notes": {},
            }
            for index, name in enumerate(names)
        ]
    summary = tuple({"step": s, "missing": 0, **averages(own, COLUMNS)} for s, own in rows.items())
    found = Course(COLUMNS, rows, summary, Theory(None, (0.001,), "frobenius"))
    files = {step: Identity(f"step-{step}", 1, step, 1) for step in steps}
    return Picture("runs/digits", "MLP; eps 0.001", measurements(found, files), newest=1000.0)


def with_log(one: Picture) -> Picture:
    log = {
        step: {"train_loss": math.exp(-step / 900), "test_accuracy": 1 - math.exp(-step / 500)}
        for step in range(0, 5100, 20)
    }
    return replace(one, logged=logged(log))


def lines(one: Picture, width: int, height: int, *, blocks: bool = True) -> list[str]:
    """What is drawn, line by line, nothing cut."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(drawn(one, Screen(width, height, blocks), 1012.0))
    return capture.get().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("names", [SMALL, LARGE, tuple(f"w{i}x" for i in range(70))])
def test_it_fits(width: int, height: int, names: tuple[str, ...]) -> None:
    remarks = tuple(Remark(f"step {i}: {'reason ' * 30}", lacking=True) for i in range(9))
    for one in (picture(names), with_log(picture(names))):
        for shown in (one, replace(one, remarks=remarks, doing="measuring step 5500: 3 of 4")):
            found = lines(shown, width, height)
            assert max(map(len, found)) <= width
            if height >= 24:
                assert len(found) <= height
            assert any(line.startswith("matrix") for line in found)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_what_is_asked_for_first_is_there(width: int, height: int) -> None:
    found = lines(with_log(picture(SMALL)), width, height)
    assert found[0].startswith("runs/digits")
    assert found[2] == "step 5000, 11 snapshots, last 12 s ago"
    (row,) = (line for line in found if line.startswith("hidden.1.weight"))
    words = row.split()
    assert "27" in words  # the rank now
    assert "-100" in words  # since the first
    assert "100000" in words  # the bound
    assert "30.25" in words  # the effective rank
    assert "1.000" in words  # the norm ratio
    (mean,) = (line for line in found if line.startswith("mean of 2 of 3"))
    assert "27.50" in mean.split()
    assert any(line.startswith("rank ") for line in found)  # its curve: what one watches for
    assert any(line.startswith("test acc.") for line in found)
    assert any("step 0" in line and line.rstrip().endswith("5080") for line in found)


def test_every_matrix_has_its_course() -> None:
    def rank(index: int, step: int) -> float:
        return (step, 5000 - step, 7)[index]

    found = lines(picture(SMALL, rank), 80, 24)
    rising, sinking, level = (
        next(line for line in found if line.startswith(name)) for name in SMALL
    )
    courses = ["".join(c for c in line if "▁" <= c <= "█") for line in (rising, sinking, level)]
    assert len(courses[0]) >= 10
    assert list(courses[0]) == sorted(courses[0])
    assert list(courses[1]) == sorted(courses[1], reverse=True)
    assert set(courses[2]) == {"█"}


def test_many_matrices_are_summed_up_by_kind() -> None:
    found = lines(picture(LARGE), 100, 24)
    (row,) = (line for line in found if line.startswith("query projections, layers 0-31"))
    assert " 32 " in row
    assert "mean of 160" in found[-2] or any(line.startswith("mean of 160") for line in found)
    # Where there is room, each is shown.
    assert sum(line.startswith("model.layers.") for line in lines(picture(LARGE), 100, 200)) == 160


def test_more_kinds_than_lines_are_counted() -> None:
    names = tuple(f"{chr(97 + i % 26)}{chr(97 + i // 26)}.weight" for i in range(70))
    found = lines(picture(names), 80, 24)
    shown = sum(line[3:].startswith(("weight", ".weight")) or ".weight" in line for line in found)
    (more,) = (line for line in found if "a higher window shows them" in line)
    assert int(more.split()[0]) + shown == 70


def test_columns_that_do_not_fit_are_named() -> None:
    found = lines(picture(SMALL), 60, 24)
    (note,) = (line for line in found if line.startswith("a wider window shows"))
    assert note.endswith("eff. rank")
    assert not any("30.25" in line for line in found)


def test_without_a_second_snapshot_there_is_no_change() -> None:
    found = lines(picture(SMALL, steps=[7]), 80, 24)
    (row,) = (line for line in found if line.startswith("hidden.0.weight"))
    assert "128" in row.split()
    assert not any(word.startswith(("+", "-")) for word in row.split())
    assert found[2].startswith("step 7, 1 snapshot, ")


def test_a_last_snapshot_without_values_shows_none_of_before() -> None:
    """Nor a change to what they were then."""
    shown = picture(SMALL, lambda index, step: None if step == 5000 else falling(index, step))
    assert [one.change for one in shown.found.matrices] == [None] * 3
    assert shown.found.mean is not None
    assert shown.found.mean.change is None
    text = lines(shown, 120, 40)
    (curve,) = (line for line in text if line.startswith("rank  "))
    assert curve.split()[-1] == "-"
    again = picture(SMALL)
    (curve,) = (line for line in lines(again, 120, 40) if line.startswith("rank  "))
    assert curve.split()[-1] == "27.50"


def test_a_matrix_without_values_says_why() -> None:
    one = picture(SMALL)
    bad = replace(one.found.matrices[0], status="nonfinite")
    found = replace(one.found, matrices=(bad, *one.found.matrices[1:]))
    (row,) = (
        line
        for line in lines(replace(one, found=found), 80, 24)
        if line.startswith("hidden.0.weight")
    )
    assert "nonfinite" in row


@pytest.mark.parametrize(
    ("writing", "words"), [(True, "writer at work"), (False, "no writer seen"), (None, "digits")]
)
def test_the_writer(writing: bool | None, words: str) -> None:
    assert lines(replace(picture(SMALL), writing=writing), 80, 24)[0].rstrip().endswith(words)


def test_what_is_waited_for_is_not_cut() -> None:
    waiting = f"waiting for the first snapshot: there is no {'/very/long' * 30} yet"
    found = lines(Picture("run", "", waiting=waiting), 80, 24)
    assert "".join(found[1:]).replace(" ", "") == waiting.replace(" ", "")


def test_remarks_leave_room_for_the_table() -> None:
    remarks = tuple(Remark(f"step {i} is damaged", lacking=True) for i in range(100))
    found = lines(replace(picture(SMALL), remarks=remarks), 80, 24)
    assert "step 0 is damaged" in found
    assert found[-1] == "96 more remarks"
    assert any(line.startswith("output.weight") for line in found)


HOSTILE = "\x1b[31ma\x1b]8;;http://x\x07\u202eb\nc[/red][bold]::error::##[group]"


def test_hostile_names_do_not_act() -> None:
    one = replace(
        picture((HOSTILE, "b.weight")),
        title=HOSTILE,
        about=HOSTILE,
        doing=HOSTILE,
        remarks=(Remark(HOSTILE, lacking=True),),
    )
    for shown in (one, Picture(HOSTILE, HOSTILE, waiting=HOSTILE)):
        text = "\n".join(lines(shown, 300, 24))
        for char in "\x1b\x07\u202e":
            assert char not in text
        assert "::error" not in text
        assert "##[" not in text
        assert "[/red][bold]" in text  # shown as it is written
    assert any(line.startswith("b.weight") for line in lines(one, 300, 24))


def test_without_blocks_everything_is_ascii() -> None:
    """But for what rich draws, which it knows to replace."""
    found = lines(with_log(picture(SMALL)), 120, 40, blocks=False)
    assert all(line.isascii() for line in found if not line.startswith("─"))


def test_a_long_log_is_thinned() -> None:
    log = {step: {"train_loss": float(step)} for step in range(100_003)}
    (one,) = logged(log)
    assert len(one.points) <= 1001
    assert one.points[-1] == (100_002, 100_002.0)
    assert one.points[0][0] == 0
    assert all(abs(value - step) <= 101 for step, value in one.points)
    assert logged({1: {"train_loss": None}, 2: {"epoch": 3.0}}) == ()


def test_a_log_without_a_snapshot_is_drawn() -> None:
    one = Picture("run", "", waiting="waiting", logged=(Logged("test loss", ((0, 2.0), (9, 1.0))),))
    found = lines(one, 80, 24)
    assert any(line.startswith("test loss") for line in found)
