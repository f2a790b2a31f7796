"""The architectures of P1, appendix B.1, one file each.

    model = build("resnet18", (3, 32, 32), 10)
    RunRecord(matrices=records(model, (3, 32, 32)), ...)

All take images of shape (samples, C, H, W) and start as PyTorch initialises their layers, with
its random numbers.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from rankscope import matrix_records
from rankscope.errors import UsageError
from trainers.networks.mlp import MlpBn
from trainers.networks.network import Network
from trainers.networks.residual import ResBn
from trainers.networks.resnet import ResNet18
from trainers.networks.vgg import Vgg16
from trainers.networks.vit import Vit

if TYPE_CHECKING:
    from rankscope.snapshots import MatrixRecord

__all__ = [
    "ARCHITECTURES",
    "MlpBn",
    "Network",
    "ResBn",
    "ResNet18",
    "Vgg16",
    "Vit",
    "build",
    "records",
]

ARCHITECTURES = ("resnet18", "vgg16", "mlp-bn-L-H", "res-bn-L-H", "vit")

# Five digits: P1's widest has 10000.
SIZED = re.compile(r"(mlp|res)-bn-([1-9][0-9]{0,4})-([1-9][0-9]{0,4})")


def build(
    arch: str, image_shape: tuple[int, int, int], classes: int, *, leaky_relu: bool = False
) -> Network:
    """A freshly initialised network.

    Args:
        arch: one of `ARCHITECTURES`, L and H being numbers: `mlp-bn-10-100`.
        image_shape: channels, height and width of an image.
        classes: logits per sample.
        leaky_relu: leaky ReLUs, as P1's authors' code has them, in place of P1's ReLUs.

    Raises:
        UsageError: there is no such architecture; it does not take such images; it has no ReLU.
    """
    if min(*image_shape, classes) < 1:
        raise UsageError(f"images are {image_shape}, classes {classes}, expected positive numbers")
    sized = SIZED.fullmatch(arch)
    if sized:
        network = MlpBn if sized[1] == "mlp" else ResBn
        features, depth, width = math.prod(image_shape), int(sized[2]), int(sized[3])
        return network(features, depth, width, classes, leaky_relu=leaky_relu)
    if arch == "resnet18":
        return ResNet18(image_shape[0], classes, leaky_relu=leaky_relu)
    if arch == "vgg16":
        return Vgg16(image_shape, classes, leaky_relu=leaky_relu)
    if arch == "vit":
        if leaky_relu:
            raise UsageError("vit has GELUs: leave out leaky_relu")
        return Vit(image_shape, classes)
    choices = ", ".join(ARCHITECTURES)
    raise UsageError(
        f"arch is {arch!r}, expected one of {choices}, with the number of layers for L and their "
        "width for H: mlp-bn-10-100"
    )


def records(model: Network, image_shape: tuple[int, int, int]) -> tuple[MatrixRecord, ...]:
    """What `RunRecord.matrices` says: each matrix's kind, inputs per sample and `averaged`.

    Runs the model in the mode that it is in, on blank images, on its device. Its parameters,
    buffers and mode, and PyTorch's random numbers, stay as they are.
    """
    blank = next(model.parameters()).new_zeros
    averaged = model.averaged()
    found = matrix_records(model, lambda samples: model(blank((samples, *image_shape))))
    return tuple(replace(record, averaged=record.name in averaged) for record in found)
