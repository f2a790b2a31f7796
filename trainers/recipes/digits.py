"""P1's claims at a size that a CPU does in minutes, on scikit-learn's digits; ours, not P1's.

The settings were found by trial: weight decay acts over 1 / (mu weight_decay) updates, and the
run has to be longer than that for any of its directions to vanish.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trainers.imageargs import Args
from trainers.recipes.building import DECAY, MU, B, batch, decay, line, mu
from trainers.recipes.records import Recipe

STUDY = Args(
    Path(),
    arch="mlp-bn-3-64",
    data="digits",
    batch_size=16,
    mu=0.2,
    weight_decay=0.02,
    epochs=60,
    every=2,
    save="spectra",
)

# P1's Fig. 18 has 10000 neurons, and a bound of 14228 directions at eps 0.3 (lambda being half
# of the weight decay). At 1000 neurons the bound says something from mu weight_decay = 0.01 on,
# and goes by the learning rate of the last updates, which therefore does not drop.
NARROW = replace(
    STUDY,
    arch="mlp-bn-2-1000",
    batch_size=6,
    mu=0.1,
    lr_factor=1.0,
    epochs=40,
    every=5,
)

SOURCE = "Ours, on scikit-learn's handwritten digits; P1's schedule in proportion."

DIGITS = (
    Recipe(
        "digits",
        "rank and accuracy of MLP-BN-3-64 on digits",
        "per_epoch",
        (
            line(MU + DECAY, STUDY, batch(4, 8, 16, 32, 64)),
            line(B + DECAY, STUDY, mu(0.025, 0.05, 0.1, 0.2, 0.4)),
            line(B + MU, STUDY, decay(0.0, 0.005, 0.01, 0.02, 0.04)),
        ),
        eps=(1e-2,),
        accuracies=True,
        source=SOURCE,
    ),
    Recipe(
        "digits-bound",
        "rank of MLP-BN-2-1000 and its bound over eps",
        "bound",
        (line(B + MU, NARROW, decay(0.05, 0.1)),),
        eps=tuple(step / 20 for step in range(1, 20)),
        accuracies=True,
        source="Ours: as P1's Fig. 18, of a tenth of the width, on scikit-learn's digits.",
    ),
)
