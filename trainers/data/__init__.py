"""Image data sets as tensors on a device, and P1's augmentation in batches there.

    images = load("cifar10", Path("data"), device="cuda")
    augment = Augment(images, torch.Generator().manual_seed(0))
    batch, labels = augment(indices), images.train_labels[indices]

Nothing is downloaded: the original files of a data set lie in a directory that the user names.
"""

from trainers.data.augment import P1_POLICY, PLAIN_POLICY, Augment, Draws, Policy, Standardise
from trainers.data.bundled import Task, synthetic
from trainers.data.images import Images
from trainers.data.loading import NAMES, load

__all__ = [
    "NAMES",
    "P1_POLICY",
    "PLAIN_POLICY",
    "Augment",
    "Draws",
    "Images",
    "Policy",
    "Standardise",
    "Task",
    "load",
    "synthetic",
]
