"""The browser of this machine; without one, or without Playwright, these tests are skipped and say so."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator

import pytest

from tests.browser.lab import Watch, watched_page

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")  # not longer: while Playwright lives, no other test can have an event loop in this thread
def browser() -> Iterator[BrowserContext]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (extra `test`)")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as session:
        running = session.chromium.launch(executable_path=program, args=["--disable-quic"])
        yield running.new_context()  # one for all pages, so that JupyterLab's scripts are loaded once


@pytest.fixture
def watched(browser) -> Iterator[tuple[Page, Watch]]:
    with watched_page(browser) as page_and_watch:
        yield page_and_watch


@pytest.fixture
def keep(request, tmp_path) -> Callable[[bytes, str], None]:
    """Keep a screenshot, in the test's own folder or in DIFFTUNING_SCREENSHOTS."""
    folder = Path(os.environ.get("DIFFTUNING_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return lambda shot, name: folder.joinpath(re.sub(r"[^\w.-]+", "-", name) + ".png").write_bytes(shot)
