"""Problems: what is drawn has the rank, the scale and the observed entries that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rankscope.errors import UsageError
from trainers.completion.problem import draw


@pytest.mark.parametrize("shape", [(30, 30), (12, 40), (40, 12)])
def test_the_target_has_the_rank_and_the_scale(shape: tuple[int, int]) -> None:
    problem = draw(shape, 3, 100, seed=1)
    assert problem.target.dtype == torch.float64
    assert np.linalg.matrix_rank(problem.target.numpy()) == 3
    assert np.linalg.norm(problem.target.numpy()) == pytest.approx(np.sqrt(shape[0] * shape[1]))
    assert problem.observed.shape == shape
    assert int(problem.observed.sum()) == 100


def test_a_raw_target_is_a_product_of_standard_normal_factors() -> None:
    targets = torch.stack([draw((40, 40), 5, 1, seed, scaled=False).target for seed in range(200)])
    # An entry is a sum of five products: mean 0, variance 5, fourth moment 5 * 9 + 3 * 20.
    assert targets.mean().item() == pytest.approx(0, abs=0.05)
    assert targets.square().mean().item() == pytest.approx(5, rel=0.03)
    assert targets.pow(4).mean().item() == pytest.approx(105, rel=0.1)
    scaled = draw((40, 40), 5, 1, seed=0).target
    np.testing.assert_allclose(scaled * targets[0].square().mean().sqrt(), targets[0])


def test_every_entry_is_observed_equally_often() -> None:
    share = torch.stack([draw((6, 7), 1, 14, seed).observed.double() for seed in range(3000)])
    # 1/3 with a standard deviation of 0.0086.
    np.testing.assert_allclose(share.mean(0), 1 / 3, atol=0.04)


def test_the_same_seed_is_the_same_problem_and_more_entries_add_to_fewer() -> None:
    one, other = draw((9, 8), 2, 20, seed=5), draw((9, 8), 2, 40, seed=5)
    assert torch.equal(one.target, other.target)
    assert not (one.observed & ~other.observed).any()
    assert not torch.equal(one.observed, draw((9, 8), 2, 20, seed=6).observed)
    assert not torch.equal(one.target, draw((9, 8), 2, 20, seed=6).target)


@pytest.mark.parametrize(("rank", "observed"), [(0, 5), (5, 5), (2, 0), (2, 24), (2, 25)])
def test_what_cannot_be_is_refused(rank: int, observed: int) -> None:
    with pytest.raises(UsageError, match="expected 1 to"):
        draw((4, 6), rank, observed, seed=0)
