"""Every kind of figure, of small and of large inputs, can be read as wide as a page or a column."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from rankscope.figures import KINDS, PAGE, draw, styled
from rankscope.scene import Scene
from tests.figures import made
from tests.figures.legible import faults

COLUMN = 3.3

MODELS = ("small", "large", "hostile", "edge")

DRAWN = [
    *((name, kind) for name in MODELS for kind in ("spectrum", "rank", "heatmap")),
    *(("run", kind.name) for kind in KINDS),
    *(("sweep", kind.name) for kind in KINDS if kind.name != "heatmap"),
    ("grid", "rank"),
    ("grid", "spectrum"),
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    root = tmp_path_factory.mktemp("inputs")
    small = {"a.weight": made.matrix(9, 7, 4), "b.weight": made.matrix(12, 12, 5)}
    hostile = {name: made.matrix(6, 5, 3, i) for i, name in enumerate(made.HOSTILE)}
    edge = {"one": np.ones((1, 1)), "zero": np.zeros((3, 4)), "row": np.ones((1, 9))}
    large = made.transformer(43, size=12)
    assert len(large) > 300
    return {
        "small": made.scene(made.saved(root / "small.safetensors", small)),
        "large": made.scene(made.saved(root / "large.safetensors", large), eps=(0.1, 1e-3)),
        "hostile": made.scene(made.saved(root / "hostile.safetensors", hostile)),
        "edge": made.scene(made.saved(root / "edge.safetensors", edge)),
        "run": made.scene(made.run(root / "run", 4), eps=(0.1, 1e-2, 1e-3, 1e-4)),
        "grid": made.scene(grid(root / "grid"), eps=(0.1, 1e-2, 1e-3, 1e-4)),
        "sweep": made.scene(made.sweep(root / "sweep", (2, 4, 8, 16))),
    }


def grid(path: Path) -> Path:
    """Runs that differ in three hyperparameters."""
    for batch, mu, decay in product((2, 8), (0.1, 0.2), (0.1, 0.5)):
        name = f"{batch}-{mu}-{decay}"
        made.run(path / name, 2, 2, 9 * mu, batch=batch, lr=mu, weight_decay=decay)
    return path


@pytest.mark.parametrize(("name", "kind"), DRAWN)
def test_nothing_sticks_out_or_lies_on_another(
    scenes: dict[str, Scene], name: str, kind: str
) -> None:
    for width in (COLUMN, PAGE):
        figure = draw(scenes[name], kind, width=width)
        assert faults(figure) == []
        assert figure.get_figwidth() == width


class TestTheCheckItself:
    """On figures made wrong on purpose."""

    def blank(self) -> Figure:
        with styled():
            return Figure(figsize=(3, 2))

    def test_sees_what_sticks_out(self) -> None:
        figure = self.blank()
        figure.add_axes((0.2, 0.3, 0.6, 0.5)).set_xlabel("words " * 20)
        assert any("sticks out" in fault for fault in faults(figure))

    def test_sees_axes_on_axes_and_a_legend_on_axes(self) -> None:
        figure = self.blank()
        (line,) = figure.add_axes((0.2, 0.2, 0.5, 0.5)).plot([1, 2])
        figure.add_axes((0.4, 0.4, 0.5, 0.4))
        figure.legend([line], ["line"], loc="center")
        found = faults(figure)
        assert any("axes 0" in fault and "axes 1" in fault for fault in found)
        assert any("legend 0" in fault for fault in found)

    def test_sees_a_title_on_axes(self) -> None:
        figure = self.blank()
        figure.add_axes((0.2, 0.2, 0.7, 0.75))
        figure.suptitle("title", y=0.9)
        assert any("title" in fault for fault in faults(figure))

    def test_sees_crowded_numbers(self) -> None:
        figure = self.blank()
        axes = figure.add_axes((0.2, 0.3, 0.6, 0.5))
        axes.set_xticks(range(30), [str(1000 + i) for i in range(30)])
        assert any("crowded numbers on the x axis" in fault for fault in faults(figure))
