"""Training a classifier by cross-entropy, and scoring it: what drivers share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class Split:
    """A data set: features, shape (samples, features), and labels, shape (samples,)."""

    train_samples: Tensor
    train_labels: Tensor
    test_samples: Tensor
    test_labels: Tensor


def train_epoch(
    model: nn.Module, split: Split, optimiser: Optimizer, batch_size: int, order: Generator
) -> Iterator[None]:
    """One pass over the training samples in a new order, in batches of exactly `batch_size`.

    Comes back after each update, so that the caller can look at the weights.

    The rest that fills no batch is left out: the bound is about batches of one size, and a
    batch norm over two or three samples would upset the running statistics.
    """
    model.train()
    shuffled = torch.randperm(len(split.train_labels), generator=order)
    for start in range(0, len(shuffled) - batch_size + 1, batch_size):
        batch = shuffled[start : start + batch_size]
        optimiser.zero_grad()
        loss = cross_entropy(model(split.train_samples[batch]), split.train_labels[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        yield


def score(model: nn.Module, samples: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy, and the share of samples classified rightly."""
    model.eval()
    with torch.no_grad():
        logits = model(samples)
    loss = cross_entropy(logits, labels).item()
    return loss, (logits.argmax(1) == labels).double().mean().item()
