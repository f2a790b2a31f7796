"""The document of a page, before it is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankscope import How
from rankscope.asking import asked_of, scene_of
from rankscope.pages import payload
from rankscope.pages.payload import command, document, lighter, shown
from rankscope.pages.sections import SECTIONS
from rankscope.scene import MOST_SNAPSHOTS, Scene
from tests.pages.models import HOSTILE, saved
from tests.rundirs import Recipe, write_run

RNG = np.random.default_rng(3)


def scene(*paths: Path) -> Scene:
    return scene_of(*paths, asked=asked_of(how=How(store=False, workers=1)))


@pytest.fixture
def run(tmp_path: Path) -> Scene:
    snapshots = {step: {"w": RNG.standard_normal((6, 5))} for step in range(12)}
    return scene(write_run(tmp_path / "run", snapshots, Recipe()))


def strings(value: Any) -> list[str]:
    """Every string of a JSON value, keys too."""
    if isinstance(value, dict):
        return [one for pair in value.items() for part in pair for one in strings(part)]
    if isinstance(value, list | tuple):
        return [one for part in value for one in strings(part)]
    return [value] if isinstance(value, str) else []


def test_every_string_is_printable(tmp_path: Path) -> None:
    tensors = {name: RNG.standard_normal((3, 2)) for name in HOSTILE}
    tensors |= {f"{name}.bias": np.ones(2) for name in HOSTILE}
    found = document(scene(saved(tmp_path / "m\u202e.safetensors", tensors)), SECTIONS)
    texts = strings(found)
    assert len(texts) > 100
    assert all(text.isprintable() for text in texts)
    assert shown({"a\n": ["b\x1b", ("c\u202e",)]}) == {"a\\n": ["b\\x1b", ["c\\u202e"]]}


def test_of_a_small_run_all_that_is_drawn_is_kept(run: Scene) -> None:
    assert len(run.curves) == MOST_SNAPSHOTS
    assert lighter(run) is run


@pytest.mark.parametrize(("room", "steps"), [(100, 8), (20, 4), (15, 3), (1, 2)])
def test_of_a_large_run_fewer_snapshots(
    run: Scene, monkeypatch: pytest.MonkeyPatch, room: int, steps: int
) -> None:
    monkeypatch.setattr(payload, "MOST_VALUES", room)
    kept = [one.step for one in lighter(run).curves]
    assert len(kept) == steps
    assert (kept[0], kept[-1]) == (0, 11)
    found = document(run, SECTIONS)
    assert [one["step"] for one in found["spectra"]["curves"]["curves"]] == kept
    # A matrix's place among the spectra is its place among those that were kept.
    (row,) = found["parts"]["model"]["rows"]
    assert row["curve"] == steps - 1


def test_other_pages_keep_theirs(run: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MOST_VALUES", 1)
    summary = tuple(row for row in run.table.summary if row["step"] == 0)
    single = replace(run, table=replace(run.table, summary=summary))
    assert single.kind == "model"
    assert lighter(single) is single


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["/usr/bin/rankscope", "report", "a b"], "rankscope report 'a b'"),
        (["x.py", "$(rm -rf)"], "x.py '$(rm -rf)'"),
        ([], ""),
    ],
)
def test_the_command_can_be_typed_again(arguments: list[str], text: str) -> None:
    assert command(arguments) == text
