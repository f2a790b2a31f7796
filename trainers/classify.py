"""Training a classifier by cross-entropy, and scoring it: what drivers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

Batch = Callable[[Tensor], Tensor]  # from indices of samples to what the model takes
Step = Callable[[Tensor, Tensor], None]  # a step of training on a batch and its labels

# Samples scored at a time: a ResNet-18's activations on these are about 2 GB.
SCORED = 2000

# Samples prepared at a time, in whole batches: to augment takes some 40 operations however many
# images there are, beside 160 of a ResNet-18's step. As float32 of 3x32x32 they are 25 MB.
PREPARED = 2048


@dataclass(frozen=True, slots=True)
class Split:
    """A data set: features, shape (samples, features), and labels, shape (samples,)."""

    train_samples: Tensor
    train_labels: Tensor
    test_samples: Tensor
    test_labels: Tensor


class Update:
    """One step of SGD on the cross-entropy of a batch.

    The learning rate is a tensor on the weights' device, of their type: a step that was recorded
    (`trainers.speed`) reads it anew each time. PyTorch rounds a number to that type as well.

    Args:
        model: trained in place.
        optimiser: of its parameters.
        bf16: whether the forward pass is under autocast to bfloat16; the weights, their gradients
            and the loss stay float32.
        compiled: whether forward and backward pass are compiled to fewer, larger kernels. The
            model stays what it is, with the names of its tensors.
    """

    def __init__(
        self, model: nn.Module, optimiser: Optimizer, *, bf16: bool = False, compiled: bool = False
    ) -> None:
        self.model = model
        self.optimiser = optimiser
        self._bf16 = bf16
        self._loss = torch.compile(self.loss, fullgraph=True) if compiled else self.loss
        self._rate = next(model.parameters()).new_zeros(())
        self.set_rate(float(optimiser.param_groups[0]["lr"]))

    def set_rate(self, rate: float) -> None:
        """The learning rate from now on."""
        self._rate.fill_(rate)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate  # an optimiser whose state was loaded has another tensor

    def loss(self, inputs: Tensor, truth: Tensor) -> Tensor:
        """The batch's mean cross-entropy."""
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._bf16):
            return cross_entropy(self.model(inputs), truth)

    def __call__(self, inputs: Tensor, truth: Tensor) -> None:
        """Take the step; nothing waits for the device."""
        self.optimiser.zero_grad()
        self._loss(inputs, truth).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()


def train_epoch(
    model: nn.Module,
    update: Step,
    batch: Batch,
    labels: Tensor,
    batch_size: int,
    order: Generator,
) -> Iterator[None]:
    """One pass over the training samples in a new order, in batches of exactly `batch_size`.

    Comes back after each update, so that the caller can look at the weights.

    The rest that fills no batch is left out: the bound is about batches of one size, and a
    batch norm over two or three samples would upset the running statistics.

    What `batch` draws is drawn for many batches at once, so that its generator is where the
    updates are at the end of an epoch only.

    Args:
        model: trained in place, by `update`.
        update: takes a step on a batch.
        batch: makes the model's input of the indices of some samples.
        labels: of all samples.
        batch_size: B.
        order: draws the order.
    """
    model.train()
    whole = len(labels) // batch_size * batch_size
    shuffled = torch.randperm(len(labels), generator=order)[:whole].to(labels.device)
    for some in torch.split(shuffled, max(PREPARED // batch_size, 1) * batch_size):
        inputs, truth = batch(some), labels[some]
        batches = torch.split(inputs, batch_size), torch.split(truth, batch_size)
        for one, its_labels in zip(*batches, strict=True):
            update(one, its_labels)
            yield


def score(
    model: nn.Module,
    samples: Tensor,
    labels: Tensor,
    prepare: Batch | None = None,
    *,
    bf16: bool = False,
) -> tuple[float, float]:
    """Mean cross-entropy, and the share of samples classified rightly.

    Args:
        model: put into evaluation mode.
        samples: all of them.
        labels: theirs.
        prepare: makes the model's input of some of the samples; None where they are it.
        bf16: whether the forward pass is under autocast to bfloat16.
    """
    model.eval()
    # Loss and hits, summed where the samples are: the device is waited for once, at the end.
    sums = torch.zeros(2, dtype=torch.float64, device=labels.device)
    with torch.no_grad(), torch.autocast(labels.device.type, torch.bfloat16, enabled=bf16):
        parts = torch.split(samples, SCORED), torch.split(labels, SCORED)
        for some, truth in zip(*parts, strict=True):
            logits = model(some if prepare is None else prepare(some))
            sums[0] += cross_entropy(logits, truth).double() * len(truth)
            sums[1] += (logits.argmax(1) == truth).sum()
    loss, right = sums.tolist()
    return loss / len(labels), right / len(labels)
