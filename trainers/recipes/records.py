"""What a recipe is: the runs behind one figure of a paper, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.imageargs import Args

# per_epoch: average rank (and accuracies) over the epochs, a line a run.
# grid: the final average rank over two hyperparameters.
# norm_ratio: ratio of the norms of consecutive epochs, per layer, a line a run.
# spectra: the singular values at the end, per layer, a line a run.
# bound: the final average rank and the bound, over eps.
Drawing = Literal["per_epoch", "grid", "norm_ratio", "spectra", "bound"]


@dataclass(frozen=True, slots=True)
class Panel:
    """Runs that stand in one pair of axes.

    Attributes:
        title: what they have in common.
        runs: one `Args` each; `out` is the run directory's name, the same for the same choices
            in whatever figure.
        vary: the fields of `Args` in which they differ: one, or two for a grid.
        told: the fields of which the title is made; () where it is made of none.
    """

    title: str
    runs: tuple[Args, ...]
    vary: tuple[str, ...]
    told: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """One figure.

    Attributes:
        name: `P1-F2`.
        title: what it shows, in our words.
        drawing: how.
        panels: in the paper's order.
        eps: the thresholds of the rank.
        accuracies: whether it shows training and test accuracy too.
        source: where the protocol and its numbers stand, and what had to be read off or guessed.
    """

    name: str
    title: str
    drawing: Drawing
    panels: tuple[Panel, ...]
    eps: tuple[float, ...] = (1e-3,)
    accuracies: bool = False
    source: str = ""

    @property
    def runs(self) -> tuple[Args, ...]:
        """Every run once, in the order of the panels."""
        return tuple({args.out: args for panel in self.panels for args in panel.runs}.values())
