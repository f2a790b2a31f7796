"""Draw the README's pictures from a real analysis: `python docs/screenshot.py runs/digits`."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

import rankscope
from rankscope.views import terminal
from rankscope.views.analysis import report

WIDTH = 80
STEPS = 14  # rows of the picture; the command itself shows all


def main(run: str) -> None:
    """Analyse a run and export what a terminal of 80 columns shows."""
    table = rankscope.analyze(run, eps=0.01)
    kept = table.summary[:: max(1, len(table.summary) // STEPS)]
    shown = replace(table, summary=tuple(kept))
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    console.print(f"$ rankscope analyze {run} --eps 0.01", style="green")
    console.print(terminal.renderable(report(shown), WIDTH))
    target = Path(__file__).parent / "images" / "digits.svg"
    console.save_svg(str(target), title="rankscope", theme=MONOKAI)
    print(target)


if __name__ == "__main__":
    main(sys.argv[1])
