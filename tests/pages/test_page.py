"""The page itself: it stands alone, obeys nothing that a file says, and can be used by anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from rankscope import palette
from rankscope.text import printable
from tests.pages.browser import Opened, accessible, opened
from tests.pages.models import HOSTILE, reported, saved, transformer
from tests.rundirs import Recipe, write_run

RNG = np.random.default_rng(5)

THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
NARROW = 400  # CSS pixels: a telephone

OVERFLOWING = """
() => {
  const width = document.documentElement.clientWidth;
  return [...document.querySelectorAll("body *")]
    .filter((one) => !one.closest(".scroll") && one.getBoundingClientRect().right > width + 1)
    .map((one) => one.outerHTML.slice(0, 100));
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    tensors = transformer(RNG)
    tensors["head.bad.weight"] = np.full((4, 4), np.nan, np.float32)
    return reported(folder / "plain.html", saved(folder / "plain.safetensors", tensors))


@pytest.fixture(scope="module")
def hostile(folder: Path) -> Path:
    """Names that would act, of what is measured, what is skipped and of the file itself."""
    tensors = {name: RNG.standard_normal((6, 5)) for name in HOSTILE}
    tensors |= {f"bias {name}": np.ones(3) for name in HOSTILE}
    tensors |= {f"{name}nan": np.full((3, 3), np.nan) for name in HOSTILE}
    source = folder / "a<b>&<img src=x onerror=alert(0)>'\".safetensors"
    return reported(folder / "hostile.html", saved(source, tensors))


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run, whose page has sections of its own before those of a model."""
    snapshots = {
        step: {f"layers.{i}.weight": RNG.standard_normal((12, 8)) for i in range(3)}
        for step in (0, 10, 20)
    }
    return reported(folder / "run.html", write_run(folder / "run", snapshots, Recipe()))


def everything_open(page: Page) -> None:
    """Every disclosure open, every chart drawn."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for plot in page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        plot.locator(".main-svg").first.wait_for(state="attached")


class TestAlone:
    def test_the_checks_see_what_is_asked_for(self, browser: Browser, plain: Path) -> None:
        with opened(browser, plain) as page:
            page.eval("document.body.append(Object.assign(new Image(), {src: 'https://x.test/'}))")
            page.page.wait_for_timeout(100)
            with pytest.raises(AssertionError, match=r"x\.test"):
                page.check()
            page.complaints.clear()
            del page.requests[1:]
            page.eval("window.violations.length = 0")

    @pytest.mark.parametrize(
        "act",
        [
            "fetch('https://x.test/')",
            "new WebSocket('wss://x.test/')",
            "document.body.append(Object.assign(new Image(), {src: 'https://x.test/'}))",
            "document.body.insertAdjacentHTML('beforeend', '<img src=x: onerror=alert(1)>')",
            "document.body.append(Object.assign(document.createElement('script'), {text: '1'}))",
            "document.body.append(Object.assign(document.createElement('iframe'), {src: 'x'}))",
            "setTimeout('1')",
        ],
    )
    def test_the_policy_forbids_it(self, browser: Browser, plain: Path, act: str) -> None:
        page = browser.new_page(offline=True)
        page.add_init_script(
            "window.violations = []; document.addEventListener('securitypolicyviolation',"
            " (event) => window.violations.push(event.effectiveDirective))"
        )
        page.goto(plain.as_uri())
        page.evaluate(f"() => {{ {act}; return null; }}")
        page.wait_for_timeout(100)
        assert page.evaluate("window.violations.length") > 0
        page.close()

    def test_nothing_in_the_file_names_a_place_to_load_from(self, plain: Path) -> None:
        text = plain.read_text("utf-8")
        own = re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", text, flags=re.S)
        found = re.findall(r"(?:src|href)=|https?://[^\s\"']+|@import|url\(", own)
        assert set(found) == {"http://www.w3.org/2000/svg"}  # a namespace

    def test_a_run_too(self, browser: Browser, run: Path) -> None:
        with opened(browser, run) as page:
            everything_open(page.page)
            assert "Overview at step 20" in page.page.inner_text("main")


class TestHostile:
    def test_names_are_text(self, browser: Browser, hostile: Path) -> None:
        with opened(browser, hostile) as page:
            everything_open(page.page)
            listed = [
                text.strip() for text in page.page.locator("#matrices tbody th").all_inner_texts()
            ]
            assert {printable(name) for name in HOSTILE} <= set(listed)
            skipped = page.page.locator("#not-measured tbody th").all_inner_texts()
            skipped = [text.strip() for text in skipped]
            assert {f"bias {printable(name)}" for name in HOSTILE} <= set(skipped)
            assert page.page.locator("img, b, iframe, object, form[action]").count() == 0
            assert page.page.locator("a:not([href^='#'])").count() == 0
            assert page.eval("[...document.querySelectorAll('svg a')].length") == 0
            handlers = page.eval(
                "[...document.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())"
                ".filter((name) => name.startsWith('on'))"
            )
            assert handlers == []

    def test_charts_show_names_as_text(self, browser: Browser, hostile: Path) -> None:
        with opened(browser, hostile) as page:
            page.page.get_by_text("Draw all").first.click()
            page.page.wait_for_selector("#spectra .plot .main-svg")
            page.settle()
            count = page.eval("document.querySelector('#spectra .plot').data.length")
            texts = [hovered(page, i) for i in range(count)]
            for name in map(printable, HOSTILE):
                assert len(name) > 60 or any(name in text for text in texts), name

    def test_the_title_is_the_file_name(self, browser: Browser, hostile: Path) -> None:
        with opened(browser, hostile) as page:
            assert page.page.inner_text("h1") == "a<b>&<img src=x onerror=alert(0)>'\".safetensors"
            assert page.page.title().startswith(str(hostile.parent))

    def test_nothing_is_wider_than_a_telephone(self, browser: Browser, hostile: Path) -> None:
        with opened(browser, hostile, width=NARROW) as page:
            assert page.eval("document.documentElement.scrollWidth") <= NARROW


def hovered(page: Opened, line: int) -> str:
    """What the large figure says of a line's first point."""
    text: str = page.eval(
        """async (line) => {
          const plot = document.querySelector("#spectra .plot");
          Plotly.Fx.hover(plot, [{ curveNumber: line, pointNumber: 0 }]);
          await new Promise((done) => setTimeout(done, 80));  // Plotly shows twenty a second
          return plot.querySelector(".hoverlayer").textContent;
        }""",
        line,
    )
    return text


class TestThemes:
    @pytest.mark.parametrize("theme", THEMES)
    def test_the_colours_are_the_palettes(
        self, browser: Browser, plain: Path, theme: Literal["light", "dark"]
    ) -> None:
        colours = {"light": palette.LIGHT, "dark": palette.DARK}[theme]
        with opened(browser, plain, theme=theme) as page:
            page.page.wait_for_selector("#spectra .plot .main-svg")
            assert background(page) == colours.background
            layout = "document.querySelector('#spectra .plot').layout"
            assert page.eval(f"{layout}.paper_bgcolor") == colours.background
            assert page.eval(f"{layout}.font.color") == colours.text

    def test_the_button_overrules_the_system(self, browser: Browser, plain: Path) -> None:
        with opened(browser, plain, theme="light") as page:
            page.page.wait_for_selector("#spectra .plot .main-svg")
            button = page.page.get_by_role("button", name="Switch to dark colours")
            button.click()
            assert background(page) == palette.DARK.background
            assert (
                page.eval("document.querySelector('#spectra .plot').layout.plot_bgcolor")
                == palette.DARK.background
            )
            assert page.page.get_by_role("button", name="Switch to light colours").is_visible()
            page.page.emulate_media(color_scheme="light")
            assert background(page) == palette.DARK.background

    def test_the_system_may_change_its_mind(self, browser: Browser, plain: Path) -> None:
        with opened(browser, plain, theme="light") as page:
            page.page.emulate_media(color_scheme="dark")
            page.page.wait_for_selector("html[data-theme=dark]")
            assert background(page) == palette.DARK.background


def background(page: Opened) -> str:
    """The page's background as #rrggbb."""
    parts = re.findall(r"\d+", page.eval("getComputedStyle(document.body).backgroundColor"))
    return "#" + "".join(f"{int(part):02x}" for part in parts[:3])


class TestAccess:
    @pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", NARROW)])
    def test_axe_finds_nothing(
        self, browser: Browser, plain: Path, theme: Literal["light", "dark"], width: int
    ) -> None:
        with opened(browser, plain, theme=theme, width=width) as page:
            everything_open(page.page)
            page.set_eps(1e-9)  # so that some counts are marked
            page.page.fill("#eps", "wrong")
            assert accessible(page.page) == []

    def test_axe_would_find_something(self, browser: Browser, plain: Path) -> None:
        with opened(browser, plain) as page:
            page.eval("document.querySelector('.note').style.color = '#ccc'")
            page.eval("document.getElementById('eps').labels[0].remove()")
            found = " ".join(accessible(page.page))
            assert "color-contrast" in found
            assert "label" in found

    def test_landmarks_and_headings(self, browser: Browser, plain: Path) -> None:
        with opened(browser, plain) as page:
            for role in ("banner", "navigation", "main", "contentinfo"):
                assert page.page.get_by_role(role).count() == 1, role
            levels = page.eval(
                "[...document.querySelectorAll('h1,h2,h3')].map((one) => Number(one.tagName[1]))"
            )
            assert levels[0] == 1
            assert levels.count(1) == 1
            assert all(b <= a + 1 for a, b in pairwise(levels))
            assert page.eval("document.documentElement.lang") == "en"

    def test_by_keyboard_alone(self, browser: Browser, plain: Path) -> None:
        with opened(browser, plain) as page:
            keyboard = page.page.keyboard
            keyboard.press("Tab")
            assert page.page.locator(":focus").inner_text() == "Skip to the content"
            assert page.page.locator(":focus").is_visible()
            seen = walk(page)
            for wanted in (
                "Dark",
                "Spectra",
                "#eps",
                "#eps-slider",
                "#norm",
                "#log-index",
                "Clear",
                "Show the numbers",
                "Draw all",
                "#heat-metric",
                "matrix",
                "Fold all",
                "What the columns say",
            ):
                assert wanted in seen, (wanted, seen)
            assert any("layer 0" in text for text in seen)  # a small one

    def test_the_skip_link_skips(self, browser: Browser, plain: Path) -> None:
        with opened(browser, plain) as page:
            page.page.keyboard.press("Tab")
            page.page.keyboard.press("Enter")
            page.page.keyboard.press("Tab")
            assert page.eval("document.activeElement.id") == "eps"

    def test_sorting_and_drawing_by_keyboard(self, browser: Browser, plain: Path) -> None:
        with opened(browser, plain) as page:
            page.page.focus("#matrices thead th:nth-child(4) button")
            page.page.keyboard.press("Enter")
            assert page.page.locator("#matrices th[aria-sort=ascending]").count() == 1
            page.page.focus("#spectra .cell[aria-pressed=false]")
            page.page.keyboard.press("Space")
            assert page.page.locator("#spectra .cell:focus[aria-pressed=true]").count() == 1
            page.page.focus("#matrices tbody tr:nth-child(2) input")
            page.page.keyboard.press("Space")  # and what has the focus keeps it
            assert page.page.locator("#matrices tbody tr:nth-child(2) input:focus").count() == 1


def walk(page: Opened) -> list[str]:
    """Tab through the whole page; each place must be seen to have the focus."""
    names: list[str] = []
    for _ in range(300):
        page.page.keyboard.press("Tab")
        place = page.eval(
            """() => {
              const one = document.activeElement;
              if (one === document.body) return null;
              const style = getComputedStyle(one);
              const box = one.getBoundingClientRect();
              return {
                name: one.id ? `#${one.id}` : one.innerText || one.getAttribute("aria-label") || "",
                ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1,
                sized: box.width > 0 && box.height > 0,
              };
            }"""
        )
        if place is None:
            return [re.sub(r"\s+", " ", name).strip() for name in names] + [
                "Dark" if "#theme" in names else ""
            ]
        assert place["ring"], place
        assert place["sized"], place
        names.append(place["name"])
    raise AssertionError("the walk does not end")


class TestWidths:
    def test_no_scrolling_sideways(self, browser: Browser, plain: Path) -> None:
        with opened(browser, plain, width=NARROW) as page:
            everything_open(page.page)
            for width in (NARROW, 320, 768, 1280, 2000):
                page.page.set_viewport_size({"width": width, "height": 800})
                page.page.wait_for_timeout(300)  # Plotly follows a window some time later
                assert page.eval(OVERFLOWING) == [], width
                assert page.eval("document.documentElement.scrollWidth") <= width

    def test_charts_follow_the_window(self, browser: Browser, plain: Path) -> None:
        with opened(browser, plain) as page:
            page.page.wait_for_selector("#spectra .plot .main-svg")
            page.page.set_viewport_size({"width": NARROW, "height": 800})
            page.page.wait_for_timeout(400)
            box = page.page.locator("#spectra .plot .main-svg").first.bounding_box()
            assert box is not None
            assert box["width"] <= NARROW


class TestPaper:
    @pytest.fixture
    def printed(self, browser: Browser, plain: Path) -> Iterator[Opened]:
        """As on paper, from a dark screen, A4 within the margins."""
        with opened(browser, plain, theme="dark", width=688) as page:
            page.page.emulate_media(media="print")
            page.eval("dispatchEvent(new Event('beforeprint'))")
            yield page

    def test_is_light_and_whole(self, printed: Opened) -> None:
        page = printed.page
        assert background(printed) == "#ffffff"
        assert page.locator(".plot .main-svg").count() > 0
        for plot in page.locator(".plot").all():
            assert plot.evaluate("(one) => one.layout.paper_bgcolor") == palette.LIGHT.background
            assert (
                plot.locator(".main-svg").first.evaluate(
                    "(one) => one.getBoundingClientRect().width"
                )
                <= 688
            )
        assert page.locator(".cell").count() == page.locator("polyline[points]").count()
        assert not page.locator(".controls").is_visible()
        assert not page.locator("#theme").is_visible()

    def test_afterwards_it_is_as_before(self, printed: Opened) -> None:
        printed.page.emulate_media(media="screen")
        printed.eval("dispatchEvent(new Event('afterprint'))")
        assert background(printed) == palette.DARK.background
        plot = "document.querySelector('#spectra .plot').layout.paper_bgcolor"
        assert printed.eval(plot) == palette.DARK.background

    def test_wide_tables_lie_on_their_side(self, browser: Browser, plain: Path) -> None:
        with opened(browser, plain) as page:
            pdf = page.page.pdf(format="A4")
        boxes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", pdf)
        turned = [float(width) > float(height) for width, height in boxes]
        assert (turned[0], turned[-1]) == (False, False)
        assert any(turned)
        assert len(boxes) < 8
