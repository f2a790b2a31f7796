"""What a page's charts and tables hold, as text and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.pages.browser import Opened, opened

# Opening a page takes a browser a second: tests share one, each from its beginning.
FIELDS = "[...document.querySelectorAll('main select, main input')]"
KEEP = f"window.first = {FIELDS}.map((one) => [one, one.value, one.checked])"
RESTORE = """
() => {
  for (const [one, value, checked] of window.first) {
    if (one.value === value && one.checked === checked) continue;
    [one.value, one.checked] = [value, checked];
    for (const kind of ["input", "change"]) one.dispatchEvent(new Event(kind, { bubbles: true }));
  }
}
"""


READ = """
([section, selector]) => {
  const table = document.querySelector(`#${section} ${selector}`);
  const text = (one) => {
    const copy = one.cloneNode(true);
    copy.querySelectorAll(".hidden, .arrow").forEach((part) => part.remove());
    return copy.textContent.trim();
  };
  const heads = [...table.querySelectorAll("thead th")].map(text);
  return [...table.querySelectorAll("tbody tr:not(.group):not(.more)")]
    .map((row) => [...row.children].map(text))
    .filter((row) => row.length === heads.length)
    .map((row) => row.map((one, i) => [heads[i], one]));
}
"""

DATA = """
async ([section, which]) => {
  const plot = document.querySelectorAll(`#${section} .plot`)[which];
  plot.scrollIntoView();
  while (!plot.data) await new Promise((done) => setTimeout(done, 20));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return {
    traces: plot.data.map(({ x, y, meta, text, customdata, yaxis, xaxis, line, mode, marker }) =>
      ({ x: [...x], y: [...y], meta, text, customdata, yaxis, xaxis, line, mode, marker })),
    layout: JSON.parse(JSON.stringify(plot.layout)),
  };
}
"""


@contextmanager
def shared_page(browser: Browser, file: Path) -> Iterator[Opened]:
    """A page for several tests, each of which asks for it through `as_opened`."""
    with opened(browser, file) as found:
        found.eval(KEEP)
        yield found


def as_opened(page: Opened) -> Opened:
    """The same page, everything chosen as it was at first."""
    page.eval(RESTORE)
    page.settle()
    return page


def numbers(page: Opened, section: str, which: int = 0) -> list[dict[str, str]]:
    """The rows of a figure's own table, all of them: heading -> text."""
    page.eval(
        "([section, which]) => {"
        "document.querySelectorAll(`#${section} figure`)[which]"
        ".querySelector('details.data').open = true; }",
        [section, which],
    )
    table = f"figure:nth-of-type({which + 1}) table.plain"
    page.page.wait_for_selector(f"#{section} {table} tbody tr", state="attached")
    more = page.page.locator(f"#{section} {table} button")
    while more.count():
        more.first.click()
    return rows(page, section, table)


def rows(page: Opened, section: str, selector: str = ".scroll table") -> list[dict[str, str]]:
    """The rows of a table in a section: heading -> text."""
    return [dict(row) for row in page.eval(READ, [section, selector])]


def drawn(page: Opened, section: str, which: int = 0) -> dict[str, Any]:
    """The traces and the layout of a figure, once it has been drawn."""
    found: dict[str, Any] = page.eval(DATA, [section, which])
    return found


def hovered(page: Opened, section: str, curve: int, which: int = 0) -> str:
    """What is shown beside the first point of a line when one points at it."""
    drawn(page, section, which)
    found: str = page.eval(
        """([section, which, curve]) => {
        const plot = document.querySelectorAll(`#${section} .plot`)[which];
        const { xaxis, yaxis } = plot._fullData[curve];
        const subplot = xaxis + yaxis;
        Plotly.Fx.hover(plot, [{ curveNumber: curve, pointNumber: 0 }], subplot);
        return plot.querySelector(".hoverlayer").textContent;
        }""",
        [section, which, curve],
    )
    return found


def choose(page: Opened, section: str, label: str, value: str) -> None:
    """Choose from a list by its label, as a person does."""
    place = page.page.locator(f"#{section}").get_by_label(label, exact=True)
    place.select_option(value)
    page.settle()


def value(text: str) -> float | None:
    """The number that a cell shows; None for a dash."""
    return None if text in ("-", "\N{EN DASH}") else float(text.removeprefix("~").replace("%", ""))


def unfolded(page: Opened) -> None:
    """Open everything that folds, and have every chart drawn."""
    page.eval(
        """async () => {
        for (const one of document.querySelectorAll("details")) one.open = true;
        for (const plot of document.querySelectorAll(".plot")) {
          plot.scrollIntoView();
          while (!plot.data) await new Promise((done) => setTimeout(done, 20));
        }
        }"""
    )


def overflow(page: Opened) -> int:
    """How many pixels wider than the window the page is."""
    found: int = page.eval(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return found
