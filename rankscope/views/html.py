"""HTML: a fragment for notebooks, a whole page for files."""

from __future__ import annotations

from html import escape

from rankscope.text import printable
from rankscope.views.grid import Grid
from rankscope.views.report import Report

# The page stands alone: no script, nothing fetched.
STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --back: #fff; --line: #d8dee4; --dim: #59636e }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --back: #0d1117; --line: #30363d; --dim: #9198a1 }
}
body { margin: 2rem; color: var(--text); background: var(--back);
  font: 13px/1.5 system-ui, sans-serif }
table { border-collapse: collapse; margin-bottom: 2.5rem; font-variant-numeric: tabular-nums }
caption { padding-bottom: .5rem; text-align: left; font-weight: 600 }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line) }
th { position: sticky; top: 0; background: var(--back); vertical-align: bottom;
  white-space: normal; box-shadow: inset 0 -1px var(--dim) }
.word { text-align: left }
p { color: var(--dim) }
p.lacking, p.strong { color: inherit; font-weight: 600 }
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
    """Tables without a style of their own, so that the notebook's theme applies."""
    parts = [_grid(grid) for grid in report.grids(everything)]
    for remark in report.remarks(everything):
        kind = " class=strong" if remark.strong else " class=lacking" if remark.lacking else ""
        parts.append(f"<p{kind}>{escape(remark.text)}</p>")
    return "\n".join(parts)


def _grid(grid: Grid) -> str:
    head = _cells("th scope='col'", grid.headings, grid.labels)
    body = "\n".join(f"<tr>{_cells('td', row, grid.labels)}</tr>" for row in grid.rows)
    caption = f"<caption>{escape(grid.title)}</caption>"
    return f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def _cells(tag: str, texts: tuple[str, ...], labels: int) -> str:
    """Cells of one row, the leading ones words; `tag` may have attributes."""
    end = tag.partition(" ")[0]
    return "".join(
        f"<{tag}{' class=word' if i < labels else ''}>{escape(text)}</{end}>"
        for i, text in enumerate(texts)
    )
