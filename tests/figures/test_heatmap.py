"""Cells have the values of the table, over the full rank."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from rankscope.errors import UsageError
from rankscope.figures import draw
from rankscope.palette import VIRIDIS, contrast
from tests.figures import made


def heatmap(*paths: Path, width: float = 7.0, **asked: Any) -> Figure:
    return draw(made.scene(*paths, **asked), "heatmap", width=width)


def cells(axes: Axes) -> dict[tuple[str, str], float]:
    """By kind and layer the values, where there are any."""
    (mesh,) = (one for one in axes.collections if isinstance(one, QuadMesh))
    array: Any = mesh.get_array()
    values = np.ma.masked_invalid(array).filled(np.nan)
    kinds = [label.get_text() for label in axes.get_yticklabels()]
    depths = [label.get_text() for label in axes.get_xticklabels()] or ["-"]
    return {
        (kind, depth): float(values[up, across])
        for up, kind in enumerate(kinds)
        for across, depth in enumerate(depths)
        if not math.isnan(values[up, across])
    }


def share(array: made.Array, eps: float = 1e-3) -> float:
    return float((made.spectrum(array) > eps).mean())


@pytest.fixture(scope="module")
def arrays() -> dict[str, made.Array]:
    found = made.transformer(4, experts=3)
    del found["model.layers.2.self_attn.v_proj.weight"]
    found["model.layers.1.mlp.up_proj.weight"][0, 0] = np.nan
    return found


@pytest.fixture(scope="module")
def path(arrays: dict[str, made.Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.saved(tmp_path_factory.mktemp("model") / "m.safetensors", arrays)


def test_a_row_is_a_kind_and_a_column_a_layer(path: Path, arrays: dict[str, made.Array]) -> None:
    figure = heatmap(path)
    found = cells(figure.axes[0])
    for layer in range(4):
        for kind, part in {"query": "self_attn.q_proj", "MLP down": "mlp.down_proj"}.items():
            array = arrays[f"model.layers.{layer}.{part}.weight"]
            assert found[kind, str(layer)] == pytest.approx(share(array))
        experts = [a for n, a in arrays.items() if f"layers.{layer}." in n and "experts" in n]
        assert len(experts) == 3
        mean = np.mean([share(array) for array in experts])
        assert found["expert gate", str(layer)] == pytest.approx(mean)
    assert found["lm_head.weight", "-"] == 1
    assert figure.axes[-1].get_xlabel().startswith("rank / min(rows, columns), ε = 0.001")


def test_missing_has_no_cell_and_not_measured_is_crossed_out(path: Path) -> None:
    figure = heatmap(path)
    axes = figure.axes[0]
    found = cells(axes)
    kinds = [label.get_text() for label in axes.get_yticklabels()]
    depths = [label.get_text() for label in axes.get_xticklabels()]
    assert ("value", "2") not in found
    assert ("MLP up", "1") not in found
    (cross,) = axes.get_lines()
    (x,), (y,) = made.x_of(cross), made.y_of(cross)
    assert (kinds[int(y)], depths[int(x)]) == ("MLP up", "1")
    assert "crossed out: not measured" in figure.axes[-1].get_xlabel().replace("\n", " ")


def test_what_has_no_number_says_why(tmp_path: Path) -> None:
    name = "model.layers.{}.block_sparse_moe.experts.{}.w1.weight"
    arrays = {
        name.format(layer, expert): np.diag([4.0, 2.0, 0.0 if (layer, expert) == (1, 0) else 1.0])
        for layer in range(16)
        for expert in range(2)
    }
    arrays |= {f"model.layers.{i}.mlp.up_proj.weight": np.eye(3) * i for i in range(2)}
    for width in (7.0, 3.0):
        path = made.saved(tmp_path / "m.safetensors", arrays)
        figure = heatmap(path, width=width, metrics="condition_number")
        axes = figure.axes[0]
        kinds = [label.get_text() for label in axes.get_yticklabels()]
        told = {
            (kinds[int(text.get_position()[1])], int(text.get_position()[0])): text.get_text()
            for text in axes.texts
        }
        lacking = {(kinds[0], 1): "inf", (kinds[1], 0): "n/a"}
        assert kinds[0].startswith("expert")
        assert lacking.items() <= told.items()
        assert (kinds[1], 2) not in told  # there is no matrix
        assert len(axes.patches) == 2
        words = figure.axes[-1].get_xlabel().replace("\n", " ")
        assert "(inf: infinite, n/a: undefined)" in words
        assert len(told) == (18 if width == 7 else 2)


def test_numbers_are_the_values_and_can_be_read(path: Path) -> None:
    axes = heatmap(path, width=10).axes[0]
    values = list(cells(axes).values())
    texts = [text for text in axes.texts if text.get_text()]
    assert sorted(float(text.get_text()) for text in texts) == sorted(round(v, 2) for v in values)
    for text in texts:
        value = float(text.get_text())
        ground = VIRIDIS[min(int(value * 256), 255)]
        assert contrast(to_hex(text.get_color()), ground) >= 4.5


def test_a_narrow_map_has_no_numbers_and_fewer_layers_named(tmp_path: Path) -> None:
    path = made.saved(tmp_path / "m.safetensors", made.transformer(30, size=6))
    axes = heatmap(path, width=3.3).axes[0]
    assert not axes.texts
    assert len(axes.get_xticklabels()) < 16


def test_each_threshold_and_checkpoint_has_a_map(tmp_path: Path) -> None:
    one, two = made.transformer(2), made.transformer(3)
    figure = heatmap(
        made.saved(tmp_path / "one.safetensors", one),
        made.saved(tmp_path / "two.safetensors", two),
        eps=(0.1, 0.001),
    )
    axes = made.titled(figure)
    for name, arrays in {"one": one, "two": two}.items():
        for eps in (0.1, 0.001):
            found = cells(axes[f"{name}.safetensors, ε = {eps:g}"])
            array = arrays["model.layers.1.self_attn.k_proj.weight"]
            assert found["key", "1"] == pytest.approx(share(array, eps))


def test_a_metric_that_is_no_count_has_its_own_scale(tmp_path: Path) -> None:
    arrays = {f"a.{i}.w": (1 + i) * made.matrix(6, 6, 4, i) for i in range(3)}
    figure = heatmap(made.saved(tmp_path / "m.safetensors", arrays), metrics="spectral_norm")
    found = cells(figure.axes[0])
    norms = [np.linalg.norm(array, 2) for array in arrays.values()]
    assert list(found.values()) == pytest.approx(norms)
    assert figure.axes[-1].get_xlim() == pytest.approx((min(norms), max(norms)))
    assert figure.axes[-1].get_xlabel() == "spectral norm"


def test_a_run_is_shown_at_its_end(tmp_path: Path) -> None:
    found = cells(heatmap(made.run(tmp_path / "run")).axes[0])
    arrays = made.weights(3, 40)
    assert found == {
        ("hidden.*.weight", str(i)): share(arrays[f"hidden.{i}.weight"]) for i in range(3)
    }


def test_more_runs_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    made.sweep(tmp_path / "sweep", (2, 4, 8, 16))
    with pytest.raises(UsageError, match="room for 6 checkpoints or runs, and 8 were given"):
        heatmap(tmp_path / "sweep")
