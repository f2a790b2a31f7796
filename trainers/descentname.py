"""What run.json calls gradient descent: "sgd" only where P1's theorem is about it."""

from __future__ import annotations


def descent_name(*, factors: bool, penalised: bool) -> str:
    """The optimiser's name for a matrix that is trained by PyTorch's SGD.

    The theorem needs updates of the matrix itself by gradients of samples, each of low rank.
    `rankscope` applies it to "sgd", and to no other name.

    Args:
        factors: the matrix is a product, and its factors are what is updated.
        penalised: the loss has a term of the matrix beside those of the samples.
    """
    if factors:
        return "gd on factors"
    return "gd with a penalty" if penalised else "sgd"
