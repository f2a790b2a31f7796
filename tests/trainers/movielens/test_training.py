"""The models, the loss and the error, each against a loop over ratings or against autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from tests.trainers.movielens import planted
from trainers.completion.penalties import parse
from trainers.movielens.files import Ratings
from trainers.movielens.models import DepthOne, Embedding, RatingModel
from trainers.movielens.training import Observed, Penalised, rmse, train_epoch

USERS, ITEMS, DIMENSION = 30, 40, 5

MODELS: dict[str, Callable[[Generator], RatingModel]] = {
    "depth-1": lambda generator: DepthOne(USERS, ITEMS, generator),
    "depth-1 global": lambda generator: DepthOne(USERS, ITEMS, generator, "global"),
    "embedding": lambda generator: Embedding(USERS, ITEMS, DIMENSION, generator),
}
PENALTIES = {
    "depth-1": {"matrix": 0.7},
    "depth-1 global": {"matrix": 0.7},
    "embedding": {"users": 0.3, "items": 1.1},
}


def model_of(name: str, seed: int = 0) -> RatingModel:
    """In float64 and away from its initialisation, so that no bias is 0."""
    generator = Generator().manual_seed(seed)
    model = MODELS[name](generator).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def naive_prediction(model: RatingModel, user: int, item: int) -> float:
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    if "matrix" in state:
        core = float(state["matrix"][user, item])
    else:
        row, column = state["users"][user], state["items"][item]
        core = sum(float(row[k]) * float(column[k]) for k in range(DIMENSION))
    if "bias.value" in state:
        return core + float(state["bias.value"])
    return core + float(state["bias.users"][user]) + float(state["bias.items"][item])


def naive_rmse(model: RatingModel, ratings: Ratings, low: float, high: float) -> float:
    total = 0.0
    for user, item, value in zip(ratings.users, ratings.items, ratings.values, strict=True):
        predicted = min(max(naive_prediction(model, user, item), low), high)
        total += (predicted - value) ** 2
    return math.sqrt(total / len(ratings))


@pytest.fixture
def ratings() -> Ratings:
    return planted.ratings(USERS, ITEMS, 203)


@dataclass
class Counting:
    """A penalty whose gradient is all ones times how often it was computed."""

    name: str = "counting"
    calls: list[tuple[int, ...]] = field(default_factory=list)

    def value_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.append(tuple(W.shape))
        return W.new_ones(len(W)), torch.full_like(W, len(self.calls))


class TestModels:
    @pytest.mark.parametrize("name", MODELS)
    def test_predictions_equal_a_loop(self, name: str, ratings: Ratings) -> None:
        model, seen = model_of(name), Observed(ratings)
        expected = [
            naive_prediction(model, user, item)
            for user, item in zip(ratings.users, ratings.items, strict=True)
        ]
        assert model(seen.users, seen.items).tolist() == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(
        ("name", "deviation"), [("depth-1", 1e-3), ("depth-1 global", 1e-3), ("embedding", 0.2)]
    )
    def test_initialisation(self, name: str, deviation: float) -> None:
        model = MODELS[name](Generator().manual_seed(1))
        for key, tensor in model.state_dict().items():
            if key in model.tables:
                assert tensor.std().item() == pytest.approx(deviation, rel=0.2)  # 150 and more
            else:
                assert not tensor.any()
        again, other = (MODELS[name](Generator().manual_seed(seed)) for seed in (1, 2))
        table = model.tables[0]
        assert torch.equal(again.get_parameter(table), model.get_parameter(table))
        assert not torch.equal(other.get_parameter(table), model.get_parameter(table))

    @pytest.mark.parametrize("name", MODELS)
    def test_tables_are_the_matrices(self, name: str) -> None:
        model = MODELS[name](Generator())
        matrices = [key for key, tensor in model.state_dict().items() if tensor.ndim == 2]
        assert sorted(model.tables) == sorted(matrices) == sorted(PENALTIES[name])


class TestLoss:
    @pytest.mark.parametrize("summed", [False, True])
    @pytest.mark.parametrize("name", MODELS)
    def test_one_step_of_descent_is_autograds(
        self, name: str, ratings: Ratings, summed: bool
    ) -> None:
        model, reference, lr = model_of(name), model_of(name), 0.01
        seen = Observed(ratings)
        penalised = Penalised(model, PENALTIES[name], parse("ratio"))
        optimiser = torch.optim.SGD(model.parameters(), lr=lr)
        steps = train_epoch(
            model, seen, optimiser, penalised, len(seen), Generator(), summed=summed
        )
        assert sum(1 for _ in steps) == 1

        squares = (reference(seen.users, seen.items) - seen.values).square()
        loss = squares.sum() if summed else squares.sum() / len(ratings)
        for table, strength in PENALTIES[name].items():
            sigma = torch.linalg.svdvals(reference.get_parameter(table))
            loss = loss + strength * sigma.sum() / sigma.square().sum().sqrt()
        loss.backward()
        for key, parameter in reference.named_parameters():
            assert parameter.grad is not None
            expected = parameter.detach() - lr * parameter.grad
            assert torch.allclose(model.get_parameter(key), expected, rtol=1e-9, atol=1e-11), key

    def test_value_is_the_weighted_sum(self) -> None:
        model = model_of("embedding")
        expected = 0.0
        for table, strength in PENALTIES["embedding"].items():
            sigma = np.linalg.svd(model.get_parameter(table).detach().numpy(), compute_uv=False)
            expected += strength * sigma.sum() / np.sqrt((sigma**2).sum())
        penalised = Penalised(model, PENALTIES["embedding"], parse("ratio"))
        assert penalised.value() == pytest.approx(expected, rel=1e-12)

    def test_a_penalty_of_0_is_not_computed(self) -> None:
        model, counting = model_of("embedding"), Counting()
        Penalised(model, {"users": 0.0, "items": 0.0}, counting).add_gradients()
        Penalised(model, {"users": 0.0, "items": 2.0}, counting).add_gradients()
        assert counting.calls == [(1, ITEMS, DIMENSION)]
        assert model.get_parameter("users").grad is None

    def test_a_gradient_is_used_as_often_as_said_and_added_every_time(self) -> None:
        model, counting = model_of("depth-1"), Counting()
        penalised = Penalised(model, {"matrix": 0.5}, counting, every=3)
        matrix = model.get_parameter("matrix")
        added = []
        for _ in range(7):
            matrix.grad = torch.full_like(matrix, 10.0)
            penalised.add_gradients()
            assert (matrix.grad == matrix.grad[0, 0]).all()
            added.append(matrix.grad[0, 0].item() - 10)
        assert added == [0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.5]

    def test_every_rating_is_in_one_batch_of_an_epoch(self, ratings: Ratings) -> None:
        model, seen, batches = model_of("depth-1"), Observed(ratings), []
        model.register_forward_pre_hook(lambda _, given: batches.append(given))
        optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
        order = Generator().manual_seed(0)
        epochs = []
        for _ in range(2):
            for _ in train_epoch(
                model, seen, optimiser, Penalised(model, {}, Counting()), 50, order
            ):
                pass
            epochs.append(
                [
                    (u, i)
                    for us, its in batches
                    for u, i in zip(us.tolist(), its.tolist(), strict=True)
                ]
            )
            assert [len(users) for users, _ in batches] == [50, 50, 50, 50, 3]
            batches.clear()
        expected = sorted(zip(ratings.users.tolist(), ratings.items.tolist(), strict=True))
        assert sorted(epochs[0]) == sorted(epochs[1]) == expected
        assert epochs[0] != epochs[1]

    def test_divergence_is_one_line(self, ratings: Ratings) -> None:
        model, seen = model_of("embedding"), Observed(ratings)
        optimiser = torch.optim.SGD(model.parameters(), lr=1e6)
        penalised = Penalised(model, PENALTIES["embedding"], parse("ratio"))
        with pytest.raises(FloatingPointError, match="the loss is no number"):
            list(train_epoch(model, seen, optimiser, penalised, 1, Generator()))


class TestRmse:
    @pytest.mark.parametrize("name", MODELS)
    def test_equals_a_loop(self, name: str, ratings: Ratings) -> None:
        model = model_of(name)
        plain = rmse(model, Observed(ratings))
        clipped = rmse(model, Observed(ratings), clip=True)
        assert plain == pytest.approx(naive_rmse(model, ratings, -math.inf, math.inf), rel=1e-12)
        assert clipped == pytest.approx(naive_rmse(model, ratings, 1, 5), rel=1e-12)
        assert clipped < plain

    def test_is_not_a_mean_over_batches(self, ratings: Ratings) -> None:
        model = model_of("embedding")
        parts = [
            ratings.take(np.arange(start, min(start + 50, 203))) for start in range(0, 203, 50)
        ]
        mean = np.mean([rmse(model, Observed(part)) for part in parts])
        assert abs(rmse(model, Observed(ratings)) - mean) > 0.01


class TestPlanted:
    """50 x 70, rank 4 with its biases, two fifths of it seen in whole stars."""

    def trained(self, model: RatingModel, strengths: dict[str, float]) -> tuple[float, float]:
        """Test RMSE of the model, and of the training ratings' mean."""
        whole = planted.ratings(50, 70, 1500)
        train, test = whole.take(np.arange(1300)), whole.take(np.arange(1300, 1500))
        seen, penalised = Observed(train), Penalised(model, strengths, parse("ratio"))
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        order = Generator().manual_seed(0)
        for _ in range(30):
            for _ in train_epoch(model, seen, optimiser, penalised, 64, order):
                pass
        by_mean = math.sqrt(((test.values - train.values.mean()) ** 2).mean())
        return rmse(model, Observed(test)), by_mean

    def rank(self, model: RatingModel, table: str) -> float:
        sigma = torch.linalg.svdvals(model.get_parameter(table).detach())
        return float(torch.special.entr(sigma / sigma.sum()).sum().exp())

    def test_depth_1_with_its_penalty_beats_the_mean_and_without(self) -> None:
        plain, model = (DepthOne(50, 70, Generator().manual_seed(0)) for _ in range(2))
        without, _ = self.trained(plain, {"matrix": 0.0})
        error, by_mean = self.trained(model, {"matrix": 0.5})
        assert error < 0.8 * by_mean
        assert error < 0.9 * without
        assert 10 * self.rank(model, "matrix") < self.rank(plain, "matrix")

    @pytest.mark.parametrize(("table", "other"), [("users", "items"), ("items", "users")])
    def test_the_embedding_with_a_penalty_on_either_table(self, table: str, other: str) -> None:
        model = Embedding(50, 70, 8, Generator().manual_seed(0))
        error, by_mean = self.trained(model, {table: 1.0})
        assert error < 0.8 * by_mean
        assert 2 * self.rank(model, table) < self.rank(model, other)
