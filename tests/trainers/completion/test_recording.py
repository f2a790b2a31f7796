"""Readings, against NumPy and against `rankscope analyze` on the same matrices."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import rankscope
from rankscope.how import How
from trainers.completion.history import RECORDS
from trainers.completion.recording import (
    Reading,
    RecordFile,
    Targets,
    effective_rank,
    read,
)

GENERATOR = torch.Generator().manual_seed(0)
MATRICES = torch.randn(3, 6, 6, generator=GENERATOR, dtype=torch.float64)
TARGETS = torch.randn(3, 6, 6, generator=GENERATOR, dtype=torch.float64)
OBSERVED = torch.rand(3, 6, 6, generator=GENERATOR) < 0.4


def readings(matrices: torch.Tensor, *, dtype: torch.dtype = torch.float64) -> list[Reading]:
    goals = Targets(TARGETS.to(dtype), OBSERVED, torch.tensor([1.0, 0.5, 1 / 7], dtype=dtype))
    penalties = torch.tensor([1.25, math.nan, 0.0], dtype=dtype)
    return read(40, matrices.to(dtype), [matrices.to(dtype)], goals, penalties)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_errors_and_losses_by_loops(dtype: torch.dtype) -> None:
    close = 1e-5 if dtype == torch.float32 else 1e-12
    for row, found in enumerate(readings(MATRICES, dtype=dtype)):
        ours, target, known = (x[row].numpy() for x in (MATRICES, TARGETS, OBSERVED))
        pairs = list(zip(ours.flat, target.flat, known.flat, strict=True))
        everywhere = [(a - b) ** 2 for a, b, _ in pairs]
        hidden = [(a - b) ** 2 for a, b, seen in pairs if not seen]
        seen_only = [(a - b) ** 2 for a, b, seen in pairs if seen]
        factor = (1.0, 0.5, 1 / 7)[row]
        assert found.step == 40
        assert found.train_loss == pytest.approx(factor * sum(seen_only), rel=close)
        assert found.error_all == pytest.approx(np.mean(everywhere), rel=close)
        assert found.error_unobserved == pytest.approx(np.mean(hidden), rel=close)
        assert found.relative_all == pytest.approx(sum(everywhere) / (target**2).sum(), rel=close)
        power = sum(b**2 for _, b, seen in pairs if not seen)
        assert found.relative_unobserved == pytest.approx(sum(hidden) / power, rel=close)
        assert found.sigma == pytest.approx(np.linalg.svd(ours)[1], rel=100 * close)
        assert found.frobenius_norm == pytest.approx(np.linalg.norm(ours), rel=close)
        assert found.det_sign == np.sign(np.linalg.det(ours))
        assert found.imbalance is None
    assert [found.penalty for found in readings(MATRICES)] == [1.25, None, 0.0]


def test_the_effective_rank_is_rankscopes(tmp_path: Path) -> None:
    save_file({f"m{i}": MATRICES[i].numpy() for i in range(3)}, tmp_path / "a.safetensors")
    found = rankscope.analyze(tmp_path / "a.safetensors", how=How(store=False))
    ours = effective_rank(torch.linalg.svdvals(MATRICES)).tolist()
    theirs = {row["name"]: row["effective_rank"] for row in found.matrices}
    assert [theirs[f"m{i}"] for i in range(3)] == pytest.approx(ours, rel=1e-12)


def test_a_zero_a_low_rank_and_a_broken_matrix() -> None:
    matrices = MATRICES.clone()
    matrices[0] = 0
    matrices[1] = torch.diag(torch.tensor([3.0, 3, 0, 0, 0, 0]))
    matrices[2, 1, 1] = torch.nan
    zero, low, broken = readings(matrices)
    assert (zero.effective_rank, zero.det_sign, zero.frobenius_norm) == (None, 0, 0)
    assert low.effective_rank == pytest.approx(2)
    assert low.det_sign == 0
    assert math.isnan(broken.train_loss)
    assert broken.effective_rank is None


def test_an_oblong_matrix_has_no_determinant() -> None:
    goals = Targets(TARGETS[:, :4], OBSERVED[:, :4], torch.ones(3, dtype=torch.float64))
    found = read(0, MATRICES[:, :4], [MATRICES[:, :4]], goals, torch.zeros(3))
    assert {reading.det_sign for reading in found} == {None}


def test_the_file_is_json_a_line(tmp_path: Path) -> None:
    broken = MATRICES.clone()
    broken[2, 1, 1] = torch.inf
    first, _, last = readings(broken)
    with RecordFile(tmp_path, (1, 6)) as records:
        records.add(first)
        records.add(last)
    lines = [json.loads(line) for line in (tmp_path / RECORDS).read_text().splitlines()]
    assert lines[0]["sigma"] == {"1": first.sigma[0], "6": first.sigma[5]}
    assert lines[0]["nuclear_norm"] == pytest.approx(sum(first.sigma))
    assert lines[0]["error_all"] == first.error_all
    assert lines[1]["step"] == 40
    assert lines[1]["train_loss"] is None or math.isfinite(lines[1]["train_loss"])
    assert lines[1]["effective_rank"] is None
    assert "NaN" not in (tmp_path / RECORDS).read_text()
    assert "Infinity" not in (tmp_path / RECORDS).read_text()
