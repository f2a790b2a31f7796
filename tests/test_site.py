"""The docs site: it builds strictly, leaves nothing out, and loads nothing from elsewhere."""

from __future__ import annotations

import argparse
import html
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from threading import Thread
from types import ModuleType
from typing import Literal

import pytest
from markdown import Markdown
from markdown_it import MarkdownIt
from mkdocs.config import load_config
from playwright.sync_api import Browser, Page, sync_playwright
from typer.testing import CliRunner

import rankscope
from docs.building import examples, reference, terminal
from docs.building.doctests import fenced
from docs.building.material import RUN
from docs.building.running import run
from rankscope import integrations
from rankscope.cli.app import app
from rankscope.metrics import METRICS
from tests.pages.browser import accessible, launched
from trainers import digits

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")}
WITH_EXAMPLES = sorted(name for name, text in SOURCES.items() if examples.how_many(text))
COMMANDS = [command.callback.__name__ for command in app.registered_commands if command.callback]

# What a browser fetches by itself, and where the address stands.
LOADED = {"audio", "embed", "iframe", "img", "input", "link", "object", "script", "source", "video"}
ADDRESS = ("src", "srcset", "href", "data", "poster")

# What only the command itself can have written on its page.
ONLY_PRINTED = {
    "index.md": "average over 3 of 4 matrices",
    "quickstart.md": "4 of 4 matrices break a rule",
    "commands/analyze.md": "rises with B as Prediction 4.1 says",
    "commands/baseline.md": '"energy_rank": 6',
    "commands/bound.md": "no bound for adam",
    "commands/certify.md": "does not hold: 108 of 108 pairs",
    "commands/check.md": "fails: 1 of 57 matrices breaks a rule",
    "commands/diff.md": "16 moved, by 10 % of their norm in 4 directions",
    "commands/inspect.md": "the last of 11 snapshots",
    "commands/plot.md": "wrote rank.svg",
    "commands/report.md": "wrote moved.html",
    "commands/watch.md": "step 3360 (epoch 40), 11 snapshots",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    target = tmp_path_factory.mktemp("site")
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "WARNING" not in ended.stderr
    return target


@dataclass
class Parsed(HTMLParser):
    """A page as it was built.

    Attributes:
        ids: of all elements.
        loaded: addresses that a browser fetches by itself.
        images: addresses, and the words for those who do not see them.
        outputs: what commands wrote.
    """

    ids: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._writes = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attrs}
        self.ids.add(named.get("id", ""))
        if tag in LOADED:
            self.loaded += [named[key] for key in ADDRESS if key in named]
        if tag == "img":
            self.images.append((named["src"], named.get("alt", "")))
        if tag == "samp":
            self._writes = True
            self.outputs.append("")

    def handle_endtag(self, tag: str) -> None:
        self._writes &= tag != "samp"

    def handle_data(self, data: str) -> None:
        if self._writes:
            self.outputs[-1] += data


def built(site: Path, source: str) -> str:
    """The page made of a source."""
    place = PurePosixPath(source)
    folder = place.parent if place.stem == "index" else place.with_suffix("")
    return (site / folder / "index.html").read_text()


def parsed(text: str) -> Parsed:
    page = Parsed()
    page.feed(text)
    return page


def article(text: str) -> str:
    """The page without what the theme puts around it."""
    found = re.search(r"<article[^>]*>(.*)</article>", text, re.DOTALL)
    assert found is not None
    return re.sub(r'<a class="headerlink".*?</a>', "", found[1])


def words(markup: str) -> list[str]:
    """What is read, and where code, stressed words, links, items and cells begin and end."""
    marked = re.sub(r"<(/?(?:code|strong|em|a|li|td))\b[^>]*>", r" [\1] ", markup)
    return html.unescape(re.sub(r"<[^>]*>", "", marked)).split()


def plain(markup: str) -> str:
    """What is read."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", markup)).split())


class TestEverythingIsThere:
    def test_every_source_is_a_page(self, site: Path) -> None:
        for source in SOURCES:
            assert "<h1" in article(built(site, source)), source
        for page in ("contributing", "changelog"):
            assert (site / page / "index.html").exists()

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_and_option(self, site: Path, command: str) -> None:
        page = re.split(r"[\s,]+", plain(article(built(site, f"commands/{command}.md"))))
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
        options = set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", shown.stdout))
        assert len(options) > 4
        for option in options - {"--help", "-h"}:
            assert option in page, option
        assert "Exit" in page
        assert f"commands/{command}.md" in WITH_EXAMPLES
        assert f"[`rankscope {command}`]({command}.md)" in SOURCES["commands/index.md"]

    @pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
    def test_every_metric(self, site: Path, metric: object) -> None:
        page = built(site, "metrics.md")
        name, described = metric.name, metric.function.__doc__  # type: ignore[attr-defined]
        assert name in parsed(page).ids
        text = plain(article(page))
        # Up to the first example, paragraph by paragraph.
        for paragraph in described.partition(">>>")[0].partition("Raises:")[0].split("\n\n"):
            assert " ".join(paragraph.replace("`", "").split()) in text
        assert "xact" in described

    @pytest.mark.parametrize(
        ("module", "name"),
        [(module, name) for module in (rankscope, integrations) for name in module.__all__],
        ids=lambda one: one if isinstance(one, str) else one.__name__,
    )
    def test_every_public_name(self, site: Path, module: ModuleType, name: str) -> None:
        page = built(site, "api.md")
        assert f"{module.__name__}.{name}" in parsed(page).ids
        documented = getattr(module, name).__doc__ if name != "__version__" else None
        if documented:
            first = documented.strip().split("\n\n")[0]
            assert " ".join(first.replace("`", "").split()) in plain(article(page))

    @pytest.mark.parametrize("source", sorted(SOURCES))
    def test_generated_parts_are_as_the_code_has_them(self, source: str) -> None:
        text = SOURCES[source]
        assert reference.renewed(text) == text, "run python -m docs.building.reference"

    def test_parts_are_written_anew(self) -> None:
        page = "a\n\n<!-- options: bound -->\n\nold\n\n<!-- end -->\n\nb\n"
        made = reference.renewed(page)
        assert "old" not in made
        assert "`--solve-for WORD`" in made
        assert made.startswith("a\n\n<!--")
        assert made.endswith("<!-- end -->\n\nb\n")


class TestExamples:
    @pytest.mark.parametrize("source", WITH_EXAMPLES)
    def test_pages_have_what_their_commands_wrote(self, site: Path, source: str) -> None:
        page = built(site, source)
        outputs = parsed(page).outputs
        assert all(output.strip() for output in outputs)
        assert "console exec" not in page
        assert "\x1b" not in page
        if source in ONLY_PRINTED or source.startswith("commands/"):
            assert ONLY_PRINTED[source] in " ".join(" ".join(outputs).split())

    def test_nothing_tells_where_the_site_was_built(self, site: Path) -> None:
        private = [str(ROOT), sys.executable, tempfile.gettempdir(), "rankscope-docs-"]
        for file in site.rglob("*"):
            if file.suffix in (".html", ".json", ".svg", ".xml", ".txt"):
                text = file.read_text()
                assert [word for word in private if word in text] == [], file

    def test_pictures_are_there_and_in_words(self, site: Path) -> None:
        for file in site.rglob("index.html"):
            for address, alternative in parsed(file.read_text()).images:
                assert len(alternative) > 3, address
                assert (file.parent / address).resolve().is_file(), address

    def test_the_quick_start_shows_the_run_that_it_tells_to_make(self) -> None:
        found = re.search(r"\$ python -m trainers digits (.*)", SOURCES["quickstart.md"])
        assert found is not None
        parser = argparse.ArgumentParser()
        digits.add_arguments(parser)
        assert digits.from_options(parser.parse_args(found[1].split())) == RUN

    @pytest.mark.parametrize(
        ("block", "message"),
        [
            ("exec\n$ exit 3", "`exit 3` ended with 3, expected 0"),
            ("exec\n$ echo lost >&2; exit 1\n$ true", "expected 0: lost"),
            ("exec exit=1\n$ true", "`true` ended with 0, expected 1"),
            ("exec quiet\n$ true", "'quiet' behind exec, expected one of alt, exit"),
        ],
    )
    def test_what_fails_fails_the_build(self, tmp_path: Path, block: str, message: str) -> None:
        (tmp_path / "start").mkdir()
        text = f"```console {block}\n```\n"
        with pytest.raises(examples.BuildFailed, match=re.escape(message)) as caught:
            examples.with_output(PurePosixPath("x/page.md"), text, tmp_path / "start")
        assert str(caught.value).startswith("x/page.md: ")

    def test_commands_run_one_after_the_other_on_a_terminal(self, tmp_path: Path) -> None:
        (tmp_path / "start").mkdir()
        (tmp_path / "start/given").write_text("as it was\n")
        script = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size().columns)"
        text = (
            "before\n\n```console exec\n$ cat given\n$ echo new > given\n$ cat \\\n    given\n```\n"
            f'\n```console exec shows=p.svg alt="A line"\n$ python -c "{script}"\n'
            "$ cp given p.svg\n```\n\nafter\n"
        )
        page = examples.with_output(PurePosixPath("x/page.md"), text, tmp_path / "start")
        assert parsed(page.text).outputs == ["as it was", "new", "True 80"]
        assert page.text.startswith("before\n\n```console\n$ cat given\n```\n\n<div")
        assert page.text.endswith("\n\n[![A line](page-made/p.svg)](page-made/p.svg)\n\nafter\n")
        assert page.files == {PurePosixPath("x/page-made/p.svg"): b"new\n"}
        assert (tmp_path / "start/given").read_text() == "as it was\n"

    def test_examples_of_docstrings_are_code(self, site: Path) -> None:
        assert fenced("Twice.\n\n>>> 1 + 1\n2\n\nRaises:") == (
            "Twice.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nRaises:"
        )
        assert "<blockquote>" not in built(site, "api.md")

    def test_what_was_on_another_screen_is_gone(self) -> None:
        drawn = "\x1b[?1049h\x1b[H\x1b[31mlive\x1b[0m\x1b[?1049l"
        assert parsed(terminal.to_html(f"before\r\n{drawn}after\r\n")).outputs == ["before\nafter"]

    def test_ctrl_c_ends_what_goes_on(self, tmp_path: Path) -> None:
        (tmp_path / "here").mkdir()
        ended = run(
            "trap 'echo told; exit 3' INT; echo ready; while :; do sleep 0.1; done",
            tmp_path / "here",
            until="ready",
        )
        assert (ended.output.replace("\r", ""), ended.code) == ("ready\ntold\n", 3)

    def test_colours_and_hostile_text(self) -> None:
        made = terminal.to_html("\x1b[1;36mhead\x1b[0m <script> & \x1b[2mdim\x1b[0m\r\n")
        assert '<span class="t-bold t-cyan">head</span> &lt;script&gt; &amp; ' in made
        assert '<span class="t-dim">dim</span></samp>' in made
        style = (DOCS / "site.css").read_text()
        for name in re.findall(r"t-[a-z]+", made):
            assert f".{name}" in style


class TestNothingFromElsewhere:
    def test_in_the_files(self, site: Path) -> None:
        pages = list(site.rglob("*.html"))
        assert len(pages) > len(SOURCES)
        for file in pages:
            for address in parsed(file.read_text()).loaded:
                assert not re.match(r"(?:[a-z]+:)?//", address), (file, address)
        for file in site.rglob("*.css"):
            for address in re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", file.read_text()):
                assert not re.match(r"(?:https?:)?//", address), (file, address)


@dataclass(frozen=True)
class Served:
    """The site on a server of its own, and a browser."""

    base: str
    browser: Browser

    @contextmanager
    def window(self, scheme: Literal["light", "dark"], width: int) -> Iterator[Window]:
        """A window of that size; nothing in it may ask for anything elsewhere, or complain."""
        context = self.browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 900}
        )
        wrong: list[str] = []
        page = context.new_page()
        page.on("request", lambda request: wrong.append(request.url))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        try:
            yield Window(page, self.base)
            assert [one for one in wrong if not one.startswith((self.base, "data:", "blob:"))] == []
        finally:
            context.close()


@dataclass(frozen=True)
class Window:
    """A window of the browser."""

    page: Page
    base: str

    def open(self, source: str) -> Page:
        """The page made of a source, when the theme's scripts have run."""
        place = PurePosixPath(source)
        folder = place.parent if place.stem == "index" else place.with_suffix("")
        self.page.goto(f"{self.base}/{folder}/")
        # The theme has put every table into an element of its own that scrolls.
        self.page.wait_for_function("!document.querySelector('.md-typeset > table:not([class])')")
        return self.page


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not tell of each request."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        pass


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[Served]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        with sync_playwright() as playwright:
            browser = launched(playwright)
            yield Served(f"http://127.0.0.1:{server.server_port}", browser)
            browser.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class TestReading:
    @pytest.mark.parametrize("source", sorted(SOURCES))
    def test_pages_read_alike_in_the_repository(self, source: str) -> None:
        config = load_config(str(ROOT / "mkdocs.yml"))
        ours = Markdown(extensions=config.markdown_extensions, extension_configs=config.mdx_configs)
        # It follows CommonMark, with tables, as GitHub does; the site's parser does not.
        theirs = MarkdownIt("commonmark").enable("table")
        text = examples.BLOCK.sub("", SOURCES[source])  # made into others before they are parsed
        here = re.sub(r'<a class="headerlink".*?</a>', "", ours.convert(text))
        assert words(here) == words(theirs.render(text))

    def test_no_page_is_wider_than_a_telephone(self, served: Served) -> None:
        with served.window("light", 400) as window:
            for source in sorted(SOURCES):
                page = window.open(source)
                assert page.evaluate("document.documentElement.scrollWidth") <= 400, source

    @pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
    @pytest.mark.parametrize(
        "source", ["index.md", "commands/check.md", "metrics.md", "gallery.md"]
    )
    def test_accessible(
        self, served: Served, source: str, scheme: Literal["light", "dark"], width: int
    ) -> None:
        with served.window(scheme, width) as window:
            assert accessible(window.open(source)) == []

    def test_the_system_says_whether_it_is_dark(self, served: Served) -> None:
        def lightness(scheme: Literal["light", "dark"]) -> int:
            with served.window(scheme, 1280) as window:
                page = window.open("index.md")
                colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
                return sum(map(int, re.findall(r"\d+", colour)[:3]))

        assert lightness("light") > 3 * 240
        assert lightness("dark") < 3 * 40

    def test_search_finds_without_a_network(self, served: Served) -> None:
        with served.window("light", 1280) as window:
            page = window.open("index.md")
            page.click("input[name=query]")
            page.keyboard.type("participation_ratio")
            page.wait_for_selector(".md-search-result__link[href*='#participation_ratio']")

    def test_a_command_is_copied_without_its_prompt(self, served: Served) -> None:
        with served.window("light", 1280) as window:
            page = window.open("commands/check.md")
            block = "document.querySelector('.highlight code')"
            assert page.evaluate(f"{block}.innerText").startswith("$ rankscope baseline")
            # What the theme does when the button is pressed.
            copied = page.evaluate(f"({block}.dataset.mdCopying = '', {block}.innerText)")
            assert copied.startswith("rankscope baseline")
