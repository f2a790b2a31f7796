"""One browser for all tests of pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.pages.browser import launched


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium; a test that asks for it is skipped where there is none."""
    with sync_playwright() as playwright:
        found = launched(playwright)
        yield found
        found.close()
