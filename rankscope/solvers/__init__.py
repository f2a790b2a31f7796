"""From a matrix to its spectrum: which route, and what becomes of a matrix that has none.

A route is one file with one function `Matrix -> Spectrum`, and one entry in `ROUTES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from rankscope.products import LowRankProduct
from rankscope.records import Matrix, Measurement, Route, Shaped, Spectrum, Unmeasured
from rankscope.solvedmatrix import SolvedMatrix
from rankscope.solvers.device import DeviceMatrix, device_spectrum
from rankscope.solvers.direct import direct_spectrum
from rankscope.solvers.entries import NonFinite, NormOverflow
from rankscope.solvers.factors import factors_spectrum, formation_error
from rankscope.solvers.gram import gram_spectrum

ROUTES: Mapping[Route, Callable[[Matrix], Spectrum]] = MappingProxyType(
    {"gram": gram_spectrum, "direct": direct_spectrum, "factors": factors_spectrum}
)

# Part of a stored spectrum's key: raise it when a change of a solver changes its numbers.
ROUTE_VERSION = 3

# How many unit round-offs per line the two ways to the Frobenius norm may differ. Each sums
# rows + columns terms a line or rotates them in that many steps; the measured difference stays
# under 1.4. sigma_1 off by 1e-6 of itself among 4096 makes it 2000.
NORM_CHECK_FACTOR = 4.0


def solve(matrix: Matrix | DeviceMatrix, route: Route) -> Measurement:
    """The spectrum of a matrix by one route, checked; or why there is none.

    A route that fails, by not converging or by contradicting the entries' norm, is tried again
    by the direct route. What still fails has status `failed`: a wrong spectrum is never returned.
    """
    if isinstance(matrix, SolvedMatrix):
        return _checked(matrix)
    if 0 in matrix.shape:
        return Unmeasured("empty", f"shape {matrix.shape[0]}x{matrix.shape[1]} has no entries")
    reason = ""
    for attempt in dict.fromkeys((route, "direct")):
        try:
            spectrum = _by_route(matrix, attempt)
        except NonFinite:
            return Unmeasured("nonfinite", "holds NaN or infinity")
        except NormOverflow:
            return Unmeasured("failed", "its norm is beyond the range of float64")
        except np.linalg.LinAlgError as error:
            reason = f"{attempt}: {error}"
            continue
        reason = norm_mismatch(spectrum)
        if not reason:
            return _as_formed(spectrum, matrix)
    return Unmeasured("failed", reason)


def _by_route(matrix: Matrix | DeviceMatrix, route: Route) -> Spectrum:
    if isinstance(matrix, DeviceMatrix):
        return device_spectrum(matrix, route)
    return ROUTES[route](matrix)


def _checked(matrix: SolvedMatrix) -> Measurement:
    """A stored spectrum, unless it cannot be one."""
    found = matrix.measurement()
    reason = norm_mismatch(found) if isinstance(found, Spectrum) else ""
    return Unmeasured("failed", reason) if reason else found


def _as_formed(spectrum: Spectrum, matrix: Shaped) -> Spectrum:
    """A spectrum that also tells how far forming the product from its factors carried it."""
    largest = float(spectrum.sigma[0])
    if not isinstance(matrix, LowRankProduct) or spectrum.route == "factors" or largest == 0:
        return spectrum
    error = formation_error(matrix) / largest
    # Near sigma_1 the Gram route is off by half its resolution squared.
    formed = math.sqrt(2 * error) if spectrum.route == "gram" else error
    return replace(spectrum, resolution=max(spectrum.resolution, formed))


def norm_mismatch(spectrum: Spectrum) -> str:
    """How sum sigma^2 contradicts the Frobenius norm of the entries; empty when it does not."""
    norm = spectrum.frobenius_norm
    if norm == 0:
        return "" if not spectrum.sigma.any() else "zero entries with a singular value"
    found = float(np.square(spectrum.sigma / norm).sum())
    tolerance = NORM_CHECK_FACTOR * sum(spectrum.shape) * 2.0**-53
    if spectrum.route == "factors":
        # What cancels between the factors carries each of the r values that are not 0, and the
        # norm, by the resolution.
        rank = len(spectrum.sigma) - spectrum.zeros
        tolerance += 4.0 * math.sqrt(max(1, rank)) * spectrum.resolution
    # Values that are subnormal are themselves multiples of 2^-1074.
    tolerance += 2.0 * len(spectrum.sigma) * (2.0**-1074 / norm)
    if abs(found - 1.0) <= tolerance:
        return ""
    return (
        f"{spectrum.route}: sum of squares is {found:.6g} of the squared Frobenius norm "
        f"of the entries, expected 1 within {tolerance:.1g}"
    )
