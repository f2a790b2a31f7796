"""P1's figures: the runs behind each, by the protocol of its Section 4.1 and appendix B.1.

P1's lambda is given to PyTorch as weight_decay, as its authors' code does: `weight_decay` is the
printed value, and the theorem's lambda of such a run is half of it. Where the print does not say
which values a figure varies, `source` says whence they are: the list of runs that the authors
published beside their code, or a choice of ours.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trainers.imageargs import Args
from trainers.recipes.building import DATA, DECAY, MU, B, batch, decay, grid, line, mu
from trainers.recipes.records import Recipe

# The spectra of each epoch in every figure, so that figures can share runs.
PROTOCOL = Args(Path(), data="cifar10", augment=True, epochs=500, every=1, save="spectra")
RESNET = replace(PROTOCOL, arch="resnet18")
VGG = replace(PROTOCOL, arch="vgg16")
MLP = replace(PROTOCOL, arch="mlp-bn-10-100")
RES = replace(PROTOCOL, arch="res-bn-5-500")
VIT = replace(PROTOCOL, arch="vit", epochs=200)
# Its second layer is 10000x10000, which takes long to decompose: before and after training only.
WIDE = replace(PROTOCOL, arch="mlp-bn-2-10000", every=None, snapshots=1)

BATCHES = batch(4, 8, 16, 32, 64, 128)
RATES = mu(0.01, 0.1, 0.5, 1.0, 2.0)
DECAYS = decay(0.0, 1e-4, 2e-4, 4e-4, 8e-4)

# Fig. 18's thresholds: from near none of the singular values to nearly all.
BOUND_EPS = tuple(step / 20 for step in range(1, 20))

RECORD = "the list of runs that the authors published beside their code"
OURS = "the print does not say which values vary; these are ours, among those of " + RECORD


def setting(base: Args, rate: float, weight_decay: float) -> Args:
    """The same run with this learning rate and weight decay."""
    return replace(base, mu=rate, weight_decay=weight_decay)


RESNET_FIGURES = (
    Recipe(
        "P1-F1",
        "final average rank of ResNet-18 over pairs of learning rate, weight decay and batch size",
        "grid",
        (
            *(
                grid(
                    B,
                    replace(RESNET, batch_size=size),
                    mu(0.1, 0.5, 1.0, 2.0),
                    decay(1e-4, 3e-4, 5e-4),
                )
                for size in (8, 16)
            ),
            grid(MU, replace(RESNET, mu=0.5), decay(0.0, 2e-3, 4e-3, 6e-3), BATCHES),
            grid(
                DECAY,
                replace(RESNET, weight_decay=6e-3),
                mu(1e-3, 0.2, 0.5, 0.7, 1.0),
                BATCHES,
            ),
        ),
        source=f"P1, Fig. 1. Not printed: the values of each pair; they are those of {RECORD}.",
    ),
    Recipe(
        "P1-F2",
        "rank and accuracy of ResNet-18 by learning rate",
        "per_epoch",
        tuple(
            line(B, replace(RESNET, weight_decay=5e-4, batch_size=size), RATES)
            for size in (4, 8, 16)
        ),
        accuracies=True,
        source="P1, Fig. 2. Of the learning rates, 0.01, 0.1, 0.5 and 1 are Fig. 14's, which "
        f"shows the same runs; 2 is one of {RECORD}.",
    ),
    Recipe(
        "P1-F3",
        "rank and accuracy of ResNet-18 by weight decay",
        "per_epoch",
        tuple(line(B, replace(RESNET, mu=1.5, batch_size=size), DECAYS) for size in (8, 16, 32)),
        accuracies=True,
        source=f"P1, Fig. 3. Weight decay 0 is printed; else {OURS}.",
    ),
    Recipe(
        "P1-F4",
        "rank and accuracy of ResNet-18 by batch size",
        "per_epoch",
        tuple(
            line(MU + DECAY, setting(RESNET, rate, wd), BATCHES)
            for rate, wd in ((1e-3, 6e-3), (5e-3, 6e-3), (1e-2, 4e-4))
        ),
        accuracies=True,
        source=f"P1, Fig. 4. Batch sizes: {RECORD}. Its plots were made with eps 0.04 and 0.05.",
    ),
    Recipe(
        "P1-F11",
        "rank and accuracy of ResNet-18 by batch size, at large learning rates",
        "per_epoch",
        tuple(line(MU, setting(RESNET, rate, 5e-4), BATCHES) for rate in (0.5, 1.0, 2.0)),
        accuracies=True,
        source=f"P1, Fig. 11. Batch sizes: {OURS}.",
    ),
    Recipe(
        "P1-F13",
        "rank and accuracy of ResNet-18 by learning rate, on other data",
        "per_epoch",
        tuple(
            line(DATA, replace(RESNET, data=data, weight_decay=5e-4, batch_size=16), RATES)
            for data in ("mnist", "fashion-mnist", "svhn")
        ),
        accuracies=True,
        source="P1, Fig. 13. The learning rates are not printed; they are those of P1-F2.",
    ),
    Recipe(
        "P1-F14",
        "ratio of consecutive epochs' norms in ResNet-18 by learning rate",
        "norm_ratio",
        (
            line(
                B,
                replace(RESNET, weight_decay=5e-4, batch_size=8),
                mu(0.01, 0.1, 0.5, 1.0),
            ),
        ),
        source="P1, Fig. 14.",
    ),
    Recipe(
        "P1-F16",
        "singular values of ResNet-18 by batch size",
        "spectra",
        (line(MU + DECAY, setting(RESNET, 5e-3, 6e-3), BATCHES),),
        source="P1, Fig. 16: the runs of P1-F4's second panel.",
    ),
)

OTHER_FIGURES = (
    Recipe(
        "P1-F5",
        "rank of MLP-BN-10-100 by weight decay, with momentum",
        "per_epoch",
        tuple(
            line(B, replace(MLP, mu=0.1, momentum=0.9, batch_size=size), DECAYS)
            for size in (32, 64, 128)
        ),
        source=f"P1, Fig. 5. Weight decay 0 is printed; else {OURS}.",
    ),
    Recipe(
        "P1-F6",
        "rank and accuracy of MLP-BN-10-100 by weight decay",
        "per_epoch",
        tuple(line(B, replace(MLP, mu=0.1, batch_size=size), DECAYS) for size in (4, 8, 16)),
        accuracies=True,
        source=f"P1, Fig. 6. Weight decay 0 is printed; else {OURS}.",
    ),
    Recipe(
        "P1-F7",
        "rank and accuracy of MLP-BN-10-100 by batch size",
        "per_epoch",
        tuple(line(MU, setting(MLP, rate, 5e-4), BATCHES) for rate in (0.03, 0.1, 0.3)),
        accuracies=True,
        source=f"P1, Fig. 7. Batch sizes: {OURS}.",
    ),
    Recipe(
        "P1-F8",
        "rank of RES-BN-5-500 by batch size",
        "per_epoch",
        tuple(line(MU, setting(RES, rate, 5e-4), BATCHES) for rate in (0.025, 0.05, 0.1)),
        source=f"P1, Fig. 8. Batch sizes: {OURS}.",
    ),
    Recipe(
        "P1-F9",
        "rank and accuracy of the ViT by batch size",
        "per_epoch",
        tuple(line(MU, setting(VIT, rate, 5e-4), BATCHES) for rate in (4e-3, 8e-3, 4e-2)),
        accuracies=True,
        source=f"P1, Fig. 9. Batch sizes: {OURS}.",
    ),
    Recipe(
        "P1-F10",
        "rank and accuracy of the ViT by weight decay",
        "per_epoch",
        tuple(line(B, replace(VIT, mu=4e-2, batch_size=size), DECAYS) for size in (32, 64, 128)),
        accuracies=True,
        source=f"P1, Fig. 10. Weight decay 0 is printed; else {OURS}.",
    ),
    Recipe(
        "P1-F12",
        "rank and accuracy of VGG-16 by batch size",
        "per_epoch",
        tuple(
            line(MU + DECAY, setting(VGG, rate, wd), BATCHES)
            for rate, wd in ((1e-3, 6e-3), (5e-3, 5e-4), (1e-2, 4e-4))
        ),
        accuracies=True,
        source="P1, Fig. 12. Of the batch sizes, 8 to 64 are Fig. 15's, which shows the same "
        f"runs; else {OURS}.",
    ),
    Recipe(
        "P1-F15",
        "ratio of consecutive epochs' norms in VGG-16 by batch size",
        "norm_ratio",
        (line(MU + DECAY, setting(VGG, 5e-3, 5e-4), batch(8, 16, 32, 64)),),
        source="P1, Fig. 15.",
    ),
    Recipe(
        "P1-F17",
        "singular values of VGG-16 by batch size",
        "spectra",
        (line(MU + DECAY, setting(VGG, 1e-2, 4e-4), BATCHES),),
        source="P1, Fig. 17: the runs of P1-F12's third panel.",
    ),
    Recipe(
        "P1-F18",
        "final average rank of MLP-BN-2-10000 and its bound over eps",
        "bound",
        (line(B + MU, replace(WIDE, batch_size=6, mu=0.1), decay(8e-3)),),
        eps=BOUND_EPS,
        accuracies=True,
        source="P1, Fig. 18. The thresholds are ours; 0.3 is printed.",
    ),
)

FIGURES = tuple(sorted((*RESNET_FIGURES, *OTHER_FIGURES), key=lambda recipe: int(recipe.name[4:])))
