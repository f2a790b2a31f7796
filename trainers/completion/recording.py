"""What is read of a batch of networks while it is trained, and the file that keeps it.

`completion.jsonl` in a run directory has a line for every record, beside log.jsonl, which knows
losses only:

    step                  updates done
    train_loss            at the observed entries, without the penalty
    penalty               its value, without lambda; null without one
    error_all             mean of (W - W*)^2 over all entries
    error_unobserved      over those that are not observed
    relative_all, relative_unobserved   the same over the mean of W*^2 over the same entries
    effective_rank        exp of the entropy of sigma / sum sigma; null for W = 0
    frobenius_norm, nuclear_norm, spectral_norm
    sigma                 the chosen singular values, by their number from 1
    det_sign              1, -1 or 0 of a square W; else null
    imbalance             see `factors.imbalance`; null for depth 1
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from rankscope.errors import OutputFailed
from trainers.completion.factors import imbalance
from trainers.completion.history import RECORDS
from trainers.completion.spectral import spectra


@dataclass(frozen=True, slots=True)
class Reading:
    """One record of one network; the module says what the numbers are.

    Attributes:
        sigma: all singular values, descending.
    """

    step: int
    train_loss: float
    penalty: float | None
    error_all: float
    error_unobserved: float
    relative_all: float
    relative_unobserved: float
    effective_rank: float | None
    sigma: tuple[float, ...]
    det_sign: int | None
    imbalance: float | None

    @property
    def frobenius_norm(self) -> float:
        """From the singular values."""
        return math.hypot(*self.sigma)

    def to_json(self, chosen: Sequence[int]) -> dict[str, object]:
        """A line of the file, with these singular values, counted from 1.

        A number that is not finite is null: JSON has no name for it.
        """
        line = {
            "step": self.step,
            "train_loss": _finite(self.train_loss),
            "penalty": _finite(self.penalty),
            "error_all": _finite(self.error_all),
            "error_unobserved": _finite(self.error_unobserved),
            "relative_all": _finite(self.relative_all),
            "relative_unobserved": _finite(self.relative_unobserved),
            "effective_rank": _finite(self.effective_rank),
            "frobenius_norm": _finite(self.frobenius_norm),
            "nuclear_norm": _finite(sum(self.sigma)),
            "spectral_norm": _finite(self.sigma[0]),
            "det_sign": self.det_sign,
            "imbalance": _finite(self.imbalance),
        }
        sigma = {str(number): _finite(self.sigma[number - 1]) for number in chosen}
        return {**line, "sigma": sigma}


@dataclass(frozen=True, slots=True)
class Targets:
    """What a batch of networks is compared with.

    Attributes:
        target: W*, shape (batch, m, n).
        observed: which entries are known, the same shape, bool.
        factor: of the sum of squared errors in the loss, shape (batch,).
    """

    target: Tensor
    observed: Tensor
    factor: Tensor

    def kept(self, positions: Tensor) -> Targets:
        """Those of some networks only."""
        return Targets(self.target[positions], self.observed[positions], self.factor[positions])


def read(
    step: int, product: Tensor, layers: Sequence[Tensor], goals: Targets, penalties: Tensor
) -> list[Reading]:
    """Read every network of a batch; costs the singular values of each, in float64.

    Args:
        step: updates done.
        product: W, shape (batch, m, n).
        layers: W_1, ..., W_N.
        goals: what they are trained to be.
        penalties: their values, shape (batch,), NaN where there is none.
    """
    # In float32 the squares of errors of 1e-3 would still do; the singular values would not.
    exact = product.double()
    squares = (exact - goals.target.double()).square()
    powers = goals.target.double().square()
    everywhere = torch.ones_like(goals.observed)
    hidden = ~goals.observed
    loss = goals.factor.double() * (squares * goals.observed).sum((-2, -1))
    sigma = spectra(exact)
    gaps = imbalance([layer.double() for layer in layers])
    error_all, error_unobserved = _mean(squares, everywhere), _mean(squares, hidden)
    columns = torch.stack(
        (
            loss,
            penalties.double(),
            error_all,
            error_unobserved,
            error_all / _mean(powers, everywhere),
            error_unobserved / _mean(powers, hidden),
            effective_rank(sigma),
            torch.full_like(loss, torch.nan) if gaps is None else gaps,
        ),
        dim=1,
    ).tolist()
    return [
        Reading(
            step,
            train_loss=row[0],
            penalty=_known(row[1]),
            error_all=row[2],
            error_unobserved=row[3],
            relative_all=row[4],
            relative_unobserved=row[5],
            effective_rank=_known(row[6]),
            sigma=tuple(values),
            det_sign=sign,
            imbalance=_known(row[7]),
        )
        for row, values, sign in zip(columns, sigma.tolist(), _signs(exact), strict=True)
    ]


def effective_rank(sigma: Tensor) -> Tensor:
    """exp(-sum p ln p), p = sigma / sum sigma (Roy & Vetterli 2007), shape (batch,); NaN for 0.

    Args:
        sigma: shape (batch, k).
    """
    shares = sigma / sigma.sum(-1, keepdim=True)
    entropy: Tensor = torch.special.entr(shares).sum(-1)
    return entropy.exp()


class RecordFile:
    """`completion.jsonl` while it is written.

    Args:
        run_dir: an existing run directory.
        chosen: which singular values it gets, counted from 1.
    """

    def __init__(self, run_dir: Path, chosen: Sequence[int]) -> None:
        self._path = run_dir / RECORDS
        self._chosen = tuple(chosen)
        try:
            self._handle = self._path.open("w", encoding="utf-8")
        except OSError as error:
            raise OutputFailed(self._path, error.strerror or str(error)) from error

    def add(self, reading: Reading) -> None:
        """One line.

        Raises:
            OutputFailed: the disk is full.
        """
        try:
            self._handle.write(json.dumps(reading.to_json(self._chosen)) + "\n")
            self._handle.flush()  # a run that is watched, or killed, shows what it has
        except OSError as error:
            raise OutputFailed(self._path, error.strerror or str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._handle.close()


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Over some entries of each matrix, shape (batch,)."""
    return (values * where).sum((-2, -1)) / where.sum((-2, -1))


def _signs(matrices: Tensor) -> list[int | None]:
    if matrices.shape[-2] != matrices.shape[-1]:
        return [None] * len(matrices)
    return [int(sign) for sign in torch.linalg.slogdet(matrices).sign.nan_to_num().tolist()]


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
