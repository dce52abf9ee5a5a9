"""Drive notebooks in a real browser as a reader does: run them, drag their sliders, click their buttons.

`Watch` collects what goes wrong on the way.  It also reads the kernel's messages on the wire, because a
callback that raises shows in no cell: its error lies in a log that nobody opens.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route, WebSocket

PICTURE = "img.difftuning-picture"
PREDICTION = ".difftuning-prediction"
QUIET_SECONDS = 0.25  # nothing more comes from an idle kernel after that
ANSWER_SECONDS = 20  # for one step of a slider: generous, the kernel side's own limit is tested elsewhere
PAINT_SECONDS = 5  # for the picture, once the kernel has answered
LAPTOP, NARROW = {"width": 1366, "height": 768}, {"width": 800, "height": 768}
# Console errors that are not ours, as patterns, each with its reason.  JupyterLab 4.6 and Voila 0.5 have none.
CONSOLE_NOISE: tuple[str, ...] = ()
# What pages may ask for elsewhere.  Tests go without network: it is answered here, with nothing in it.
OUTSIDE = {
    # the badge in each lesson's head, the one picture that is not ours
    "https://colab.research.google.com/assets/colab-badge.svg": (
        "image/svg+xml",
        '<svg xmlns="http://www.w3.org/2000/svg" width="117" height="20"/>',
    ),
    # icon fonts in the template of Voila's pages; no control of ours has an icon
    "https://cdn.jsdelivr.net/npm/@fortawesome/fontawesome-free@%5E5/css/all.min.css": ("text/css", ""),
    "https://cdn.jsdelivr.net/npm/@fortawesome/fontawesome-free@%5E5/css/v4-shims.min.css": ("text/css", ""),
}


class LessonFailure(AssertionError):
    """A notebook did not do in the browser what it should; the message says where."""


class Watch:
    """Everything that goes wrong on a page, and whether its kernel still works."""

    def __init__(self, page: Page):
        self.problems: list[str] = []
        self._page, self._heard, self._busy = page, time.monotonic(), False
        page.route(lambda url: urlsplit(url).hostname not in ("127.0.0.1", None), self._outside)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("websocket", self._socket)

    def settle(self, seconds: float = ANSWER_SECONDS) -> None:
        """Wait until the kernel is idle and nothing more arrives."""
        self._heard = time.monotonic()
        deadline = self._heard + seconds
        while self._busy or time.monotonic() - self._heard < QUIET_SECONDS:
            if time.monotonic() > deadline:
                raise LessonFailure(f"the kernel was still busy after {seconds:g} s")
            self._page.wait_for_timeout(30)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(re.search(noise, message.text) for noise in CONSOLE_NOISE):
            self.problems.append(f"console error: {message.text[:500]} ({message.location.get('url', '')[:200]})")

    def _outside(self, route: Route) -> None:
        if route.request.url in OUTSIDE:
            kind, body = OUTSIDE[route.request.url]
            route.fulfill(content_type=kind, body=body)
        else:
            self.problems.append(f"the page asks for {route.request.url[:200]}")
            route.abort()

    def _socket(self, socket: WebSocket) -> None:
        if "/channels" in socket.url:
            socket.on("framereceived", self._frame)

    def _frame(self, frame: str | bytes) -> None:
        self._heard = time.monotonic()
        kind, asked_by, content = kernel_message(frame)
        if kind == "status":
            self._busy = content["execution_state"] != "idle"
        elif kind == "error":
            where = "a callback" if asked_by.startswith("comm") else "a cell"
            self.problems.append(f"{where} raised {content['ename']}: {content['evalue']}")
        elif kind == "stream" and "Traceback (most recent call last)" in content["text"]:
            self.problems.append(f"printed a traceback: {content['text'][-500:]}")


@contextmanager
def watched_page(browser: BrowserContext) -> Iterator[tuple[Page, Watch]]:
    """A page at laptop size, and what goes wrong on it."""
    page = browser.new_page()
    page.set_viewport_size(LAPTOP)
    try:
        yield page, Watch(page)
    finally:
        page.close()


def kernel_message(frame: str | bytes) -> tuple[str, str, dict[str, Any]]:
    """Type, type of the request it answers, and content of a frame from a kernel's socket.

    Text frames are JSON; binary ones follow v1.kernel.websocket.jupyter.org: a count of offsets, the offsets
    (64 bits each, little-endian), then channel, header, parent header, metadata, content and buffers.
    """
    if isinstance(frame, str):
        message = json.loads(frame)
        header, parent, content = message["header"], message["parent_header"], message["content"]
    else:
        numbers = [int.from_bytes(frame[8 * i : 8 * i + 8], "little") for i in range(1 + frame[0])]
        parts = [frame[begin:end] for begin, end in zip(numbers[1:], numbers[2:])]
        header, parent, content = (json.loads(parts[i]) for i in (1, 2, 4))
    return header["msg_type"], parent.get("msg_type", ""), content


def open_notebook(page: Page, address: str) -> None:
    """Open a notebook in JupyterLab and wait for its kernel."""
    page.goto(address)
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.content?.model?.cells?.length", timeout=90_000)
    page.evaluate("async () => { await jupyterapp.shell.currentWidget.sessionContext.ready }")
    kernel = "jupyterapp.shell.currentWidget.sessionContext.session?.kernel"
    page.wait_for_function(f"{kernel}?.connectionStatus === 'connected' && {kernel}.status === 'idle'", timeout=90_000)


def run_all(page: Page, watch: Watch, seconds: float) -> None:
    """Run > Run All Cells; raises at the first cell that fails, or after `seconds`."""
    from playwright.sync_api import TimeoutError as Late

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    counts = "jupyterapp.shell.currentWidget.content.widgets.filter(c => c.model.type === 'code' && c.model.sharedModel.getSource())"
    failed = f"{counts}.some(c => c.model.outputs.toJSON().some(o => o.output_type === 'error'))"
    try:
        page.wait_for_function(f"{counts}.every(c => c.model.executionCount) || {failed}", timeout=1000 * seconds, polling=100)
    except Late:
        raise LessonFailure(f"not every cell had run after {seconds:g} s: {_first_left_over(page)}") from None
    for index, cell in enumerate(_cells(page)):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                raise LessonFailure(f"cell {index} raised {output['ename']}: {output['evalue']}")
    watch.settle()


def click_every_answer(page: Page, watch: Watch) -> list[str]:
    """Each prediction's radio buttons in turn; returns the notes below them, such as "Recorded: better."."""
    notes = []
    for prediction in page.locator(PREDICTION).all():
        for button in prediction.locator("label:has(input[type=radio])").all():
            button.click()
            watch.settle()
            notes.append(prediction.locator(".widget-label").last.inner_text())
            if notes[-1] != f"Recorded: {button.inner_text().strip()}.":
                raise LessonFailure(f"after a click on {button.inner_text().strip()!r} the note says {notes[-1]!r}")
    return notes


def _cells(page: Page) -> list[dict[str, Any]]:
    return page.evaluate("jupyterapp.shell.currentWidget.content.model.toJSON().cells")


def _first_left_over(page: Page) -> str:
    left = [i for i, cell in enumerate(_cells(page)) if cell["cell_type"] == "code" and not cell["execution_count"]]
    return f"the first of them is cell {left[0]}" if left else "all have a number now"


def screenfuls(page: Page) -> list[bytes]:
    """The notebook from top to bottom, one screenshot to a screen, for people to look at."""
    shots, panel = [], page.locator(".jp-WindowedPanel-outer").first
    height = panel.evaluate("e => e.clientHeight")
    for top in range(0, 200 * height, height - 60):
        if panel.evaluate("(e, top) => { e.scrollTop = top; return e.scrollTop }", top) < top - height:
            break
        page.wait_for_timeout(400)
        shots.append(page.screenshot())
    return shots


def open_voila(page: Page, watch: Watch, address: str, seconds: float, pictures: int) -> None:
    """Open a notebook as a page of Voila, which runs it first, and wait for so many explorers; raises where a cell failed."""
    failures = page.locator("pre", has_text="Traceback (most recent call last)")
    page.goto(address, timeout=1000 * seconds)
    explorers = page.locator(PICTURE)
    deadline = time.monotonic() + ANSWER_SECONDS
    while not failures.count() and explorers.count() < pictures and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    if failures.count():
        raise LessonFailure(failures.first.inner_text()[-500:])
    if explorers.count() < pictures:
        raise LessonFailure(f"{explorers.count()} explorers on the page instead of {pictures}")
    watch.settle()
