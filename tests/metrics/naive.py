"""Every metric as a loop over numpy.linalg.svd in fp64, written from its definition.

Deliberately slow and plain, and sharing no line with the library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def sigmas(w: Array) -> list[float]:
    return [float(s) for s in np.linalg.svd(w.astype(np.float64), compute_uv=False)]


def frobenius(w: Array) -> float:
    return math.sqrt(math.fsum(float(x) ** 2 for x in w.ravel()))


def norm_of(w: Array, norm: str) -> float:
    return {"frobenius": frobenius(w), "spectral": sigmas(w)[0], "none": 1.0}[norm]


def rank(w: Array, eps: float, norm: str) -> int:
    if frobenius(w) == 0:
        return 0
    return sum(1 for s in sigmas(w) if s / norm_of(w, norm) > eps)


def approximation_rank(w: Array, eps: float, norm: str) -> int:
    """Truncate the SVD at every r and measure the distance itself."""
    u, s, vt = np.linalg.svd(w.astype(np.float64), full_matrices=False)
    for r in range(len(s) + 1):
        left = w.astype(np.float64) - (u[:, :r] * s[:r]) @ vt[:r]
        distance = np.linalg.norm(left, 2 if norm == "spectral" else "fro")
        if distance <= eps * norm_of(w, norm):
            return r
    return len(s)


def numerical_rank(w: Array) -> int:
    unit = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
    a = w.astype(np.float64)
    rows = max(math.sqrt(math.fsum(x * x for x in row)) for row in a.tolist())
    columns = max(math.sqrt(math.fsum(x * x for x in column)) for column in a.T.tolist())
    return sum(1 for s in sigmas(w) if s > unit[w.dtype.name] * (rows + columns))


def spectral_entropy(w: Array) -> float | None:
    s = sigmas(w)
    total = math.fsum(s)
    if total == 0:
        return None
    entropy = 0.0
    for value in s:
        p = value / total
        if p > 0:
            entropy -= p * math.log(p)
    return entropy


def effective_rank(w: Array) -> float | None:
    entropy = spectral_entropy(w)
    return None if entropy is None else math.exp(entropy)


def head_mass(w: Array, eps: float, norm: str) -> float | None:
    s = sigmas(w)
    if s[0] == 0:
        return None
    return math.fsum(x for x in s if x / norm_of(w, norm) > eps) / math.fsum(s)


def stable_rank(w: Array) -> float | None:
    s = sigmas(w)
    return None if s[0] == 0 else frobenius(w) ** 2 / s[0] ** 2


def participation_ratio(w: Array) -> float | None:
    s = sigmas(w)
    if s[0] == 0:
        return None
    return math.fsum(x**2 for x in s) ** 2 / math.fsum(x**4 for x in s)


def energy_rank(w: Array, p: float = 0.99) -> int:
    s = sigmas(w)
    total = math.fsum(x * x for x in s)
    for r in range(len(s) + 1):
        if math.fsum(x * x for x in s[:r]) >= p * total:
            return r
    return len(s)


def nuclear_ratio(w: Array) -> float | None:
    return None if frobenius(w) == 0 else math.fsum(sigmas(w)) / frobenius(w)


def condition_number(w: Array) -> float | None:
    s = sigmas(w)
    return None if s[0] == 0 else s[0] / s[-1]


def schatten(w: Array, p: float) -> float:
    return float(math.fsum(x**p for x in sigmas(w)) ** (1 / p))


def distance_to_rank(w: Array, r: int) -> float:
    u, s, vt = np.linalg.svd(w.astype(np.float64), full_matrices=False)
    return frobenius(w.astype(np.float64) - (u[:, :r] * s[:r]) @ vt[:r])


# Name with parameters -> the loop that defines it, for matrices of full numerical rank.
DEFINITIONS: dict[str, Callable[[Array], float | None]] = {
    "rank": lambda w: rank(w, 1e-3, "frobenius"),
    "approximation_rank": lambda w: approximation_rank(w, 1e-3, "frobenius"),
    "numerical_rank": numerical_rank,
    "effective_rank": effective_rank,
    "stable_rank": stable_rank,
    "participation_ratio": participation_ratio,
    "energy_rank": energy_rank,
    "energy_rank(0.9)": lambda w: energy_rank(w, 0.9),
    "spectral_norm": lambda w: sigmas(w)[0],
    "frobenius_norm": frobenius,
    "nuclear_norm": lambda w: math.fsum(sigmas(w)),
    "nuclear_ratio": nuclear_ratio,
    "condition_number": condition_number,
    "schatten_norm(0.5)": lambda w: schatten(w, 0.5),
    "schatten_norm(3)": lambda w: schatten(w, 3),
    "schatten_ratio(1/3, 2/3)": lambda w: schatten(w, 1 / 3) / schatten(w, 2 / 3),
    "distance_to_rank(2)": lambda w: distance_to_rank(w, 2),
    "spectral_entropy": spectral_entropy,
    "head_mass": lambda w: head_mass(w, 1e-3, "frobenius"),
}
