"""Certificates against plain NumPy, on updates made here and on networks trained by torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from rankscope.bounds.dynamics import Dynamics, Memory, Phase
from rankscope.certificates.certificate import Certificate, Weights, certificate
from rankscope.certificates.certify import certify
from rankscope.certificates.pairs import MOST_OPEN, reach
from rankscope.checkpoints import open_checkpoint
from rankscope.combination import Combination
from rankscope.records import Spectrum, Unmeasured
from rankscope.snapshots import (
    Hyperparameters,
    MatrixRecord,
    Optimiser,
    RunRecord,
    SnapshotWriter,
)
from rankscope.solvers import solve
from tests.matrix import ArrayMatrix, low_rank

Array = NDArray[Any]


class TestCombination:
    @pytest.mark.parametrize("axis", [0, 1])
    def test_is_the_sum(self, axis: Any) -> None:
        rng = np.random.default_rng(0)
        one, other = rng.standard_normal((7, 5)).astype(np.float32), rng.standard_normal((7, 5))
        combination = Combination(((2.0, ArrayMatrix(one)), (-0.5, ArrayMatrix(other))))
        assert (combination.shape, combination.dtype) == ((7, 5), "float64")
        blocks = list(combination.blocks(axis, 12))
        assert len(blocks) > 1
        expected = 2.0 * one.astype(np.float64) - 0.5 * other
        np.testing.assert_array_equal(np.concatenate(blocks, axis), expected)

    def test_an_overflow_is_infinite_and_silent(self) -> None:
        huge = ArrayMatrix(np.full((2, 2), 1e308))
        (block,) = Combination(((1.0, huge), (1.0, huge))).blocks(0, 100)
        assert np.isinf(block).all()

    @pytest.mark.parametrize("shapes", [[(2, 3), (3, 2)], []])
    def test_unequal_shapes_are_refused(self, shapes: Sequence[tuple[int, int]]) -> None:
        with pytest.raises(ValueError, match="have no sum"):
            Combination(tuple((1.0, ArrayMatrix(np.ones(shape))) for shape in shapes))


def spectrum_of(matrix: ArrayMatrix) -> Spectrum:
    found = solve(matrix, "direct")
    assert isinstance(found, Spectrum)
    return found


def certified(
    now: Array,
    before: Array,
    memory: Memory,
    n: int,
    inputs: int = 1,
    previous: Array | None = None,
) -> Certificate:
    matrix = ArrayMatrix(now)
    past = None if previous is None else ArrayMatrix(previous)
    weights = Weights(matrix, spectrum_of(matrix), ArrayMatrix(before), past)
    found = certificate(weights, memory, n, inputs)
    assert isinstance(found, Certificate)
    return found


class TestOnePair:
    """W_T = a W + b W' + U with a U of known rank."""

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("rank", [0, 5, 6, 7])
    @pytest.mark.parametrize("shape", [(20, 30), (30, 20)])
    def test_both_sides_are_numpys(self, dtype: type, rank: int, shape: tuple[int, int]) -> None:
        rng = np.random.default_rng(1)
        before: Array = rng.standard_normal(shape).astype(dtype)
        previous: Array = rng.standard_normal(shape).astype(dtype)
        update = 0.1 * low_rank(*shape, rank)
        now: Array = (1.5 * before.astype(float) - 0.6 * previous + update).astype(dtype)
        found = certified(now, before, Memory(1.5, -0.6, 2), 2, 3, previous)
        wide = [array.astype(np.float64) for array in (now, before, previous)]
        u = wide[0] - (1.5 * wide[1] - 0.6 * wide[2])
        sigma = np.linalg.svd(u, compute_uv=False)
        assert (found.allowed_rank, found.rank) == (6, rank)
        assert found.holds == (rank <= 6)
        tolerance = 40 * 2.0**-52 * max(sigma[0], 1)
        assert found.sigma_next == pytest.approx(sigma[6], abs=tolerance)
        norm = np.linalg.norm(wide[0])
        tail = np.linalg.svd(wide[0], compute_uv=False)[6:]
        assert found.lhs == pytest.approx(np.linalg.norm(tail) / norm, rel=1e-12)
        assert found.rhs == pytest.approx(np.linalg.norm(wide[0] - u) / norm, rel=1e-12)
        assert found.slack is not None
        assert found.lhs is not None
        assert found.rhs is not None
        assert found.slack == found.rhs - found.lhs

    def test_plain_sgd_has_the_lemmas_right_side(self) -> None:
        before = low_rank(8, 9, 8).astype(np.float32)
        now = (0.75 * before.astype(float) + low_rank(8, 9, 1, seed=5)).astype(np.float32)
        found = certified(now, before, Memory(0.75, 0.0, 1), 1)
        assert found.holds
        expected = 0.75 * np.linalg.norm(before) / np.linalg.norm(now)
        assert found.rhs == pytest.approx(expected, rel=1e-6)

    def test_less_left_than_there_is_breaks_the_inequality_too(self) -> None:
        identity = np.eye(12)
        found = certified(identity, identity, Memory(0.5, 0.0, 1), 1)
        assert found.lhs == pytest.approx(np.sqrt(11 / 12))
        assert found.rhs == pytest.approx(0.5)
        assert not found.holds

    def test_decay_below_rounding_is_not_decisive(self) -> None:
        rng = np.random.default_rng(0)
        before = rng.standard_normal((20, 20)).astype(np.float32)
        weak = certified(before, before, Memory(1 - 1e-9, 0.0, 1), 1)
        assert weak.holds
        assert weak.contrast < 1
        strong = certified(before, before, Memory(0.99, 0.0, 1), 1)
        assert not strong.holds
        assert strong.contrast > 1

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_zero_weights_have_no_sides(self, dtype: type) -> None:
        zero: Array = np.zeros((4, 4), dtype)
        found = certified(zero, zero, Memory(0.5, 0.0, 1), 1)
        assert (found.rank, found.margin) == (0, 0.0)
        assert (found.lhs, found.rhs, found.slack) == (None, None, None)
        assert found.holds

    @pytest.mark.parametrize(
        ("before", "status"),
        [(np.full((3, 3), np.nan), "nonfinite"), (np.full((3, 3), 1.7e308), "failed")],
    )
    def test_what_has_no_spectrum_has_no_certificate(self, before: Array, status: str) -> None:
        now = ArrayMatrix(np.eye(3))
        weights = Weights(now, spectrum_of(now), ArrayMatrix(before))
        found = certificate(weights, Memory(0.9, 0.0, 1), 1, 1)
        assert isinstance(found, Unmeasured)
        assert found.status == status

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_the_noise_bounds_the_rounding_of_many_updates(self, dtype: type) -> None:
        """Weights rounded after each of n updates, and what that leaves of U."""
        rng = np.random.default_rng(3)
        steps, shrink = 40, 0.99
        before: Array = rng.standard_normal((60, 80)).astype(dtype)
        now = before
        for _ in range(steps):
            now = (shrink * now.astype(np.float64)).astype(dtype)
        found = certified(now, before, Memory(shrink**steps, 0.0, 1), steps)
        assert found.rank == 0
        assert found.threshold < 50 * found.sigma_next  # 40 roundings in one direction

    def test_updates_that_rounding_swallows_are_no_update(self) -> None:
        """In half precision 1 - 1e-4 is 1: the weights do not decay, in 50 steps in a row."""
        before = np.kron(np.eye(2), np.ones((30, 30))).astype(np.float16)
        assert (np.float16(1 - 1e-4) * before == before).all()
        assert certified(before, before, Memory((1 - 1e-4) ** 50, 0.0, 1), 50).holds
        assert not certified(before, before, Memory((1 - 1e-2) ** 50, 0.0, 1), 50).holds


@pytest.mark.parametrize(("scale", "holds"), [(0.5, True), (3.0, None), (12.0, False)])
def test_what_equal_roundings_could_do_is_undecided(scale: float, holds: bool | None) -> None:
    rng = np.random.default_rng(0)
    before = rng.standard_normal((64, 64)).astype(np.float32)
    memory = Memory(1.0, 0.0, 16)
    noise = rng.standard_normal((64, 64))
    noise *= 2.0**-24 * 4 * scale / np.linalg.norm(noise, 2)
    lines = np.linalg.norm(before, axis=1).max() + np.linalg.norm(before, axis=0).max()
    now = before.astype(np.float64) + noise * lines
    found = certified(now.astype(np.float32), before, memory, 16)
    assert found.holds is holds
    assert (found.rank <= 16) == (holds is True)
    assert found.threshold < found.possible < 5 * found.threshold


def test_one_batch_again_and_again_with_tiny_steps_is_not_failed(tmp_path: Path) -> None:
    """Updates below the spacing of the numbers: roundings go the same way and add up."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    sample, label = torch.randn(1, 256), torch.tensor([3])
    optimiser = torch.optim.SGD(model.parameters(), lr=3e-7, weight_decay=0.01)
    record = RunRecord(
        matrices=(MatrixRecord("0.weight", "linear", (256, 256), 1),),
        optimiser=Optimiser("sgd"),
        hyperparameters=Hyperparameters(1, 3e-7, 0.01),
    )
    with SnapshotWriter(tmp_path, record) as writer:
        for step in range(61):
            if step:
                optimiser.zero_grad()
                loss = nn.functional.cross_entropy(model(sample), label)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            if step in (0, 60):
                writer.save(step, model)
    found = certify(tmp_path)
    assert found.holds is not False
    (row,) = found.pairs
    assert row["margin"] > 0.5  # near enough to the threshold to matter


class TinyConvolution(nn.Module):
    """Two convolutions on 8x8 images: 2x2 and 1x1 places of application."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 40, 5, stride=3)
        self.norm = nn.BatchNorm2d(40)
        self.second = nn.Conv2d(40, 30, 2)
        self.output = nn.Linear(30, 24)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = torch.relu(self.norm(self.first(images)))
        logits: torch.Tensor = self.output(torch.relu(self.second(values)).flatten(1))
        return logits


PLACES = {"first.weight": 4, "second.weight": 1, "output.weight": 1}


def train_convolution(run_dir: Path, *, places: dict[str, int], batch: int, steps: int) -> None:
    torch.manual_seed(0)
    model = TinyConvolution()
    rates = [0.05] * (steps // 2) + [0.02] * (steps - steps // 2)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.1)
    record = RunRecord(
        matrices=tuple(
            MatrixRecord(name, "linear", tuple(tensor.shape), places[name])
            for name, tensor in model.named_parameters()
            if tensor.ndim > 1
        ),
        optimiser=Optimiser(),
        hyperparameters=Hyperparameters(batch, 0.05, 0.1, schedule=((steps // 2, 0.02),)),
    )
    with SnapshotWriter(run_dir, record) as writer:
        writer.save(0, model)
        for step, rate in enumerate(rates, start=1):
            optimiser.param_groups[0]["lr"] = rate
            images, labels = torch.randn(batch, 1, 8, 8), torch.randint(24, (batch,))
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            writer.save(step, model)


class TestConvolution:
    def test_m_l_is_the_number_of_places(self, tmp_path: Path) -> None:
        train_convolution(tmp_path, places=PLACES, batch=3, steps=8)
        found = certify(tmp_path, workers=1)
        assert found.holds
        spans = {row["name"]: (row["n_min"], row["n_max"]) for row in found.summary()}
        # The small sides are 25, 30 and 24.
        assert spans == {
            "first.weight": (1, 2),
            "second.weight": (1, 8),
            "output.weight": (1, 7),
        }

    def test_with_too_small_an_m_l_it_does_not_hold(self, tmp_path: Path) -> None:
        train_convolution(tmp_path, places=PLACES | {"first.weight": 1}, batch=3, steps=3)
        found = certify(tmp_path, workers=1)
        assert found.holds is False
        assert {row["name"] for row in found.failed} == {"first.weight"}


def test_reach_counts_samples_below_the_limit() -> None:
    plain = Dynamics((Phase(0, 0.1, 0.1, 4),))
    assert [reach(plain, 100, limit) for limit in (4, 5, 8, 9, 13)] == [0, 1, 1, 2, 3]
    assert reach(plain, 2, 1000) == 2
    nesterov = Dynamics((Phase(0, 0.1, 0.1, 4),), 0.9, nesterov=True)
    assert reach(nesterov, 100, 13) == 2


def test_a_long_series_keeps_few_files_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((40, 40)).astype(np.float32)
    hyper = Hyperparameters(2, 0.1, 0.1, schedule=())
    record = RunRecord(
        matrices=(MatrixRecord("w", "linear", (40, 40), 1),),
        optimiser=Optimiser(),
        hyperparameters=hyper,
    )
    with SnapshotWriter(tmp_path, record) as writer:
        for step in range(60):
            writer.save(step, {"w": weights})
            update = 0.01 * low_rank(40, 40, 2, seed=step)
            weights = (0.99 * weights + update).astype(np.float32)
    most = 0

    def counting(path: Path) -> Any:
        nonlocal most
        most = max(most, sum("step-" in os.readlink(f"/proc/self/fd/{fd}") for fd in _open_fds()))
        return open_checkpoint(path)

    monkeypatch.setattr("rankscope.certificates.pairs.open_checkpoint", counting)
    found = certify(tmp_path, workers=1)
    assert found.holds
    assert len(found.pairs) == sum(min(19, step) for step in range(60))
    assert 0 < most < MOST_OPEN


def _open_fds() -> list[str]:
    """The descriptors that are open, without the one that listed them."""
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
