"""P2's Table 2: test RMSE on MovieLens-100K."""

from __future__ import annotations

from collections.abc import Mapping

# By model, optimiser, whether penalised: the 90/10 and the 80/20 split.
TABLE2: Mapping[tuple[str, str, bool], tuple[float, float]] = {
    ("depth-1", "gd", False): (2.814, 2.797),
    ("depth-1", "gd", True): (2.808, 2.821),
    ("depth-1", "adam", False): (1.844, 1.822),
    ("depth-1", "adam", True): (0.915, 0.921),
    ("embedding", "gd", False): (2.453, 2.532),
    ("embedding", "gd", True): (2.535, 2.519),
    ("embedding", "adam", False): (1.282, 1.348),
    ("embedding", "adam", True): (0.906, 0.919),
}
COLUMNS = ("90/10", "80/20")


def reported(model: str, optimiser: str, split: str, *, penalised: bool) -> float | None:
    """What P2 has for a cell of its table; None for a split that is not in it."""
    if split not in COLUMNS:
        return None
    return TABLE2[model, optimiser, penalised][COLUMNS.index(split)]
