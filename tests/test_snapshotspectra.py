"""Runs that keep spectra: what is read from them, beside the same run that keeps its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import torch
from typer.testing import CliRunner

import rankscope
from rankscope.checkpoints.spectrumfile import SCHEMA
from rankscope.cli.app import app
from rankscope.errors import InputRejected, UsageError
from rankscope.measure import How
from rankscope.snapshots import Contents, LogRecord, RunRecord, SnapshotWriter

METRICS = ["rank", "numerical_rank", "effective_rank", "frobenius_norm", "condition_number"]


def model(step: int) -> dict[str, Any]:
    """Tensors of every kind, in some order, of several types."""
    rng = np.random.default_rng(step)
    low_rank = rng.standard_normal((40, 5)) @ rng.standard_normal((5, 30))
    return {
        "z.conv.weight": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "fc.weight": torch.randn((10, 64), generator=torch.Generator().manual_seed(step)),
        "fc.bias": np.ones(10, np.float32),
        "low.weight": low_rank.astype(np.float32),
        "half.weight": low_rank.astype(ml_dtypes.bfloat16),
        "moe.experts.w": rng.standard_normal((3, 20, 24)),
        "pos_embed": rng.standard_normal((1, 5, 32)).astype(np.float16),
        "steps": np.array(step),
        "codes.weight": np.ones((4, 4), np.int8),
        "bad.weight": np.array([[1.0, np.nan], [0.0, 1.0]]),
        "none.weight": np.zeros((0, 4)),
        "zero.weight": np.zeros((4, 6), np.float32),
    }


def write(directory: Path, contents: Contents, steps: Sequence[int] = (0, 7)) -> Path:
    with SnapshotWriter(directory, RunRecord(model="some"), contents=contents) as writer:
        for step in steps:
            writer.save(step, model(step), LogRecord(epoch=step, lr=0.1, weight_decay=1e-3))
    return directory


def comparable(table: rankscope.Analysis) -> Any:
    """Everything that does not depend on where the run lies, or on the route."""
    parts = {"matrices": table.matrices, "skipped": table.skipped, "summary": table.summary}
    rows = json.loads(json.dumps(parts, default=list))
    for row in (row for part in rows.values() for row in part):
        for key in ("source", "route", "content", "path"):
            row.pop(key, None)
    return rows


def assert_alike(found: Any, expected: Any, where: str = "") -> None:
    """The same keys and values; numbers to 1e-9, which is what both spectra resolve."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_alike(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_alike(one, other, f"{where}[{index}]")
    elif isinstance(expected, float) and isinstance(found, float):
        assert found == pytest.approx(expected, rel=1e-9), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("contents", ["spectra", "both"])
def test_an_analysis_is_that_of_the_weights(tmp_path: Path, contents: Contents) -> None:
    weights = rankscope.analyze(write(tmp_path / "weights", "weights"), metrics=METRICS)
    kept = rankscope.analyze(write(tmp_path / "kept", contents), metrics=METRICS)
    assert len(weights.matrices) == 2 * 11
    assert {row["status"] for row in weights.matrices} == {"ok", "nonfinite", "empty"}
    assert_alike(comparable(kept), comparable(weights))


def test_the_file_is_anybodys_safetensors(tmp_path: Path) -> None:
    path = write(tmp_path, "spectra") / "snapshots" / "step-00000007.spectra.safetensors"
    with safetensors.safe_open(path, "numpy") as file:
        sigma = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        assert list(file.metadata()) == [SCHEMA]
    tensors = model(7)
    expected = np.linalg.svd(tensors["moe.experts.w"], compute_uv=False)
    np.testing.assert_allclose(sigma["moe.experts.w"], expected, rtol=1e-10)
    expected = np.linalg.svd(tensors["z.conv.weight"].reshape(8, 27), compute_uv=False)
    np.testing.assert_allclose(sigma["z.conv.weight"], expected, rtol=1e-6)
    assert "fc.bias" not in sigma
    assert not (path.parent / "step-00000007.safetensors").exists()


def test_every_threshold_is_resolved(tmp_path: Path) -> None:
    write(tmp_path, "spectra")
    rows = rankscope.analyze(tmp_path, metrics=["rank", "numerical_rank"], eps=1e-12).matrices
    by_name = {row["name"]: row for row in rows if row["step"] == 7}
    assert by_name["low.weight"]["numerical_rank"] == 5
    assert by_name["half.weight"]["numerical_rank"] == 5
    assert not any("rank_note" in row and "exact" in str(row["rank_note"]) for row in rows)


def test_of_both_nothing_is_decomposed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "both")

    def poison(*_: object) -> None:
        raise AssertionError("decomposed")

    monkeypatch.setattr("rankscope.worker.solve", poison)
    rows = rankscope.analyze(tmp_path, metrics=METRICS, how=How(workers=1)).matrices
    assert sum(row["status"] == "ok" for row in rows) == 2 * 9


def test_the_second_analysis_of_spectra_reads_the_store(tmp_path: Path) -> None:
    write(tmp_path, "spectra")
    first = rankscope.analyze(tmp_path, metrics=METRICS)
    again = rankscope.analyze(tmp_path, metrics=METRICS)
    assert first.matrices == again.matrices
    assert (tmp_path / "spectra" / "spectra.sqlite3").stat().st_size > 0


def test_a_run_that_keeps_spectra_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "spectra")
    with SnapshotWriter(tmp_path, contents="spectra") as writer:
        assert writer.saved(7)
        with pytest.raises(UsageError, match="step 7 is saved already"):
            writer.save(7, model(7))
        writer.save(8, model(8))
    assert rankscope.analyze(tmp_path).summary[-1]["step"] == 8


def test_what_changes_after_save_does_not_show(tmp_path: Path) -> None:
    weights = torch.eye(4)
    with SnapshotWriter(tmp_path, contents="spectra") as writer:
        writer.save(0, {"w": weights})
        weights.zero_()
    assert rankscope.analyze(tmp_path).matrices[0]["rank"] == 4


def test_tied_weights_are_two_matrices(tmp_path: Path) -> None:
    weights = torch.randn(6, 5)
    with SnapshotWriter(tmp_path, contents="spectra") as writer:
        writer.save(0, {"embed.weight": weights, "head.weight": weights})
    assert len(rankscope.analyze(tmp_path).matrices) == 2


def test_unknown_contents(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected one of weights, spectra, both"):
        SnapshotWriter(tmp_path, contents="gradients")  # type: ignore[arg-type]


class TestWhatNeedsWeights:
    """Says that there are none, and measures the rest."""

    def run(self, *arguments: str | Path) -> tuple[int, str]:
        result = CliRunner().invoke(app, [str(one) for one in arguments])
        return result.exit_code, " ".join(result.output.split())

    def test_certify(self, tmp_path: Path) -> None:
        run = write(tmp_path, "spectra", (0, 1))
        given = ("--mu", "0.1", "--weight-decay", "0.1", "--B", "2", "--m", "1")
        code, output = self.run("certify", run, *given)
        assert code == 4
        assert "only its singular values were saved, expected weights" in output

    def test_delta(self, tmp_path: Path) -> None:
        folder = write(tmp_path, "spectra") / "snapshots"
        before, after = sorted(folder.iterdir())
        code, output = self.run("diff", before, after, "--delta")
        assert code == 4
        assert "only its singular values were saved, expected weights" in output

    def test_diff_without_delta_compares_them(self, tmp_path: Path) -> None:
        before, after = sorted((write(tmp_path, "spectra") / "snapshots").iterdir())
        assert rankscope.diff(before, after).matrices

    def test_merging_an_adapter(self, tmp_path: Path) -> None:
        path = next((write(tmp_path, "spectra") / "snapshots").iterdir())
        with pytest.raises(InputRejected, match="holds singular values only"):
            rankscope.analyze(path, base=path)
