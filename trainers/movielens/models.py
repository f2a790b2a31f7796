"""P2's two models of ratings: a whole matrix ("depth 1"), and an embedding of users and items.

Both predict the rating of user u and item i as M_ui + b_u + c_i. Depth 1 trains the entries of M
themselves (P2, Sec. 4 and A.1); the embedding has M = P Q^T with a row of P for each user and of
Q for each item.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor, nn

Bias = Literal["user-item", "global"]

# P2, A.1, for its synthetic experiments; depth 1 on MovieLens is "near-identical".
DEPTH1_DEVIATION = 1e-3


class UserItemBias(nn.Module):
    """b_u + c_i, from 0."""

    def __init__(self, users: int, items: int) -> None:
        super().__init__()
        self.users = nn.Parameter(torch.zeros(users))
        self.items = nn.Parameter(torch.zeros(items))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Of each user and item, shape (ratings,)."""
        return self.users[users] + self.items[items]


class GlobalBias(nn.Module):
    """One number for all, from 0: the other reading of P2's "bias term"."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:  # noqa: ARG002 - as the other's
        """The same for all, shape (ratings,)."""
        return self.value.expand(users.shape)


class RatingModel(nn.Module):
    """Predicts ratings; `tables` are the matrices that a penalty may be put on, by name.

    `forward` takes the users and the items, int64 of shape (ratings,), and gives the ratings.
    """

    tables: tuple[str, ...]


class DepthOne(RatingModel):
    """M itself, every entry independent and normal with deviation 1e-3 at first.

    Args:
        users: rows of M.
        items: columns of M.
        generator: of the initialisation.
        bias: what is added to M.
    """

    tables = ("matrix",)

    def __init__(
        self, users: int, items: int, generator: Generator, bias: Bias = "user-item"
    ) -> None:
        super().__init__()
        self.matrix = nn.Parameter(
            DEPTH1_DEVIATION * torch.randn(users, items, generator=generator)
        )
        self.bias: nn.Module = UserItemBias(users, items) if bias == "user-item" else GlobalBias()

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """M_ui + b_u + c_i, or M_ui + b."""
        added: Tensor = self.bias(users, items)
        return self.matrix[users, items] + added


class Embedding(RatingModel):
    """M = P Q^T, all entries independent and normal with deviation 1/dimension at first.

    That deviation is Spotlight's, the library whose explicit factorisation P2 uses (A.1).

    Args:
        users: rows of P.
        items: rows of Q.
        dimension: columns of both.
        generator: of the initialisation.
    """

    tables = ("users", "items")

    def __init__(self, users: int, items: int, dimension: int, generator: Generator) -> None:
        super().__init__()
        self.users = nn.Parameter(torch.randn(users, dimension, generator=generator) / dimension)
        self.items = nn.Parameter(torch.randn(items, dimension, generator=generator) / dimension)
        self.bias = UserItemBias(users, items)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """<P_u, Q_i> + b_u + c_i."""
        added: Tensor = self.bias(users, items)
        return (self.users[users] * self.items[items]).sum(1) + added
