"""Deep linear networks, W = W_N ... W_1, in batches: initialisation, product and gradients.

A network is the list of its layers W_1, ..., W_N, as P2 numbers them; layer j has the shape
(d_j, d_{j-1}), or (batch, d_j, d_{j-1}) in a batch of networks of the same widths, so that d_0 is
n and d_N is m.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rankscope.errors import UsageError
from trainers.completion.cell import Initialisation

# Random numbers other than those of the problem with the same seed.
STREAM = 1


def initialise(start: Initialisation, widths: Sequence[int], seed: int) -> list[Tensor]:
    """The layers of one network, float64, the same whatever is trained beside it.

    Args:
        start: how and how large.
        widths: d_0, ..., d_N.
        seed: of the random ones.

    Raises:
        UsageError: the initialisation needs wider layers.
    """
    # PyTorch's generator on a CPU takes 32 bits of a seed: adding 2^32 would change nothing.
    (mixed,) = np.random.SeedSequence(seed, spawn_key=(STREAM,)).generate_state(1)
    generator = torch.Generator().manual_seed(int(mixed))
    shapes = [(after, before) for before, after in itertools.pairwise(widths)]
    depth, size = len(shapes), start.size
    if start.kind in ("balanced", "identity") and min(widths) < min(widths[0], widths[-1]):
        raise UsageError(
            f"widths {'-'.join(map(str, widths))}: a {start.kind} initialisation needs all of them "
            f"at least {min(widths[0], widths[-1])}"
        )
    if start.kind == "identity":
        share = size ** (1 / depth)
        return [share * torch.eye(*shape, dtype=torch.float64) for shape in shapes]
    if start.kind == "std":
        return _gaussian(shapes, size, generator)
    # E ||W||_F^2 is the product of all widths times that of the layers' variances.
    if start.kind == "scale":
        deviation = math.exp((math.log(size) - sum(map(math.log, widths)) / 2) / depth)
        return _gaussian(shapes, deviation, generator)
    ends = [(widths[-1], widths[0])]
    (product,) = _gaussian(ends, size / math.sqrt(math.prod(ends[0])), generator)
    return _balanced(product, shapes)


def _gaussian(
    shapes: Sequence[tuple[int, int]], deviation: float, generator: torch.Generator
) -> list[Tensor]:
    return [
        deviation * torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in shapes
    ]


def _balanced(product: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Layers with W_{j+1}^T W_{j+1} = W_j W_j^T and this product.

    Each gets the N-th root of the singular values, the first and the last also the singular
    vectors; the rest of a wider layer is zero (Arora, Cohen & Hazan 2018, procedure 1).
    """
    left, sigma, right = torch.linalg.svd(product, full_matrices=False)
    root = torch.diag(sigma ** (1 / len(shapes)))
    layers = []
    for number, shape in enumerate(shapes):
        core = root @ right if number == 0 else root
        core = left @ core if number == len(shapes) - 1 else core
        layer = torch.zeros(*shape, dtype=product.dtype)
        layer[: core.shape[0], : core.shape[1]] = core
        layers.append(layer)
    return layers


def partial_products(layers: Sequence[Tensor]) -> list[Tensor]:
    """W_1, W_2 W_1, ..., W_N ... W_1; the last is the matrix that the network is."""
    return list(itertools.accumulate(layers, lambda product, layer: layer @ product))


def gradients(
    layers: Sequence[Tensor], products: Sequence[Tensor], gradient: Tensor
) -> list[Tensor]:
    """Of a function of W with respect to each layer (P2, Eq. 13): 2 N - 2 matrix products.

    (W_N ... W_{j+1})^T G (W_{j-1} ... W_1)^T; the left factor times G grows from the last layer on.

    Args:
        layers: W_1, ..., W_N.
        products: `partial_products` of them.
        gradient: G, with respect to W, shape (batch, m, n).
    """
    found = []
    pulled = gradient
    for number in range(len(layers) - 1, 0, -1):
        found.append(pulled @ products[number - 1].mT)
        pulled = layers[number].mT @ pulled
    return [pulled, *reversed(found)]


def imbalance(layers: Sequence[Tensor]) -> Tensor | None:
    """How far a network is from balanced, shape (batch,); None for one layer.

    max over j of ||W_{j+1}^T W_{j+1} - W_j W_j^T||_F, relative to the largest ||W_j||_F^2. Gradient
    flow keeps the matrices inside the norm as they are (Arora, Cohen & Hazan 2018, theorem 1).
    """
    if len(layers) == 1:
        return None
    gaps = [
        torch.linalg.matrix_norm(after.mT @ after - before @ before.mT)
        for before, after in itertools.pairwise(layers)
    ]
    sizes = [torch.linalg.matrix_norm(layer).square() for layer in layers]
    return torch.stack(gaps).amax(0) / torch.stack(sizes).amax(0)
