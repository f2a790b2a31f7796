"""What the pages' examples start from: `python -m docs.building.material DIRECTORY`.

Small runs and models, all from fixed seeds. The models have the names of a Llama's tensors and
singular values that fall by a power law, as those of trained weights do.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from trainers import digits

Array = NDArray[np.float64]

WIDTH, LAYERS, TOKENS = 64, 8, 1000
SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (WIDTH // 2, WIDTH),
    "self_attn.v_proj": (WIDTH // 2, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (4 * WIDTH, WIDTH),
    "mlp.up_proj": (4 * WIDTH, WIDTH),
    "mlp.down_proj": (WIDTH, 4 * WIDTH),
}
# sigma_i falls as i^-DECAY in the first layer and twice as fast in the last, but for a part that is
# drawn for each matrix. Ours.
DECAY, DRAWN = 0.4, 0.1

TUNED_RANK, TUNED_NORM = 4, 0.1  # of what fine-tuning adds to q and v, to the norm of the weight
LOST = "model.layers.3.self_attn.v_proj.weight"

# Seconds each, and long enough for the rank to fall and for the trend of the sweep to be seen.
RUN = digits.Args(Path("runs/digits"), width=64, epochs=40, snapshots=10)
CONSECUTIVE = digits.Args(Path("runs/steps"), width=64, epochs=4, snapshots=2, burst=8)
SWEEP = tuple(
    digits.Args(
        Path(f"runs/sweep/B{batch}-s{seed}"),
        width=48,
        batch_size=batch,
        mu=0.2,
        weight_decay=0.1,
        epochs=8,
        snapshots=2,
        seed=seed,
    )
    for batch in (8, 24, 72)
    for seed in (0, 1)
)


def main(place: Path) -> None:
    """Write three models and eight runs."""
    place.mkdir(parents=True)
    weights = model()
    save(weights, place / "model.safetensors")
    save(tuned(weights), place / "tuned.safetensors")
    save(damaged(weights), place / "damaged.safetensors")
    for args in (RUN, CONSECUTIVE, *SWEEP):
        digits.run(replace(args, out=place / args.out))


def model() -> dict[str, Array]:
    """A decoder: embedding and six layers."""
    rng = np.random.default_rng(0)
    weights = {"model.embed_tokens.weight": decaying(rng, (TOKENS, WIDTH), DECAY)}
    for layer in range(LAYERS):
        steepness = DECAY * (1 + layer / (LAYERS - 1))
        for name, shape in SHAPES.items():
            drawn = steepness * rng.uniform(1 - DRAWN, 1 + DRAWN)
            weights[f"model.layers.{layer}.{name}.weight"] = decaying(rng, shape, drawn)
    return weights


def tuned(weights: dict[str, Array]) -> dict[str, Array]:
    """The model after fine-tuning by an adapter of low rank on query and value."""
    rng = np.random.default_rng(1)
    changed = dict(weights)
    for name, weight in weights.items():
        if "q_proj" in name or "v_proj" in name:
            left, right = (rng.standard_normal((side, TUNED_RANK)) for side in weight.shape)
            change = left @ right.T
            share = TUNED_NORM * np.linalg.norm(weight) / np.linalg.norm(change)
            changed[name] = weight + share * change
    return changed


def damaged(weights: dict[str, Array]) -> dict[str, Array]:
    """The model with one matrix that has lost a third of its directions."""
    left, sigma, right = np.linalg.svd(weights[LOST], full_matrices=False)
    sigma[len(sigma) * 2 // 3 :] = 0
    return {**weights, LOST: (left * sigma) @ right}


def decaying(rng: np.random.Generator, shape: tuple[int, int], steepness: float) -> Array:
    """A matrix with random singular vectors and sigma_i = i^-steepness."""
    order = min(shape)
    left, right = (np.linalg.qr(rng.standard_normal((side, order)))[0] for side in shape)
    return np.asarray((left * np.arange(1, order + 1) ** -steepness) @ right.T)


def save(weights: dict[str, Array], path: Path) -> None:
    """Write them in bfloat16, as models are released."""
    save_file({name: weight.astype(ml_dtypes.bfloat16) for name, weight in weights.items()}, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
