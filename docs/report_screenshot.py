"""Take the README's pictures of a report: `python docs/report_screenshot.py`.

Of a model of a Llama's shapes whose weights are made up: singular values that fall by a power law,
faster in later layers.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import sync_playwright

from docs.building import material
from rankscope import How
from rankscope.reporting import report

IMAGES = Path(__file__).parent / "images"
SIZE = 1180, 1000  # pixels: header, overview and the large figure
EPS = 0.05
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def main() -> None:
    """Write `docs/images/report-light.png` and `report-dark.png`."""
    with tempfile.TemporaryDirectory() as folder:
        model, page = Path(folder, "model.safetensors"), Path(folder, "report.html")
        material.save(material.model(), model)
        report(model, path=page, eps=EPS, how=How(store=False))
        for theme in THEMES:
            photograph(page, theme, IMAGES / f"report-{theme}.png")


def photograph(page: Path, theme: Literal["light", "dark"], target: Path) -> None:
    """What a window of `SIZE` shows of a page when it is ready."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        width, height = SIZE
        window = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme=theme, offline=True
        )
        window.goto(page.as_uri())
        window.wait_for_selector(".plot .main-svg")
        window.screenshot(path=target)
        browser.close()
    print(target, target.stat().st_size, file=sys.stderr)


if __name__ == "__main__":
    main()
