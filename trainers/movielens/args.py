"""What can be chosen of P2's MovieLens experiment, in Python and on the command line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from rankscope.errors import UsageError
from trainers.movielens.splits import NAMES, RANDOM
from trainers.outputs import FRESH

DEPTH1, EMBEDDING = "depth-1", "embedding"
CHOICES = {
    "split": NAMES,
    "model": (DEPTH1, EMBEDDING),
    "optimiser": ("adam", "gd"),
    "bias": ("user-item", "global"),
    "loss": ("mean", "sum"),
}

# P2, A.1: what its best runs had.
LEARNING_RATE = {DEPTH1: 5e-4, EMBEDDING: 1e-3}
DIMENSION = 64
PENALTY_MATRIX = 1.5
PENALTY_USERS = 0.01


@dataclass(frozen=True)  # without slots, so that Args.split is the default
class Args:
    """What can be chosen.

    Attributes:
        out: the run directory; must not exist, or be empty.
        data: the directory with MovieLens-100K's files, or the one that holds ml-100k.
        split: 90/10 or 80/20 at random, or one of the divisions that come with the data.
        split_seed: of a random split; runs to be compared share it; None for 0.
        model: depth-1, a whole matrix; or embedding, of users and items.
        optimiser: adam, or gd: plain descent on each batch.
        lr: None for P2's, 5e-4 for depth 1 and 1e-3 for the embedding.
        batch_size: ratings per update; 0 for all of them.
        penalty: lambda of the ratio penalty on depth 1's matrix; None for P2's, 1.5.
        penalty_users: of that on the users' table; None for P2's, 0.01.
        penalty_items: of that on the items' table; None for 0.
        penalty_every: updates between two computations of the penalty's gradient, which is used
            again between. 1 is P2's loss; depth 1's gradient takes a decomposition of 943 x 1682.
        dimension: columns of both tables of the embedding; None for 64.
        bias: user-item, or global, one number for all; the embedding has the former.
        loss: mean or sum of the batch's squared errors.
        clip: whether predictions are moved into 1 to 5 before errors are measured; P2 does not.
        epochs: passes over the training ratings.
        patience: end when the training error has risen in so many epochs running; 0 for never.
        snapshots: how many to save beside the initialisation, evenly spread over the epochs.
        seed: of the initialisation and of the order of the ratings.
        device: cpu, cuda, or as PyTorch calls it.
    """

    out: Path
    data: Path
    split: str = "90/10"
    split_seed: int | None = None
    model: str = EMBEDDING
    optimiser: str = "adam"
    lr: float | None = None
    batch_size: int = 256
    penalty: float | None = None
    penalty_users: float | None = None
    penalty_items: float | None = None
    penalty_every: int = 1
    dimension: int | None = None
    bias: str = "user-item"
    loss: str = "mean"
    clip: bool = False
    epochs: int = 100
    patience: int = 0
    snapshots: int = 10
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(
                    f"{name} is {getattr(self, name)!r}, expected {', '.join(known[:-1])} "
                    f"or {known[-1]}"
                )
        counts = dict.fromkeys(("penalty_every", "dimension", "epochs", "snapshots"), 1)
        from_zero = dict.fromkeys(("split_seed", "batch_size", "patience", "seed"), 0)
        for name, minimum in {**counts, **from_zero}.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                given = "--B (batch_size)" if name == "batch_size" else name
                raise UsageError(f"{given} is {value}, expected at least {minimum}")
        for name in ("lr", "penalty", "penalty_users", "penalty_items"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"{name} is {value}, expected a number from 0")
        self._check_effects()

    def _check_effects(self) -> None:
        """Refuse what the chosen model or split would ignore."""
        if self.model == DEPTH1 and (self.penalty_users, self.penalty_items) != (None, None):
            raise UsageError("depth-1 has no tables of users and items: give it a penalty")
        if self.model == DEPTH1 and self.dimension is not None:
            raise UsageError(
                f"dimension is {self.dimension}, and depth-1 has no tables: choose the embedding"
            )
        if self.split not in RANDOM and self.split_seed is not None:
            raise UsageError(f"split_seed is {self.split_seed}, and {self.split} is not random")
        if self.model == EMBEDDING and self.penalty is not None:
            raise UsageError("the embedding takes penalty_users and penalty_items, not penalty")
        if self.model == EMBEDDING and self.bias != "user-item":
            raise UsageError("the embedding has a bias of each user and item; depth-1 has a choice")

    @property
    def learning_rate(self) -> float:
        """The one that is used."""
        return LEARNING_RATE[self.model] if self.lr is None else self.lr

    @property
    def columns(self) -> int:
        """Of the embedding's tables."""
        return DIMENSION if self.dimension is None else self.dimension

    @property
    def penalties(self) -> Mapping[str, float]:
        """Lambda of each table of the model, by its name there."""
        if self.model == DEPTH1:
            return {"matrix": PENALTY_MATRIX if self.penalty is None else self.penalty}
        users = PENALTY_USERS if self.penalty_users is None else self.penalty_users
        return {"users": users, "items": self.penalty_items or 0.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of this driver."""
    parser.add_argument("--out", type=Path, required=True, help=FRESH)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="where MovieLens-100K's files are"
    )
    for flag, name, meaning in (
        ("--split", "split", "random, or a division that comes with the data"),
        ("--model", "model", "the matrix itself, or tables of users and items"),
        ("--optimizer", "optimiser", "Adam, or plain descent on each batch"),
        ("--bias", "bias", "of each user and item, or one (depth-1 only)"),
        ("--loss", "loss", "of the squared errors of a batch"),
    ):
        default = getattr(Args, name)
        words = f"{meaning} (default {default})"
        parser.add_argument(flag, dest=name, choices=CHOICES[name], default=default, help=words)
    for flag, meaning in (
        ("--lr", "learning rate (default 5e-4 for depth-1, 1e-3 for the embedding)"),
        ("--penalty", f"lambda on depth-1's matrix (default {PENALTY_MATRIX})"),
        ("--penalty-users", f"lambda on the users' table (default {PENALTY_USERS})"),
        ("--penalty-items", "lambda on the items' table (default 0)"),
    ):
        parser.add_argument(flag, type=float, metavar="X", help=meaning)
    for flag, name, meaning in (
        ("--B", "batch_size", "ratings per update, 0 for all"),
        ("--penalty-every", "penalty_every", "updates that share a gradient of the penalty"),
        ("--epochs", "epochs", "passes over the training ratings"),
        ("--patience", "patience", "end after so many rises of the training error, 0 never"),
        ("--snapshots", "snapshots", "how many to save beside the initialisation"),
        ("--seed", "seed", "of the initialisation and the order of the ratings"),
    ):
        default = getattr(Args, name)
        words = f"{meaning} (default {default})"
        parser.add_argument(flag, dest=name, type=int, default=default, metavar="N", help=words)
    for flag, meaning in (
        ("--dimension", f"columns of the embedding's tables (default {DIMENSION})"),
        ("--split-seed", "of a random split (default 0)"),
    ):
        parser.add_argument(flag, type=int, metavar="N", help=meaning)
    parser.add_argument("--clip", action="store_true", help="move predictions into 1 to 5")
    parser.add_argument("--device", default=Args.device, help="cpu (default) or cuda")


def from_options(options: argparse.Namespace) -> Args:
    """What was chosen on the command line."""
    return Args(**{part.name: getattr(options, part.name) for part in fields(Args)})
