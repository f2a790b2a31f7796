"""Spectra as text that a browser unpacks: small, and exact to the bit where there are not too many.

A pack is made of all its spectra one after the other. Descending numbers above 0 have descending
bit patterns, so what is stored is by how much each pattern is below the one before: most bytes of
these differences are 0. The bytes are then put into an order of significance (first the lowest
byte of every number, as HDF5's shuffle filter does), deflated, and written in base64. Where one
spectrum follows another the difference wraps around, which unpacking undoes.

Exact packs hold float64. Others hold float32, of sigma / sigma_1 so that nothing leaves float32's
range: these are off by up to 2^-24 of themselves, and the page marks a count that hangs on it.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankscope.rows import Row
from rankscope.scene import Curve
from rankscope.text import printable

# In float64 a singular value takes some 7 characters, in float32 some 3: so many come to 2 MB.
MOST_EXACT = 300_000

LEVEL = 9  # of deflate: a tenth smaller than level 6, in a time that nobody notices


def pack(curves: Sequence[Curve], *, exact: bool) -> Row:
    """The pack of some curves: `type`, `data`, and what each curve is.

    Args:
        curves: their singular values are concatenated in this order.
        exact: in float64 rather than float32.
    """
    kind = "float64" if exact else "float32"
    values = [one.spectrum.sigma if exact else _relative(one.spectrum.sigma) for one in curves]
    numbers = np.concatenate([np.zeros(0), *values]).astype(kind)
    return {"type": kind, "data": encoded(numbers), "curves": [_head(one) for one in curves]}


def encoded(numbers: NDArray[np.floating[Any]]) -> str:
    """The bytes of descending floats as base64 text; see the module."""
    width = numbers.dtype.itemsize
    patterns = numbers.astype(f"<f{width}").view(f"<u{width}")
    differences = np.concatenate((patterns[:1], patterns[:-1] - patterns[1:]))
    planes = differences.astype(f"<u{width}").view(np.uint8).reshape(-1, width).T
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)  # negative: no header
    return base64.b64encode(deflate.compress(planes.tobytes()) + deflate.flush()).decode("ascii")


def _relative(sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = float(sigma[0])
    return sigma / largest if largest > 0 else sigma


def _head(curve: Curve) -> Row:
    """What a curve is, without its numbers; as many of these as its shape says."""
    spectrum = curve.spectrum
    return {
        "source": printable(curve.source),
        "name": printable(curve.name),
        "step": curve.step,
        "shape": list(spectrum.shape),
        "dtype": spectrum.dtype,
        "largest": float(spectrum.sigma[0]),
        "frobenius": spectrum.frobenius_norm,
        "resolution": spectrum.resolution,
        "route": spectrum.route,
        "zeros": spectrum.zeros,
    }
