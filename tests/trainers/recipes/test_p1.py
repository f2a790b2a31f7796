"""P1's figures against a table of what each varies and holds fixed, written from the paper."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import pytest

from trainers.imageargs import Args
from trainers.recipes.p1 import FIGURES
from trainers.recipes.records import Panel, Recipe

BY_NAME = {recipe.name: recipe for recipe in FIGURES}


@dataclass(frozen=True)
class Row:
    """A figure: its network, its panels' fixed values, what varies, with which values at least."""

    arch: str
    vary: tuple[str, ...]
    panels: tuple[dict[str, Any], ...]
    drawing: str = "per_epoch"
    accuracies: bool = False
    among: set[float] = field(default_factory=set)
    exactly: set[float] = field(default_factory=set)


def each(name: str, values: tuple[Any, ...], **fixed: Any) -> tuple[dict[str, Any], ...]:
    return tuple({name: value, **fixed} for value in values)


def pairs(*of: tuple[float, float]) -> tuple[dict[str, Any], ...]:
    return tuple({"mu": mu, "weight_decay": decay} for mu, decay in of)


MU, DECAY, B = ("mu",), ("weight_decay",), ("batch_size",)
TABLE = {
    "P1-F2": Row(
        "resnet18", MU, each("batch_size", (4, 8, 16), weight_decay=5e-4), accuracies=True
    ),
    "P1-F3": Row(
        "resnet18", DECAY, each("batch_size", (8, 16, 32), mu=1.5), accuracies=True, among={0}
    ),
    "P1-F4": Row(
        "resnet18",
        B,
        pairs((1e-3, 6e-3), (5e-3, 6e-3), (1e-2, 4e-4)),
        accuracies=True,
        exactly={4, 8, 16, 32, 64, 128},
    ),
    "P1-F5": Row(
        "mlp-bn-10-100", DECAY, each("batch_size", (32, 64, 128), mu=0.1, momentum=0.9), among={0}
    ),
    "P1-F6": Row(
        "mlp-bn-10-100", DECAY, each("batch_size", (4, 8, 16), mu=0.1), accuracies=True, among={0}
    ),
    "P1-F7": Row(
        "mlp-bn-10-100", B, each("mu", (0.03, 0.1, 0.3), weight_decay=5e-4), accuracies=True
    ),
    "P1-F8": Row("res-bn-5-500", B, each("mu", (0.025, 0.05, 0.1), weight_decay=5e-4)),
    "P1-F9": Row("vit", B, each("mu", (0.004, 0.008, 0.04), weight_decay=5e-4), accuracies=True),
    "P1-F10": Row(
        "vit", DECAY, each("batch_size", (32, 64, 128), mu=0.04), accuracies=True, among={0}
    ),
    "P1-F11": Row("resnet18", B, each("mu", (0.5, 1, 2), weight_decay=5e-4), accuracies=True),
    "P1-F12": Row(
        "vgg16",
        B,
        pairs((1e-3, 6e-3), (5e-3, 5e-4), (1e-2, 4e-4)),
        accuracies=True,
        among={8, 16, 32, 64},
    ),
    "P1-F13": Row(
        "resnet18",
        MU,
        each("data", ("mnist", "fashion-mnist", "svhn"), batch_size=16, weight_decay=5e-4),
        accuracies=True,
    ),
    "P1-F14": Row(
        "resnet18",
        MU,
        ({"batch_size": 8, "weight_decay": 5e-4},),
        "norm_ratio",
        exactly={0.01, 0.1, 0.5, 1},
    ),
    "P1-F15": Row("vgg16", B, pairs((5e-3, 5e-4)), "norm_ratio", exactly={8, 16, 32, 64}),
    "P1-F16": Row("resnet18", B, pairs((5e-3, 6e-3)), "spectra", exactly={4, 8, 16, 32, 64, 128}),
    "P1-F17": Row("vgg16", B, pairs((1e-2, 4e-4)), "spectra"),
    "P1-F18": Row(
        "mlp-bn-2-10000",
        DECAY,
        ({"batch_size": 6, "mu": 0.1},),
        "bound",
        accuracies=True,
        exactly={8e-3},
    ),
}

# Fig. 1: in each panel, the pair that varies and what is fixed.
GRID: tuple[tuple[tuple[str, str], dict[str, Any]], ...] = (
    (("mu", "weight_decay"), {"batch_size": 8}),
    (("mu", "weight_decay"), {"batch_size": 16}),
    (("weight_decay", "batch_size"), {"mu": 0.5}),
    (("mu", "batch_size"), {"weight_decay": 6e-3}),
)


def test_every_figure_of_the_paper_is_there() -> None:
    assert list(BY_NAME) == [f"P1-F{number}" for number in range(1, 19)]


@pytest.mark.parametrize("name", TABLE)
def test_a_figure_is_as_the_paper_says(name: str) -> None:
    row, recipe = TABLE[name], BY_NAME[name]
    assert (recipe.drawing, recipe.accuracies) == (row.drawing, row.accuracies)
    assert len(recipe.panels) == len(row.panels)
    for panel, fixed in zip(recipe.panels, row.panels, strict=True):
        assert panel.vary == row.vary
        values = [getattr(args, row.vary[0]) for args in panel.runs]
        assert len(set(values)) == len(values) > (0 if name == "P1-F18" else 3)
        assert row.among <= set(values)
        assert not row.exactly or row.exactly == set(values)
        check_runs(panel, {"arch": row.arch, "data": "cifar10", "momentum": 0, **fixed})


def test_figure_1_takes_every_pair() -> None:
    recipe = BY_NAME["P1-F1"]
    assert (recipe.drawing, len(recipe.panels)) == ("grid", 4)
    for panel, (vary, fixed) in zip(recipe.panels, GRID, strict=True):
        assert panel.vary == vary
        found = [tuple(getattr(args, name) for name in vary) for args in panel.runs]
        firsts, seconds = ({pair[place] for pair in found} for place in (0, 1))
        assert min(len(firsts), len(seconds)) >= 3
        assert sorted(found) == sorted((a, b) for a in firsts for b in seconds)
        check_runs(panel, {"arch": "resnet18", "data": "cifar10", "momentum": 0, **fixed})


def check_runs(panel: Panel, fixed: dict[str, Any]) -> None:
    """The fixed values, P1's protocol, and no difference but in what varies."""
    protocol: dict[str, Any] = {
        "augment": True,
        "nesterov": False,
        "leaky_relu": False,
        "limit": None,
        "seed": 0,
    }
    protocol["epochs"] = 200 if fixed["arch"] == "vit" else 500
    for args in panel.runs:
        assert args.save == "spectra"
        assert args.every == (None if args.arch == "mlp-bn-2-10000" else 1)
        for name, value in {**protocol, **fixed}.items():
            assert getattr(args, name) == value, name
        check_schedule(args)
    for part in fields(Args):
        values = {getattr(args, part.name) for args in panel.runs}
        assert len(values) == 1 or part.name in (*panel.vary, "out"), part.name


def check_schedule(args: Args) -> None:
    """B.1: by 0.1 at epochs 60, 100 and 200; the ViT by 0.2 at 60 and 100."""
    drops, factor = ((60, 100), 0.2) if args.arch == "vit" else ((60, 100, 200), 0.1)
    for epoch in (0, 59, 60, 99, 100, 199, 200, 499):
        if epoch < args.epochs:
            passed = sum(epoch >= drop for drop in drops)
            assert args.learning_rate(epoch) == pytest.approx(args.mu * factor**passed)


@pytest.mark.parametrize("recipe", FIGURES, ids=lambda recipe: recipe.name)
def test_thresholds_and_sources(recipe: Recipe) -> None:
    assert recipe.source
    if recipe.name == "P1-F18":
        assert min(recipe.eps) < 0.3 < max(recipe.eps)
        assert 0.3 in recipe.eps
    else:
        assert recipe.eps == (1e-3,)


@pytest.mark.parametrize(
    ("name", "of", "panel"),
    [
        ("P1-F14", "P1-F2", 1),
        ("P1-F15", "P1-F12", 1),
        ("P1-F16", "P1-F4", 1),
        ("P1-F17", "P1-F12", 2),
    ],
)
def test_a_figure_that_shows_the_runs_of_another_shares_them(
    name: str, of: str, panel: int
) -> None:
    assert set(BY_NAME[name].runs) <= set(BY_NAME[of].panels[panel].runs)
