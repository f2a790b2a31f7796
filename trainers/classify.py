"""Training a classifier by cross-entropy, and scoring it: what drivers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

Batch = Callable[[Tensor], Tensor]  # from indices of samples to what the model takes

# Samples scored at a time: a ResNet-18's activations on these are about 2 GB.
SCORED = 2000


@dataclass(frozen=True, slots=True)
class Split:
    """A data set: features, shape (samples, features), and labels, shape (samples,)."""

    train_samples: Tensor
    train_labels: Tensor
    test_samples: Tensor
    test_labels: Tensor


def train_epoch(
    model: nn.Module,
    batch: Batch,
    labels: Tensor,
    optimiser: Optimizer,
    batch_size: int,
    order: Generator,
) -> Iterator[None]:
    """One pass over the training samples in a new order, in batches of exactly `batch_size`.

    Comes back after each update, so that the caller can look at the weights.

    The rest that fills no batch is left out: the bound is about batches of one size, and a
    batch norm over two or three samples would upset the running statistics.

    Args:
        model: trained in place.
        batch: makes the model's input of the indices of some samples.
        labels: of all samples.
        optimiser: of the model's parameters.
        batch_size: B.
        order: draws the order.
    """
    model.train()
    shuffled = torch.randperm(len(labels), generator=order)
    for start in range(0, len(shuffled) - batch_size + 1, batch_size):
        chosen = shuffled[start : start + batch_size].to(labels.device)
        optimiser.zero_grad()
        loss = cross_entropy(model(batch(chosen)), labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        yield


def score(
    model: nn.Module, samples: Tensor, labels: Tensor, prepare: Batch | None = None
) -> tuple[float, float]:
    """Mean cross-entropy, and the share of samples classified rightly.

    Args:
        model: put into evaluation mode.
        samples: all of them.
        labels: theirs.
        prepare: makes the model's input of some of the samples; None where they are it.
    """
    model.eval()
    loss = right = 0.0
    with torch.no_grad():
        for start in range(0, len(labels), SCORED):
            some, truth = samples[start : start + SCORED], labels[start : start + SCORED]
            logits = model(some if prepare is None else prepare(some))
            loss += cross_entropy(logits, truth).item() * len(truth)
            right += (logits.argmax(1) == truth).double().sum().item()
    return loss / len(labels), right / len(labels)
