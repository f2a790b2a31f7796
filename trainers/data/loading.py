"""A data set by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from rankscope.errors import UsageError
from trainers.data import cifar, distributions, idx, svhn
from trainers.data.arrays import CLASSES, Samples
from trainers.data.bundled import DIGITS, SYNTHETIC, digits, synthetic
from trainers.data.distributions import Original
from trainers.data.images import Images
from trainers.data.stored import Stored, read_original

Decoder = Callable[[Sequence[Stored]], tuple[Samples, Samples]]

# By name: what its files are, and a decoder for each of its forms.
ORIGINALS: dict[str, tuple[Original, tuple[Decoder, ...]]] = {
    "cifar10": (distributions.CIFAR10, (cifar.decode_pickles, cifar.decode_records)),
    "mnist": (distributions.MNIST, (idx.decode,)),
    "fashion-mnist": (distributions.FASHION_MNIST, (idx.decode,)),
    "svhn": (distributions.SVHN, (svhn.decode,)),
}
NAMES = (*ORIGINALS, DIGITS, SYNTHETIC)


def load(
    name: str,
    directory: Path | None = None,
    *,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    verify: bool = True,
) -> Images:
    """A data set, whole, on a device.

    Args:
        name: one of NAMES.
        directory: where its files are, as they were downloaded or unpacked (`distributions.py`
            has every name); not needed for digits and synthetic. CIFAR-10: the folder
            cifar-10-batches-py or cifar-10-batches-bin, or either archive. MNIST and
            Fashion-MNIST: their four idx files, gzipped or not, there or in mnist and
            fashion-mnist. SVHN: train_32x32.mat and test_32x32.mat, there or in svhn.
        limit: at most so many training and so many test images, drawn at random with `seed` and
            evenly over the classes (`Images.limited`).
        device: of the tensors.
        seed: of `limit` and of synthetic; runs to be compared share it.
        verify: whether the files must be the original ones, by their MD5 checksums. Without it
            another copy will do; MNIST and Fashion-MNIST then look alike, unless the file is
            known to be the other's.

    Raises:
        UsageError: no such name, no directory, a limit below 1.
        InputRejected: a file is missing, damaged or another.
    """
    images = _whole(name, directory, seed=seed, verify=verify)
    if limit is not None:
        images = images.limited(limit, seed)
    return images.to(device)


def _whole(name: str, directory: Path | None, *, seed: int, verify: bool) -> Images:
    if name == DIGITS:
        return digits()
    if name == SYNTHETIC:
        return synthetic(seed=seed)
    if name not in ORIGINALS:
        raise UsageError(f"no data set {name!r}; there are {', '.join(NAMES)}")
    original, decoders = ORIGINALS[name]
    if directory is None:
        raise UsageError(
            f"{name} needs the directory with {original.title}'s files, from {original.home}"
        )
    form, files = read_original(original, directory, verify=verify)
    train, test = decoders[original.forms.index(form)](files)
    return Images(
        torch.from_numpy(train.images),
        torch.from_numpy(train.labels),
        torch.from_numpy(test.images),
        torch.from_numpy(test.labels),
        classes=CLASSES,
        name=name,
    )
