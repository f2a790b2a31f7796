"""A report's size, and how soon a browser that has loaded it answers.

Spectra of a model of three hundred matrices are made up, since measuring it is not the question.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np

from rankscope.pages.page import plotly_script, render
from rankscope.pages.sections import SECTIONS
from rankscope.provenance import made_now
from rankscope.question import Column, Question, read_all
from rankscope.records import Spectrum
from rankscope.rows import Row, write
from rankscope.scene import Curve, Scene
from rankscope.table import Table

SEED = 0
SOURCE = "model"
ROUNDS = 5

# Of one layer: outputs and inputs, so that the lesser side is from 768 to 4096.
PARTS = (
    ("self_attn.q_proj", 4096, 4096),
    ("self_attn.k_proj", 1024, 4096),
    ("self_attn.v_proj", 1024, 4096),
    ("self_attn.o_proj", 4096, 4096),
    ("mlp.gate_proj", 2048, 11008),
    ("mlp.down_proj", 768, 3072),
)
LAYERS = 50

# When the first chart of Plotly's stands, which is loaded when all else does.
DRAWN = """
async () => {
  while (!document.querySelector(".plot .main-svg")) {
    await new Promise((done) => setTimeout(done, 5));
  }
  return performance.now();
}
"""

# The work of moving the threshold once, until the browser has laid out what has changed.
MOVE = """
async () => {
  const slider = document.getElementById("eps-slider");
  const start = performance.now();
  slider.value = String(Number(slider.value) + 0.3);
  slider.dispatchEvent(new Event("input"));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}
"""


def made_up(rng: np.random.Generator, rows: int, columns: int) -> Spectrum:
    """A spectrum as trained matrices have it: a few large values, then a bulk."""
    k = min(rows, columns)
    bulk = np.linspace(1.9, 0.1, k) * rng.uniform(0.98, 1.02, size=k)
    sigma = np.sort(bulk + 20.0 / np.arange(1, k + 1) ** rng.uniform(0.6, 1.2))[::-1]
    norm = float(np.linalg.norm(sigma))
    return Spectrum(sigma, (rows, columns), "bfloat16", norm, norm / 20, norm / 20, 1e-7, "gram")


def row_of(name: str, depth: int, spectrum: Spectrum, columns: tuple[Column, ...]) -> Row:
    """The row of a table for one matrix."""
    row: Row = {
        "name": name,
        "step": None,
        "shape": list(spectrum.shape),
        "dtype": spectrum.dtype,
        "kind": "linear",
        "role": name.split(".")[-2],
        "depth": depth,
        "averaged": None,
        "status": "ok",
        "notes": {},
        "route": spectrum.route,
        "content": None,
        "source": SOURCE,
    }
    for column, reading in zip(columns, read_all(columns, spectrum), strict=True):
        write(row, column.key, reading, "not exact by the gram route")
    return row


def scene() -> Scene:
    """A model of three hundred matrices."""
    rng = np.random.default_rng(SEED)
    columns = Question().columns()
    curves: list[Curve] = []
    rows: list[Row] = []
    for depth in range(LAYERS):
        for part, height, width in PARTS:
            name = f"model.layers.{depth}.{part}.weight"
            curves.append(Curve(SOURCE, name, None, made_up(rng, height, width)))
            rows.append(row_of(name, depth, curves[-1].spectrum, columns))
    provenance = {
        **made_now(),
        "sources": [{"path": SOURCE, "format": "safetensors", "snapshots": 1}],
        "eps": [1e-3],
        "norm": "frobenius",
        "columns": [column.key for column in columns],
    }
    summary = ({"source": SOURCE, "step": None, "matrices": len(rows)},)
    keys = tuple(column.key for column in columns)
    return Scene(Table(keys, tuple(rows), (), summary, provenance), tuple(curves))


def bench_pages(folder: Path) -> None:
    """Size, time to write, time to open, time to answer."""
    from playwright.sync_api import sync_playwright

    subject = scene()
    file = folder / "report.html"
    start = time.perf_counter()
    file.write_text(render(subject, SECTIONS), "utf-8")
    written = time.perf_counter() - start
    whole, library = file.stat().st_size, len(plotly_script().encode())
    ready: list[float] = []
    drawn: list[float] = []
    moved: list[float] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        for _ in range(ROUNDS):
            page = browser.new_page()
            page.goto(file.as_uri())
            page.wait_for_selector("html[data-ready]")
            ready.append(page.evaluate("performance.getEntriesByName('ready')[0].startTime"))
            drawn.append(page.evaluate(DRAWN))
            moved.append(page.evaluate(MOVE))
            page.close()
        browser.close()
    print("\n### A report of 300 matrices with 768 to 4096 singular values each\n")
    print("| | |\n|---|---:|")
    print(f"| beyond the library | {(whole - library) / 1e6:.2f} MB |")
    print(f"| written in | {written:.2f} s |")
    print(f"| from opening until it can be used | {statistics.median(ready):.0f} ms |")
    print(f"| until its first chart is drawn too | {statistics.median(drawn):.0f} ms |")
    print(f"| moving the threshold | {statistics.median(moved):.0f} ms |")
