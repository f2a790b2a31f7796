"""A spectrum of which every value is known, whatever will be asked of it later."""

from __future__ import annotations

from rankscope.records import Matrix, Measurement, Spectrum
from rankscope.resolution import READING_RTOL, uncertainties
from rankscope.solvers import solve
from rankscope.solvers.device import DeviceMatrix


def resolved_spectrum(matrix: Matrix | DeviceMatrix) -> Measurement:
    """The Gram route, and the direct one where that leaves any value off by `READING_RTOL`."""
    found = solve(matrix, "gram")
    if not isinstance(found, Spectrum) or found.route != "gram" or not found.sigma.any():
        return found
    relative = found.sigma / found.sigma[0]
    if (uncertainties(found) <= READING_RTOL * relative).all():
        return found
    better = solve(matrix, "direct")
    return better if isinstance(better, Spectrum) else found
