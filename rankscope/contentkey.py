"""What a matrix is, whatever file it is in."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import numpy as np

from rankscope.products import AnyMatrix, LowRankProduct
from rankscope.records import Solved
from rankscope.solvedmatrix import SolvedMatrix

HASH_ELEMENTS = 2**20  # a window of at most 8 MiB: more makes hashing no faster


def content_key(matrix: AnyMatrix) -> bytes:
    """What a matrix is, whatever file it is in: SHA-256 of its shape, type and elements.

    Of a product: of its shape, type and scale, and of the keys of its factors. Of a stored
    spectrum: of that, since nothing is known of the elements.
    """
    if isinstance(matrix, SolvedMatrix):
        scalars = [part.name for part in fields(Solved) if part.name != "sigma"]
        told = [getattr(matrix.solved, name) for name in scalars]
        head = f"spectrum {matrix.shape} {matrix.dtype} {told}".encode()
        return hashlib.sha256(head + matrix.sigma().tobytes()).digest()
    if isinstance(matrix, LowRankProduct):
        head = f"product {matrix.shape} {matrix.dtype} {matrix.scale.hex()}".encode()
        keys = content_key(matrix.left) + content_key(matrix.right)
        return hashlib.sha256(head + keys).digest()
    digest = hashlib.sha256(f"{matrix.shape} {matrix.dtype}".encode())
    for window in matrix.row_major(HASH_ELEMENTS):
        # In this machine's byte order: the same bytes in another are other numbers.
        native = window.dtype.newbyteorder("=")
        digest.update(np.ascontiguousarray(window, native).view(np.uint8).data)
    return digest.digest()
