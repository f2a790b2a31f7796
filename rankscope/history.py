"""What becomes of the matrices of a run over its snapshots, noted while spectra pass by.

A spectrum is read once and let go; what later columns need of it is noted here: its norm, and the
rank that the bounds are about. When all have passed, the columns that need more than one snapshot
are filled in, and each run gets its verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from rankscope.measure import Measured
from rankscope.metrics.thresholded import approximation_rank, shares
from rankscope.question import eps_key
from rankscope.records import Spectrum
from rankscope.rows import Row, write
from rankscope.trajectory import MEASURED, RATIO, Passage, Theory, convergence, followed_norm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANY_VIOLATIONS = 20  # kept by name; more are counted


@dataclass(slots=True)
class Sighting:
    """One matrix at one snapshot: its row, and what the theory needs of its spectrum."""

    row: Row
    tensor: str
    norm: float
    ranks: tuple[float | None, ...]


Spectra = dict[str, "NDArray[np.float64]"]


@dataclass(slots=True)
class History:
    """The matrices of all series.

    Attributes:
        theories: of each series; None where it is no run.
        steps: of each series' snapshots, ascending.
        seen: for each series, by matrix, its sightings.
        last: for each of several series, the spectra of its last snapshot over their norms.
        unmeasured: for each series, by matrix, the steps at which it is there without a spectrum.
    """

    theories: Sequence[Theory | None]
    steps: Sequence[Sequence[int | None]]
    seen: dict[tuple[int, str], list[Sighting]] = field(default_factory=dict)
    last: dict[int, tuple[int, Spectra]] = field(default_factory=dict)
    unmeasured: dict[tuple[int, str], list[int]] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that will be filled in."""
        found = [key for theory in self.theories if theory for key in theory.keys]
        return tuple(dict.fromkeys(found))

    def note(self, one: Measured, row: Row) -> None:
        """Take what is needed of a matrix; its row has a None for each of `keys` already."""
        theory, found = self.theories[one.entry.series], one.measurement
        if theory is None:
            return
        row["averaged"] = theory.averaged(one.spec.tensor)
        if isinstance(found, Spectrum):
            norm = followed_norm(found, theory.norm)
            ranks = tuple(_approximation(row, found, eps, theory) for eps in theory.bounded)
            sighting = Sighting(row, one.spec.tensor, norm, ranks)
            self.seen.setdefault((one.entry.series, one.spec.name), []).append(sighting)
            if len(self.theories) > 1 and norm > 0:
                self._keep(one, shares(found, theory.norm))
        elif found.status != "empty" and (step := one.entry.snapshot.step) is not None:
            self.unmeasured.setdefault((one.entry.series, one.spec.name), []).append(step)

    def _keep(self, one: Measured, spectrum: NDArray[np.float64]) -> None:
        """Remember the spectra of the latest snapshot so far, and let the others go."""
        series, step = one.entry.series, one.entry.snapshot.step
        step = -1 if step is None else step
        newest, spectra = self.last.get(series, (step, {}))
        if step > newest:
            newest, spectra = step, {}
        if step == newest:
            spectra[one.spec.name] = spectrum
        self.last[series] = (newest, spectra)

    def complete(self) -> None:
        """Fill in the columns; every matrix has been noted."""
        for sightings in self.seen.values():
            sightings.sort(key=lambda one: -1 if one.row["step"] is None else one.row["step"])
        for series, theory in enumerate(self.theories):
            if theory is None:
                continue
            matrices = list(self._of(series))
            before = dict(zip(self.steps[series][1:], self.steps[series], strict=False))
            passages = [_passage(sightings, before) for _, sightings in matrices]
            for (_, sightings), readings in zip(matrices, theory.readings(passages), strict=True):
                for sighting, found in zip(sightings, readings, strict=True):
                    for key, reading in found.items():
                        write(sighting.row, key, reading)

    def verdicts(self, series: int) -> Row:
        """What a series says of the theorem's assumption, and whether its ranks keep the bound."""
        theory = self.theories[series]
        if theory is None:
            return {"assumption": None, "bound_kept": None}
        return {"assumption": self._assumption(series), "bound_kept": self._kept(series, theory)}

    def finals(self) -> dict[int, Spectra]:
        """The spectra of each series' last snapshot, where there are several series."""
        return {series: spectra for series, (_, spectra) in self.last.items()}

    def _of(self, series: int) -> Iterator[tuple[str, list[Sighting]]]:
        for (index, name), sightings in self.seen.items():
            if index == series:
                yield name, sightings

    def _assumption(self, series: int) -> Row | None:
        ratios = {
            name: [
                (one.row["step"], one.row[RATIO]) for one in sightings if one.row[RATIO] is not None
            ]
            for name, sightings in self._of(series)
        }
        if any(ratios.values()):
            for name, step in self._unmeasured(series):  # of NaN weights no ratio is close to 1
                ratios[name] = sorted([*ratios.get(name, ()), (step, math.nan)])
        found = convergence(ratios)
        if found is None:
            return None
        return {
            "tolerance": found.tolerance,
            "converged": found.converged,
            "since_step": found.since_step,
            "mu": self._mu(series, found.since_step),
            "not_converged": list(found.not_converged),
            "steps_apart": self._apart(series),
        }

    def _unmeasured(self, series: int) -> Iterator[tuple[str, int]]:
        """Every matrix and step at which a series has a matrix and no spectrum of it."""
        for (index, name), steps in self.unmeasured.items():
            if index == series:
                for step in steps:
                    yield name, step

    def _apart(self, series: int) -> list[int]:
        """The least and the most steps between consecutive snapshots, which a ratio is over."""
        steps = [step for step in self.steps[series] if step is not None]
        gaps = [later - earlier for earlier, later in pairwise(steps)]
        return [min(gaps), max(gaps)] if gaps else []

    def _mu(self, series: int, step: int | None) -> float | None:
        """The step size at a step: a ratio is near 1 wherever that is small enough."""
        theory = self.theories[series]
        training = theory.training if theory else None
        if step is None or training is None or training.dynamics is None:
            return None
        return training.dynamics.phase(max(step - 1, 0)).mu

    def _kept(self, series: int, theory: Theory) -> Row | None:
        """How many ranks were compared with Lemma 3.2's bound, and which exceed it."""
        checked, violations = 0, []
        for name, sightings in self._of(series):
            for one in sightings:
                for eps, rank in zip(theory.bounded, one.ranks, strict=True):
                    bound = one.row[eps_key(MEASURED, eps, theory.eps)]
                    if bound is None or rank is None:
                        continue
                    checked += 1
                    if rank > bound:
                        step = one.row["step"]
                        where = {"name": name, "step": step, "eps": eps}
                        violations.append(where | {"rank": rank, "bound": bound})
        if not checked:
            return None
        return {
            "checked": checked,
            "violated": len(violations),
            "violations": violations[:MANY_VIOLATIONS],
        }


def _approximation(row: Row, found: Spectrum, eps: float, theory: Theory) -> float | None:
    """The rank that is bounded, from the row where it is a column."""
    key = eps_key(approximation_rank.__name__, eps, theory.eps)
    return row[key] if key in row else approximation_rank(found, eps, theory.norm).value


def _passage(sightings: Sequence[Sighting], before: Mapping[int | None, int | None]) -> Passage:
    return Passage(
        sightings[0].tensor,
        min(sightings[0].row["shape"]),
        [one.row["step"] for one in sightings],
        [before.get(one.row["step"]) for one in sightings],
        [one.norm for one in sightings],
    )
