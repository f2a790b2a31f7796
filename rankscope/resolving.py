"""A spectrum of which every value can be told from zero, whatever will be asked of it later."""

from __future__ import annotations

from rankscope.records import Matrix, Measurement, Spectrum
from rankscope.resolution import unresolved
from rankscope.solvers import solve
from rankscope.solvers.device import DeviceMatrix


def resolved_spectrum(matrix: Matrix | DeviceMatrix) -> Measurement:
    """The Gram route, and the direct one where that leaves any value unresolved."""
    found = solve(matrix, "gram")
    if not isinstance(found, Spectrum) or found.route != "gram" or not unresolved(found):
        return found
    better = solve(matrix, "direct")
    return better if isinstance(better, Spectrum) else found
