"""Runs that keep spectra: what is read from them, beside the same run that keeps its weights."""

from __future__ import annotations

import hashlib
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
from rankscope.how import How
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
        for key in ("source", "route", "path"):
            row.pop(key, None)
    return rows


def assert_alike(found: Any, expected: Any, where: str = "") -> None:
    """The same keys and values; numbers to 1e-6, of which a reading of either is exact."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_alike(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_alike(one, other, f"{where}[{index}]")
    elif isinstance(expected, float) and isinstance(found, float):
        assert found == pytest.approx(expected, rel=1e-6), where
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
    expected = np.linalg.svd(tensors["moe.experts.w"][2], compute_uv=False)
    np.testing.assert_allclose(sigma["moe.experts.w[2]"], expected, rtol=1e-10)
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


class Fused(torch.nn.Module):
    """Attention whose query, key and value are one tensor, and an adapter of low rank."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = torch.nn.MultiheadAttention(32, 4)
        with torch.no_grad():
            key = self.attention.in_proj_weight[32:64]
            key.copy_(torch.randn(32, 2) @ torch.randn(2, 32))
        self.lora_down = torch.nn.ParameterDict({"weight": torch.randn(4, 40)})
        self.lora_up = torch.nn.ParameterDict({"weight": torch.randn(30, 4)})
        self.register_buffer("alpha", torch.tensor(4.0))


@pytest.mark.parametrize("contents", ["spectra", "both"])
def test_fused_layers_are_taken_apart_as_in_weights(tmp_path: Path, contents: Contents) -> None:
    tables = []
    for kept in ("weights", contents):
        with SnapshotWriter(tmp_path / kept, contents=kept) as writer:
            writer.save(0, {f"x.{name}": one for name, one in Fused().state_dict().items()})
        tables.append(comparable(rankscope.analyze(tmp_path / kept, metrics=METRICS)))
    ranks = {row["name"]: row["numerical_rank"] for row in tables[0]["matrices"]}
    assert ranks["x.attention.in_proj_weight:k"] == 2
    assert ranks["x.weight"] == 4
    assert_alike(tables[1], tables[0])


def test_in_memory_as_from_a_file(tmp_path: Path) -> None:
    state = {f"x.{name}": one for name, one in Fused().state_dict().items()}
    with SnapshotWriter(tmp_path) as writer:
        writer.save(0, state)
    expected = {
        r["name"]: r["rank"] for r in rankscope.analyze(tmp_path, metrics=["rank"]).matrices
    }
    found = {r["name"]: r["rank"] for r in rankscope.analyze(state, metrics=["rank"]).matrices}
    assert found == expected


def test_of_both_fused_layers_are_not_decomposed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SnapshotWriter(tmp_path, contents="both") as writer:
        writer.save(0, {f"x.{name}": one for name, one in Fused().state_dict().items()})
    monkeypatch.setattr("rankscope.worker.solve", lambda *_: pytest.fail("decomposed"))
    rows = rankscope.analyze(tmp_path, metrics=METRICS, how=How(workers=1)).matrices
    assert {row["status"] for row in rows} == {"ok"}


class TestContent:
    """A digest of the entries, whatever was kept of them."""

    def saved(self, directory: Path, weights: Any, contents: Contents) -> Path:
        with SnapshotWriter(directory, contents=contents) as writer:
            writer.save(0, {"w": weights})
        return next((directory / "snapshots").iterdir())

    @pytest.mark.parametrize("contents", ["weights", "spectra"])
    def test_equal_spectra_are_no_equal_weights(self, tmp_path: Path, contents: Contents) -> None:
        weights = np.random.default_rng(0).standard_normal((4, 6))
        before = self.saved(tmp_path / "a", weights, "spectra")
        after = self.saved(tmp_path / "b", -weights, contents)
        (row,) = rankscope.diff(before, after).matrices
        assert row["equal"] is False
        assert row["rank"] == row["rank_before"]

    def test_the_same_weights_kept_either_way(self, tmp_path: Path) -> None:
        weights = np.random.default_rng(0).standard_normal((4, 6))
        before = self.saved(tmp_path / "a", weights, "weights")
        after = self.saved(tmp_path / "b", weights, "spectra")
        (row,) = rankscope.diff(before, after).matrices
        assert row["equal"] is True

    def test_a_false_digest_does_not_reach_the_store(self, tmp_path: Path) -> None:
        """Of a file that claims to be of other weights than its values are."""
        weights, others = np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0])
        honest = self.saved(tmp_path / "a", weights, "weights")
        false = self.saved(tmp_path / "b", others, "spectra")
        data = false.read_bytes()
        keys = [rankscope.analyze(one).matrices[0]["content"] for one in (honest, false)]
        start = data.index(keys[1].encode())
        whole = hashlib.sha256(b"(4, 4) float64" + weights.tobytes()).hexdigest().encode()
        assert whole.startswith(keys[0].encode())
        false.write_bytes(data[:start] + whole + data[start + 64 :])
        store = tmp_path / "store.sqlite3"
        measured = [
            rankscope.analyze(one, metrics=["nuclear_norm"], how=How(store=store)).matrices[0]
            for one in (false, honest, false)
        ]
        assert [row["nuclear_norm"] for row in measured] == pytest.approx([10, 4, 10])


@pytest.mark.parametrize("factor", [1.01, 3.0, 30.0, 300.0, 3000.0])
def test_values_near_the_gram_routes_resolution_are_as_exact(tmp_path: Path, factor: float) -> None:
    rng = np.random.default_rng(1)
    left, right = (np.linalg.qr(rng.standard_normal((40, 40)))[0] for _ in range(2))
    floor = np.sqrt((40 + 128) * 2.0**-53)
    weights = (left * np.array([1.0] * 39 + [factor * floor])) @ right
    metrics = ["condition_number", "distance_to_rank(39)", "schatten_norm(0.5)"]
    rows = []
    for kept in ("weights", "spectra"):
        with SnapshotWriter(tmp_path / kept, contents=kept) as writer:
            writer.save(0, {"w": weights})
        rows.append(rankscope.analyze(tmp_path / kept, metrics=metrics).matrices[0])
    assert_alike({**rows[1], "source": ""}, {**rows[0], "source": ""})
    assert rows[1]["condition_number"] == pytest.approx(1 / (factor * floor), rel=1e-6)


class TestWhatNeedsWeights:
    """Says that there are none, and measures the rest."""

    def run(self, *arguments: str | Path) -> tuple[int, str]:
        result = CliRunner().invoke(app, [str(one) for one in arguments])
        return result.exit_code, " ".join(result.output.split())

    GIVEN = ("--mu", "0.1", "--weight-decay", "0.1", "--B", "2", "--m", "1")

    def test_certify(self, tmp_path: Path) -> None:
        code, output = self.run("certify", write(tmp_path, "spectra", (0, 1)), *self.GIVEN)
        assert code == 3
        assert "only singular values were saved, and a certificate needs weights" in output

    def test_certify_of_a_run_that_has_some(self, tmp_path: Path) -> None:
        write(tmp_path, "spectra", (0, 1))
        write(tmp_path, "weights", (2, 3))
        code, output = self.run("certify", tmp_path, *self.GIVEN)
        assert code == 1  # what has weights is no training: the proof's identity does not hold
        assert "only singular values were saved, and a certificate needs weights" in output
        assert "low.weight" in output

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
