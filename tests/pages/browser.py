"""A page in a browser that has no network, and whatever goes wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright

from tests.tools import required

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Reports of the Content-Security-Policy that no console message would tell.
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class Opened:
    """A page and what it has complained about or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Nothing went wrong, and nothing was loaded but the page itself."""
        assert not self.complaints, self.complaints
        assert not (found := self.page.evaluate("window.violations")), found
        assert len(self.requests) == 1, self.requests
        assert self.requests[0].startswith("file://"), self.requests

    def eval(self, script: str, argument: Any = None) -> Any:
        """What a script in the page returns."""
        return self.page.evaluate(script, argument)

    def set_eps(self, eps: float) -> None:
        """Type a threshold, as a person does."""
        self.page.fill("#eps", repr(eps))

    def settle(self) -> None:
        """Wait until charts and what follows the threshold have been drawn."""
        self.page.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )


def launched(playwright: Playwright) -> Browser:
    """The machine's Chromium; the test is skipped without one."""
    program = required("chromium")
    return playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))


@contextmanager
def opened(
    browser: Browser,
    file: Path,
    *,
    theme: Literal["light", "dark"] = "light",
    width: int = 1280,
    height: int = 900,
) -> Iterator[Opened]:
    """A page from disk, offline, when it is ready; afterwards nothing must have gone wrong."""
    context = browser.new_context(
        offline=True, color_scheme=theme, viewport={"width": width, "height": height}
    )
    found = Opened(context.new_page())
    page = found.page
    page.add_init_script(WATCH)
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("pageerror", lambda error: found.complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: _dialog(found, dialog))
    page.on(
        "console",
        lambda message: (
            found.complaints.append(f"{message.type}: {message.text}")
            if message.type in ("error", "warning")
            else None
        ),
    )
    try:
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=20_000)
        yield found
        found.check()
    finally:
        context.close()


def _dialog(found: Opened, dialog: Any) -> None:
    found.complaints.append(f"dialog: {dialog.message}")
    dialog.dismiss()


def accessible(page: Page) -> list[str]:
    """What axe-core finds wrong with a page as it is, one line a rule."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'][:120] for node in rule['nodes'][:3]]}"
        for rule in found
    ]
