"""A training job as far as `watch` is concerned: `python trainer.py RUN_DIR STEPS SIZE SECONDS`.

Saves a snapshot every 10 steps, the rank falling by 1 each, and goes on from what is there.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from rankscope.snapshots import (
    Hyperparameters,
    LogRecord,
    MatrixRecord,
    Optimiser,
    RunRecord,
    SnapshotWriter,
)


def main(run: str, steps: int, size: int, seconds: float) -> None:
    """Train, as it were."""
    shape = (size, size - 4)
    record = RunRecord(
        model="MLP-2",
        optimiser=Optimiser("sgd"),
        hyperparameters=Hyperparameters(1, 0.9, 1.0, schedule=()),
        matrices=(MatrixRecord("a.weight", "linear", shape, 1, True),),
    )
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((size, size)), rng.standard_normal((size, size - 4))
    with SnapshotWriter(run, record) as writer:
        for step in range(0, steps, 10):
            if writer.saved(step):
                continue
            rank = max(1, size - 4 - step // 10)
            weights = {
                "a.weight": (left[:, :rank] @ right[:rank]).astype(np.float32),
                "b.weight": rng.standard_normal((12, 8)).astype(np.float32),
            }
            told = LogRecord(epoch=step / 10, train_loss=2.0 * 0.99**step, test_accuracy=0.5)
            writer.save(step, weights, told)
            time.sleep(seconds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
