"""What pictures are made of: the spectra of the snapshots that are drawn, beside the same table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from rankscope import How, Selection, analyze
from rankscope.asking import asked_of, scene_of
from rankscope.comparing import diff_scene
from rankscope.differences.comparison import Asked as AskedOfTwo
from rankscope.errors import UsageError
from rankscope.question import Question
from rankscope.scene import MOST_SNAPSHOTS, Scene
from rankscope.views.sweep import is_sweep
from tests.rundirs import Recipe, write_run

GENERATOR = np.random.default_rng(7)


def scene(*paths: Path) -> Scene:
    return scene_of(*paths, asked=asked_of(how=How(store=False)))


def matrices(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {f"layers.{i}.weight": generator.standard_normal((5, 4)) for i in range(count)}


def singular_values(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.svd(matrix, compute_uv=False)


class TestModel:
    def test_every_matrix_in_the_order_of_the_table(self, tmp_path: Path) -> None:
        weights = matrices(12)
        safetensors.numpy.save_file(weights, tmp_path / "m.safetensors")
        found = scene(tmp_path / "m.safetensors")
        assert found.kind == "model"
        names = [row["name"] for row in found.table.matrices]
        assert [curve.name for curve in found.curves] == names
        assert len(names) == 12
        for curve in found.curves:
            np.testing.assert_allclose(
                curve.spectrum.sigma, singular_values(weights[curve.name]), rtol=1e-6
            )
            assert (curve.source, curve.step) == (str(tmp_path / "m.safetensors"), None)

    def test_the_table_is_that_of_analyze(self, tmp_path: Path) -> None:
        safetensors.numpy.save_file(matrices(3), tmp_path / "m.safetensors")
        path = tmp_path / "m.safetensors"
        assert scene(path).table.matrices == analyze(path, how=How(store=False)).matrices

    def test_what_has_no_spectrum_has_no_curve(self, tmp_path: Path) -> None:
        weights = matrices(2)
        weights["layers.0.weight"][0, 0] = np.nan
        safetensors.numpy.save_file(weights, tmp_path / "m.safetensors")
        found = scene(tmp_path / "m.safetensors")
        assert [curve.name for curve in found.curves] == ["layers.1.weight"]
        assert len(found.table.matrices) == 2

    def test_several_files_are_each_drawn(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            safetensors.numpy.save_file(matrices(2), tmp_path / f"{name}.safetensors")
        found = scene(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
        assert found.kind == "model"
        assert len(found.curves) == 4


class TestRun:
    @pytest.mark.parametrize("count", [2, MOST_SNAPSHOTS, MOST_SNAPSHOTS + 1, 30])
    def test_first_last_and_some_between(self, tmp_path: Path, count: int) -> None:
        snapshots = {10 * step: matrices(2, step) for step in range(count)}
        write_run(tmp_path, snapshots, Recipe())
        found = scene(tmp_path)
        assert found.kind == "run"
        steps = list(dict.fromkeys(int(curve.step or 0) for curve in found.curves))
        assert len(steps) == min(count, MOST_SNAPSHOTS)
        assert steps == sorted(steps)
        assert (steps[0], steps[-1]) == (0, 10 * (count - 1))
        for curve in found.curves:
            weights = snapshots[curve.step or 0][curve.name]
            np.testing.assert_allclose(curve.spectrum.sigma, singular_values(weights), rtol=1e-6)

    def test_a_single_snapshot_is_a_model(self, tmp_path: Path) -> None:
        write_run(tmp_path, {5: matrices(2)}, Recipe())
        assert scene(tmp_path).kind == "model"


class TestSweep:
    def test_the_last_snapshot_of_each_run(self, tmp_path: Path) -> None:
        for batch in (2, 4):
            snapshots = {step: matrices(1, step + batch) for step in range(3)}
            write_run(tmp_path / f"B-{batch}", snapshots, Recipe(batch=batch))
        found = scene(tmp_path)
        assert found.kind == "sweep"
        drawn = [(Path(curve.source).name, curve.step) for curve in found.curves]
        assert drawn == [("B-2", 2), ("B-4", 2)]

    def test_a_checkpoint_beside_runs_makes_no_sweep(self, tmp_path: Path) -> None:
        """As the tables have it, which then show every source by itself."""
        for batch in (2, 4):
            snapshots = {step: matrices(1, step + batch) for step in range(3)}
            write_run(tmp_path / f"B-{batch}", snapshots, Recipe(batch=batch))
        runs = [tmp_path / "B-2", tmp_path / "B-4"]
        safetensors.numpy.save_file(matrices(1), tmp_path / "other.safetensors")
        assert is_sweep(scene(*runs).table)
        found = scene(*runs, tmp_path / "other.safetensors")
        assert found.kind == "model"
        assert not is_sweep(found.table)
        drawn = [(Path(curve.source).name, curve.step) for curve in found.curves]
        assert drawn == [("B-2", 2), ("B-4", 2), ("other.safetensors", None)]


class TestDiff:
    def test_spectra_of_both_and_of_what_moved(self, tmp_path: Path) -> None:
        before = matrices(12)
        after = {name: matrix.copy() for name, matrix in before.items()}
        after["layers.1.weight"] += np.outer(GENERATOR.standard_normal(5), [1.0, 0.0, 0.0, 2.0])
        for name, weights in (("a", before), ("b", after)):
            safetensors.numpy.save_file(weights, tmp_path / f"{name}.safetensors")
        found = diff_scene(
            tmp_path / "a.safetensors",
            tmp_path / "b.safetensors",
            AskedOfTwo(Question(), Selection(), delta=True),
            How(store=False),
        )
        assert [curve.name for curve in found.before] == list(before)  # layers.10 after layers.9
        assert [curve.name for curve in found.after] == list(before)
        for curves, weights in ((found.before, before), (found.after, after)):
            for curve in curves:
                want = singular_values(weights[curve.name])
                np.testing.assert_allclose(curve.spectrum.sigma, want, rtol=1e-6)
        (moved,) = found.moved
        assert moved.name == "layers.1.weight"
        change = after[moved.name] - before[moved.name]
        np.testing.assert_allclose(moved.spectrum.sigma[0], singular_values(change)[0], rtol=1e-6)
        rows = {row["name"]: row for row in found.difference.matrices}
        assert rows[moved.name]["delta_rank"] == 1

    def test_without_delta_nothing_has_moved(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            weights = matrices(1, seed=ord(name))
            safetensors.numpy.save_file(weights, tmp_path / f"{name}.safetensors")
        asked = AskedOfTwo(Question(), Selection(), delta=False)
        paths = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
        assert diff_scene(*paths, asked, How(store=False)).moved == ()


def test_an_average_that_is_none() -> None:
    with pytest.raises(UsageError, match="average is 'some', expected marked or all"):
        asked_of(average="some")  # type: ignore[arg-type]
