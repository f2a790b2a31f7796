"""HTML: a fragment for notebooks, a whole page for files."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from rankscope.text import printable
from rankscope.views.grid import Grid
from rankscope.views.report import Remark, Report

# The page stands alone: no script, nothing fetched.
STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --back: #fff; --line: #d8dee4; --dim: #59636e }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --back: #0d1117; --line: #30363d; --dim: #9198a1 }
}
body { margin: 2rem; color: var(--text); background: var(--back);
  font: 13px/1.5 system-ui, sans-serif }
table { border-collapse: collapse; margin-bottom: 2.5rem; font-variant-numeric: tabular-nums }
caption { padding-bottom: .5rem }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line) }
th { position: sticky; top: 0; background: var(--back); vertical-align: bottom;
  white-space: normal; box-shadow: inset 0 -1px var(--dim) }
p { color: var(--dim) }
p.lacking, p.strong { color: inherit }
@page { size: landscape; margin: 1cm }
@media print {
  body { margin: 0; font-size: 8px; color: #000; background: #fff }
  th { position: static; background: none }
  thead { display: table-header-group }
  tr { break-inside: avoid }
  th, td { padding: .1rem .35rem }
  .word { white-space: normal; overflow-wrap: anywhere }
}
"""


# Not of a class: a notebook has a style of its own, Jupyter's with every cell to the right, others'
# to the left, and knows no classes of ours. Colours are left to its theme.
RIGHT = ' style="text-align:right"'
LEFT = ' style="text-align:left"'
BOLD = ' style="font-weight:600"'
TITLE = ' style="text-align:left;font-weight:600"'


def page(report: Report) -> str:
    """A page with all that there is, for a browser or a printer."""
    title = escape(printable(f"{report.title} - RankScope" if report.title else "RankScope"))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{render(report, everything=True)}\n</body>\n</html>\n"
    )


def render(report: Report, *, everything: bool = False) -> str:
    """The report without colours of its own, so that the notebook's theme applies."""
    return fragment(report.grids(everything), report.remarks(everything))


def fragment(grids: Iterable[Grid], remarks: Iterable[Remark]) -> str:
    """Tables, and lines below them."""
    parts = [_grid(grid) for grid in grids]
    for remark in remarks:
        kind = "strong" if remark.strong else "lacking" if remark.lacking else ""
        look = f" class={kind}{BOLD}" if kind else ""
        parts.append(f"<p{look}>{escape(remark.text)}</p>")
    return "\n".join(parts)


def _grid(grid: Grid) -> str:
    head = _cells("th scope='col'", grid.headings, grid.labels)
    body = "\n".join(f"<tr>{_cells('td', row, grid.labels)}</tr>" for row in grid.rows)
    caption = f"<caption{TITLE}>{escape(grid.title)}</caption>"
    rows = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f"<table{RIGHT}>{caption}\n{rows}</table>"


def _cells(tag: str, texts: tuple[str, ...], labels: int) -> str:
    """Cells of one row, the leading ones words; `tag` may have attributes."""
    end = tag.partition(" ")[0]
    return "".join(
        f"<{tag} class=word{LEFT}>{escape(text)}</{end}>"
        if i < labels
        else f"<{tag}>{_unbroken(text) if end == 'td' else escape(text)}</{end}>"
        for i, text in enumerate(texts)
    )


def _unbroken(text: str) -> str:
    """A value in one line: `32 → 16`."""
    return escape(text).replace(" ", "&nbsp;")
