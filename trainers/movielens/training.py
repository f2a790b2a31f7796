"""Descent on the squared error plus lambda R of some matrices, and the error over all ratings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer

from trainers.completion.penalties import Penalty
from trainers.movielens.files import HIGHEST, LOWEST, Ratings
from trainers.movielens.models import RatingModel


class Observed:
    """Ratings on a device.

    Attributes:
        users: int64 from 0, shape (ratings,).
        items: likewise.
        values: float32, shape (ratings,).
    """

    def __init__(self, ratings: Ratings, device: torch.device | str = "cpu") -> None:
        self.users = torch.from_numpy(ratings.users).to(device)
        self.items = torch.from_numpy(ratings.items).to(device)
        self.values = torch.from_numpy(ratings.values).to(device, torch.float32)

    def __len__(self) -> int:
        return len(self.values)


class Penalised:
    """The sum of lambda R(W) over the penalised matrices of a model.

    Args:
        model: whose tables they are.
        strengths: lambda by table; one of 0 costs nothing.
        penalty: R.
        every: the gradient is computed anew at every so many updates and used again between.
            1 is P2's loss; more is an approximation, as each costs a decomposition.
    """

    def __init__(
        self,
        model: RatingModel,
        strengths: Mapping[str, float],
        penalty: Penalty,
        every: int = 1,
    ) -> None:
        self._terms = [
            (model.get_parameter(table), strength)
            for table, strength in strengths.items()
            if strength
        ]
        self._penalty = penalty
        self._every = every
        self._updates = 0
        self._gradients: list[Tensor] = []

    def value(self) -> float:
        """The sum now."""
        return sum(
            strength * self._penalty.value_and_gradient(matrix.detach()[None])[0].item()
            for matrix, strength in self._terms
        )

    def add_gradients(self) -> None:
        """Add those of one update to the matrices' own."""
        if self._updates % self._every == 0:
            self._gradients = [
                self._penalty.value_and_gradient(matrix.detach()[None])[1][0]
                for matrix, _ in self._terms
            ]
        self._updates += 1
        for (matrix, strength), gradient in zip(self._terms, self._gradients, strict=True):
            matrix.backward(strength * gradient)  # type: ignore[no-untyped-call]


def train_epoch(
    model: RatingModel,
    ratings: Observed,
    optimiser: Optimizer,
    penalised: Penalised,
    batch_size: int,
    order: Generator,
    *,
    summed: bool = False,
) -> Iterator[None]:
    """One pass over the ratings in a new order; comes back after each update.

    The loss of a batch is the mean, or the sum, of its squared errors plus lambda R. The last
    batch is what is left.

    Raises:
        FloatingPointError: the loss is no longer a number.
    """
    shuffled = torch.randperm(len(ratings), generator=order).to(ratings.users.device)
    for chosen in torch.split(shuffled, batch_size):
        optimiser.zero_grad()
        predicted = model(ratings.users[chosen], ratings.items[chosen])
        errors = (predicted - ratings.values[chosen]).square()
        loss = errors.sum() if summed else errors.mean()
        if not loss.isfinite():
            raise FloatingPointError("the loss is no number")
        loss.backward()
        penalised.add_gradients()
        optimiser.step()
        yield


def rmse(model: RatingModel, ratings: Observed, *, clip: bool = False) -> float:
    """The root of the mean squared error over all ratings at once, not a mean over batches.

    Args:
        model: predicts.
        ratings: the truth.
        clip: whether predictions outside 1 to 5 are moved to the nearer end first.

    Raises:
        FloatingPointError: a prediction is no number.
    """
    with torch.no_grad():
        predicted = model(ratings.users, ratings.items).double()
    if not predicted.isfinite().all():
        raise FloatingPointError("a prediction is no number")
    if clip:
        predicted = predicted.clamp(LOWEST, HIGHEST)
    return float((predicted - ratings.values).square().mean().sqrt())
