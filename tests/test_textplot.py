"""Curves in text: the numbers beside them, their shape, and names that do nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rankscope.scene import Scene
from rankscope.textplot import text_plot
from tests.figures import made
from tests.rundirs import write_run

BLANK = "⠀"  # braille without a dot


def lines(scene: Scene, width: int = 80) -> list[str]:
    return [line.plain for line in text_plot(scene, width)]


def drawn(line: str) -> str:
    """The part of a line that is a curve."""
    return "".join(char for char in line if "⠀" <= char <= "⣿")


def height_at(block: list[str], share: float) -> float:
    """How high a curve is, from 0 to 1, at a share of its width where it has a dot."""
    rows = [drawn(line) for line in block]
    column = min(int(share * len(rows[0])), len(rows[0]) - 1)
    (first,) = [i for i, row in enumerate(rows) if row[column] != BLANK][:1]
    return 1 - first / (len(rows) - 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    arrays = {"steep": made.matrix(20, 20, 10), "flat": np.eye(6) * [1, 1, 1, 1, 1, 0.9]}
    return made.scene(made.saved(tmp_path_factory.mktemp("m") / "m.safetensors", arrays))


class TestModel:
    def test_each_matrix_has_a_curve_its_ends_and_its_rank(self, model: Scene) -> None:
        title, *rest = lines(model)
        assert title == "singular values over ||W||, by index, logarithmic; rank, ε = 0.001"
        flat, steep = rest[:3], rest[3:6]
        assert flat[0].startswith("flat ")
        assert flat[0].endswith("rank 6 of 6")
        assert steep[0].endswith("rank 10 of 20")
        largest, least = made.spectrum(made.matrix(20, 20, 10))[[0, -1]]
        assert float(steep[0].split()[1]) == pytest.approx(largest, rel=0.1)
        assert float(steep[2].split()[0]) > 1e-5 > least  # below that is noise
        assert rest[6].split() == ["1", "20"]

    def test_the_curve_falls_where_the_values_do(self, model: Scene) -> None:
        steep = lines(model)[4:7]
        assert height_at(steep, 0.05) > height_at(steep, 0.45)
        flat = [drawn(line) for line in lines(model)[1:4]]
        width = len(flat[0])
        assert all(line[width * 6 // 19 + 1 :].strip(BLANK) == "" for line in flat)  # 6 of 20

    def test_each_checkpoint_has_its_own_curves(self, tmp_path: Path) -> None:
        one = made.saved(tmp_path / "A.safetensors", {"a.weight": made.matrix(40, 40, 39)})
        two = {"a.weight": made.matrix(40, 40, 3), "b.weight": np.eye(5)}
        found = lines(made.scene(one, made.saved(tmp_path / "B.safetensors", two)))
        told = [line for line in found[1:] if "rank" in line or "safetensors" in line]
        assert [line.split()[0] for line in told] == [
            "A.safetensors",
            "a.weight",
            "B.safetensors",
            "a.weight",
            "b.weight",
        ]
        assert told[1].endswith("rank 39 of 40")
        assert told[3].endswith("rank 3 of 40")

    def test_checkpoints_without_a_place_are_named(self, tmp_path: Path) -> None:
        paths = [made.saved(tmp_path / f"{i}.safetensors", {"w": np.eye(3)}) for i in range(6)]
        found = lines(made.scene(*paths))
        assert found[-1] == "not drawn: 2 of 6 checkpoints, 4.safetensors, 5.safetensors"
        assert sum("rank 3 of 3" in line for line in found) == 4

    def test_what_has_collapsed_is_named(self, tmp_path: Path) -> None:
        arrays = {"one": np.ones((4, 4)), "row": np.ones((1, 4)), "zero": np.zeros((4, 4))}
        path = made.saved(tmp_path / "m.safetensors", arrays)
        found = {line.split()[0]: line for line in lines(made.scene(path))}
        assert found["one"].endswith("rank 1 of 4")
        assert found["row"].endswith("rank 1 of 1")
        assert drawn(found["one"]).strip(BLANK)
        assert found["zero"].endswith("all 0")
        assert not drawn(found["zero"]).strip(BLANK)

    def test_many_matrices_are_the_medians_of_their_kinds(self, tmp_path: Path) -> None:
        scene = made.scene(made.saved(tmp_path / "m.safetensors", made.transformer(6)))
        names = [line.split("  ")[0] for line in lines(scene) if "  rank" in line]
        assert {"query", "value", "MLP down"} <= set(names)
        assert len(names) <= 8
        (value,) = (line for line in lines(scene) if line.startswith("value"))
        ranks = [row["rank"] for row in scene.table.matrices if "v_proj" in row["name"]]
        told = value.split("rank ")[1]
        assert told.endswith(" of 8")
        assert float(told.split()[0]) == pytest.approx(np.mean(ranks), rel=1e-3)
        assert lines(scene)[-1] == "of several matrices the median curve and the mean rank"

    def test_long_spectra_have_a_logarithmic_index(self, tmp_path: Path) -> None:
        path = made.saved(tmp_path / "m.safetensors", {"w": made.matrix(400, 300, 9)})
        title, *rest = lines(made.scene(path))
        assert "both logarithmic" in title
        assert rest[-1].split() == ["1", "300"]


class TestRun:
    def test_the_mean_and_each_matrix(self, tmp_path: Path) -> None:
        scene = made.scene(made.run(tmp_path / "run"))
        title, *rest = lines(scene)
        assert title == "rank, ε = 0.001"
        first, last = (scene.table.summary[i]["rank"] for i in (0, -1))
        assert rest[0].startswith("mean ")
        ends = rest[0].split("  ")[-1].split(" to ")
        assert [float(end) for end in ends] == pytest.approx([first, last], rel=0.01)
        assert height_at(rest[:6], 0) == 1
        assert height_at(rest[:6], 0.99) == 0
        at = {(row["name"], row["step"]): row["rank"] for row in scene.table.matrices}
        for layer, line in enumerate(rest[6:9]):
            name = f"hidden.{layer}.weight"
            assert line.startswith(name)
            assert line.endswith(f"{at[name, 0]} to {at[name, 40]}")
        assert rest[9].split() == ["step", "0", "40"]

    def test_of_many_the_means_and_what_is_infinite_is_told(self, tmp_path: Path) -> None:
        def weights(step: int) -> dict[str, made.Array]:
            name = "model.layers.{}.mlp.up_proj.weight"
            return {name.format(i): np.diag([2.0 + i, 1.0, i >= 3 * step]) for i in range(9)}

        path = write_run(tmp_path / "run", {0: weights(0), 1: weights(1)})
        ranked = lines(made.scene(path))
        (kind,) = (line for line in ranked if line.startswith("MLP up"))
        assert kind.endswith("3 to 2.667")  # the median remains 3
        assert ranked[-1] == "of several matrices the mean"
        for line in lines(made.scene(path, metrics="condition_number")):
            if line.startswith(("mean", "MLP up")):
                assert line.endswith("6 to inf, 1 infinite not drawn")


@pytest.mark.parametrize("width", [80, 200])
def test_lines_fit_the_terminal_and_do_nothing(tmp_path: Path, width: int) -> None:
    arrays = {name: made.matrix(6, 5, 3, i) for i, name in enumerate(made.HOSTILE[:8])}
    found = lines(made.scene(made.saved(tmp_path / "m.safetensors", arrays)), width)
    assert all(len(line) <= width for line in found)
    assert all(line.isprintable() for line in found)
    assert not any("::error" in line for line in found)


def test_several_runs_have_none_and_zeros_words(tmp_path: Path) -> None:
    assert lines(made.scene(made.sweep(tmp_path / "sweep", (2, 4)))) == []
    zero = made.saved(tmp_path / "m.safetensors", {"zero": np.zeros((4, 4))})
    assert [line for line in lines(made.scene(zero)) if line.endswith("all 0")]


def test_it_needs_no_matplotlib(tmp_path: Path) -> None:
    path = made.saved(tmp_path / "m.safetensors", made.transformer(3))
    code = (
        "import sys\n"
        "from rankscope.asking import asked_of, scene_of\n"
        "from rankscope.measure import How\n"
        "from rankscope.textplot import text_plot\n"
        f"scene = scene_of({str(path)!r}, asked=asked_of(how=How(store=False)))\n"
        "assert text_plot(scene, 80)\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
