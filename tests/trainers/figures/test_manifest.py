"""`runs/P1-F2.json`: what the recipe driver writes is what the figure driver reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rankscope.errors import InputRejected, OutputFailed
from tests.trainers.figures import made
from trainers.recipes.catalogue import RECIPES
from trainers.recipes.manifest import (
    Member,
    manifest_of,
    manifest_path,
    read_manifest,
    write_manifest,
)
from trainers.recipes.records import Recipe


def small() -> Recipe:
    runs = (made.chosen(0.1), made.chosen(0.5))
    return made.recipe("per_epoch", made.line("B = 8", "mu", *runs), accuracies=True)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_comes_back_as_it_was(tmp_path: Path, recipe: Recipe) -> None:
    path = write_manifest(recipe, tmp_path / "runs")
    assert path == manifest_path(recipe.name, tmp_path / "runs")
    assert read_manifest(path) == manifest_of(recipe)


def test_it_says_what_tells_the_runs_apart() -> None:
    found = manifest_of(small())
    (panel,) = found.panels
    assert panel.vary == ("mu",)
    assert panel.runs == (
        Member("mu0.1-B8-wd0.01-s0", {"mu": 0.1}, made.EPOCHS),
        Member("mu0.5-B8-wd0.01-s0", {"mu": 0.5}, made.EPOCHS),
    )


def test_the_document_is_plain_json(tmp_path: Path) -> None:
    document = json.loads(write_manifest(small(), tmp_path).read_text("utf-8"))
    assert document["schema"] == "rankscope/recipe/1"
    assert document["recipe"] == "X-F1"
    assert document["panels"][0]["runs"][1] == {
        "run": "mu0.5-B8-wd0.01-s0",
        "labels": {"mu": 0.5},
        "epochs": made.EPOCHS,
    }


def test_the_latest_holds_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_manifest(small(), tmp_path)
    later = made.recipe("per_epoch", made.line("B = 4", "mu", made.chosen(0.1, 4)))
    path = write_manifest(later, tmp_path)
    assert read_manifest(path) == manifest_of(later)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OutputFailed, match=r"runs.X-F1\.json: not written"):
        write_manifest(small(), tmp_path / "runs")


def damaged(**changes: Any) -> str:
    document = {
        "schema": "rankscope/recipe/1",
        "recipe": "X-F1",
        "title": "what it shows",
        "drawing": "per_epoch",
        "panels": [
            {
                "title": "B = 8",
                "vary": ["mu"],
                "runs": [{"run": "one", "labels": {"mu": 0.1}, "epochs": 4}],
            }
        ],
        "eps": [0.001],
        "accuracies": False,
    }
    for key, value in changes.items():
        if key in document:
            document[key] = value
        else:
            document["panels"][0]["runs"][0][key] = value  # type: ignore[index]
    return json.dumps(document)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "schema is None, expected 'rankscope/recipe/1'"),
        (damaged(schema="rankscope/recipe/2"), "schema is 'rankscope/recipe/2'"),
        (damaged(drawing="pie"), "drawing is 'pie'"),
        (damaged(eps=["much"]), "is no manifest of a recipe"),
        (damaged(eps=0.1), "is no manifest of a recipe"),
        (damaged(panels=None), "is no manifest of a recipe"),
        (damaged(title=1), "1 is no text"),
        (damaged(labels={}), "KeyError"),
        (damaged(labels={"mu": []}), "expected numbers or texts"),
        (damaged(epochs=None), "is no manifest of a recipe"),
        (damaged(run="../elsewhere"), "expected a directory below the runs"),
        (damaged(run="/etc"), "expected a directory below the runs"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "X-F1.json"
    path.write_text(content, "utf-8")
    with pytest.raises(InputRejected) as raised:
        read_manifest(path)
    assert raised.value.path == str(path)
    assert reason in raised.value.reason
    assert len(str(raised.value).splitlines()) == 1


def test_the_undamaged_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "X-F1.json").write_text(damaged(), "utf-8")
    assert read_manifest(tmp_path / "X-F1.json").panels[0].runs == (Member("one", {"mu": 0.1}, 4),)
