"""The metrics: pure functions from a `Spectrum` to a `Reading`.

A new metric is one function in a file of its own, and one entry in `METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rankscope.metrics.condition import condition_number
from rankscope.metrics.energy import distance_to_rank, energy_rank
from rankscope.metrics.entropy import effective_rank, spectral_entropy
from rankscope.metrics.moments import participation_ratio, stable_rank
from rankscope.metrics.norms import frobenius_norm, nuclear_norm, schatten_norm, spectral_norm
from rankscope.metrics.numerical import numerical_rank
from rankscope.metrics.ratios import nuclear_ratio, schatten_ratio
from rankscope.metrics.thresholded import approximation_rank, head_mass, rank
from rankscope.records import Reading

__all__ = [
    "METRICS",
    "Metric",
    "approximation_rank",
    "condition_number",
    "distance_to_rank",
    "effective_rank",
    "energy_rank",
    "frobenius_norm",
    "head_mass",
    "nuclear_norm",
    "nuclear_ratio",
    "numerical_rank",
    "participation_ratio",
    "rank",
    "schatten_norm",
    "schatten_ratio",
    "spectral_entropy",
    "spectral_norm",
    "stable_rank",
]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as the table and the command line know it.

    Attributes:
        function: `(spectrum, *parameters) -> Reading`; its name and docstring are the metric's.
        heading: words for the head of a narrow column, one a line.
        parameters: names that may be given, as in `schatten_norm(p=0.5)`, in order.
        required: how many of them have no default.
        thresholded: takes `eps` and `norm`; several eps make several columns.
        default: among the columns when none are named.
        integer: counts directions.
    """

    function: Callable[..., Reading]
    heading: str
    parameters: tuple[str, ...] = ()
    required: int = 0
    thresholded: bool = False
    default: bool = True
    integer: bool = False

    @property
    def name(self) -> str:
        """The metric's name, as in `--metric`."""
        return self.function.__name__


# In the order of columns: what a narrow terminal has room for stands first.
METRICS: tuple[Metric, ...] = (
    Metric(rank, "rank", thresholded=True, integer=True),
    Metric(effective_rank, "eff. rank"),
    Metric(numerical_rank, "numer. rank", parameters=("rule",), integer=True),
    Metric(stable_rank, "stable rank"),
    Metric(energy_rank, "energy rank", parameters=("p",), integer=True),
    Metric(approximation_rank, "approx. rank", thresholded=True, integer=True),
    Metric(participation_ratio, "partic. ratio"),
    Metric(nuclear_ratio, "nuclear ratio"),
    Metric(spectral_norm, "spectral norm"),
    Metric(frobenius_norm, "frob. norm"),
    Metric(nuclear_norm, "nuclear norm"),
    Metric(condition_number, "cond. number"),
    Metric(schatten_norm, "schatten norm", parameters=("p",), required=1, default=False),
    Metric(schatten_ratio, "schatten ratio", parameters=("p", "q"), required=2, default=False),
    Metric(distance_to_rank, "distance to rank", parameters=("r",), required=1, default=False),
    Metric(spectral_entropy, "spectral entropy", default=False),
    Metric(head_mass, "head mass", thresholded=True, default=False),
)
