"""Take the README's pictures of a report: `python -m docs.report_screenshot`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright
from safetensors.numpy import save_file

from rankscope import How
from rankscope.reporting import report

IMAGES = Path(__file__).parent / "images"
SIZE = 1180, 1350  # pixels: down to what stands below the large figure
EPS = 0.01
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

# A small Llama whose weights are made up: a few large singular values that fall by a power law,
# faster in later layers, over a bulk that ends above 0, as a trained matrix has them.
WIDTH, HIDDEN, TOKENS, LAYERS = 256, 688, 4000, 8
LARGEST = 8.0
# Outputs, inputs, the power of the first layer, the bulk of the first and how much of it each
# further layer keeps.
PARTS = {
    "self_attn.q_proj": (WIDTH, WIDTH, 0.9, 0.05, 0.6),
    "self_attn.k_proj": (WIDTH // 2, WIDTH, 0.8, 0.08, 0.6),
    "self_attn.v_proj": (WIDTH // 2, WIDTH, 0.4, 0.3, 1.0),
    "self_attn.o_proj": (WIDTH, WIDTH, 0.5, 0.1, 0.9),
    "mlp.gate_proj": (HIDDEN, WIDTH, 0.3, 0.5, 1.0),
    "mlp.up_proj": (HIDDEN, WIDTH, 0.25, 0.5, 1.0),
    "mlp.down_proj": (WIDTH, HIDDEN, 0.3, 0.4, 0.5),
}
STEEPER = 0.08  # the power, a layer


def main() -> None:
    """Write `docs/images/report-light.png` and `report-dark.png`."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the page names the file as it was named
        save_file(model(), "small-llama.safetensors")
        report("small-llama.safetensors", eps=EPS, how=How(store=False))
        for theme in THEMES:
            photograph(Path("report.html").absolute(), theme, IMAGES / f"report-{theme}.png")
        os.chdir(IMAGES)


def model() -> dict[str, NDArray[np.generic]]:
    """The tensors in bfloat16, and norms, which are no matrices."""
    rng = np.random.default_rng(0)
    tensors = {
        "model.embed_tokens.weight": matrix(rng, (TOKENS, WIDTH), 0.3, 1.0),
        "lm_head.weight": matrix(rng, (TOKENS, WIDTH), 0.35, 0.8),
        "model.norm.weight": np.ones(WIDTH, ml_dtypes.bfloat16),
    }
    for layer in range(LAYERS):
        for part, (rows, columns, power, bulk, kept) in PARTS.items():
            tensors[f"model.layers.{layer}.{part}.weight"] = matrix(
                rng, (rows, columns), power + STEEPER * layer, bulk * kept**layer
            )
    return tensors


def matrix(
    rng: np.random.Generator, shape: tuple[int, int], power: float, bulk: float
) -> NDArray[np.generic]:
    """A matrix with random singular vectors."""
    order = np.arange(1, min(shape) + 1.0)
    sigma = LARGEST * order**-power + bulk * (1 - 0.9 * order / order[-1])
    left, right = (np.linalg.qr(rng.standard_normal((side, len(order))))[0] for side in shape)
    found: NDArray[np.generic] = ((left * sigma) @ right.T).astype(ml_dtypes.bfloat16)
    return found


def photograph(page: Path, theme: Literal["light", "dark"], target: Path) -> None:
    """What a window of `SIZE` shows of a page when its charts are drawn."""
    width, height = SIZE
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        window = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme=theme, offline=True
        )
        window.goto(page.as_uri())
        window.wait_for_selector(".plot .main-svg")
        window.screenshot(path=target)
        browser.close()
    sys.stderr.write(f"{target}: {target.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
