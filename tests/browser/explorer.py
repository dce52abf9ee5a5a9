"""One explorer on a page: the controls and the picture that `difftuning.lessons.explorers.explore` shows."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from tests.browser.lab import PAINT_SECONDS, PICTURE, LessonFailure, Watch

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

STOPS = (0.5, 1.0, 0.0)  # where along its way a drag pauses to look: half-way, at the end, back at its start
PLACED = ".widget-label, .slider-container, .widget-readout, .widget-toggle-button, img"
BOXES = f"""box => [...box.querySelectorAll('{PLACED}')].map(e => {{
    const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height].map(Math.round).join(' ') }})"""
CUT_OFF = """box => [...box.querySelectorAll('.widget-label, .widget-readout, .widget-toggle-button')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""
DATA = """async image => { const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    let text = ''; for (const byte of bytes) text += String.fromCharCode(byte); return btoa(text) }"""


def find_explorers(page: Page, watch: Watch) -> list[Explorer]:
    """All explorers of the page, from top to bottom."""
    return [Explorer(page, watch, picture) for picture in page.locator(PICTURE).all()]


class Explorer:
    """Drags and clicks; each step raises where the picture does not follow or something else moves."""

    def __init__(self, page: Page, watch: Watch, picture: Locator):
        self.page, self.watch, self.picture = page, watch, picture
        self.box = picture.locator("xpath=..")

    def drive(self) -> list[str]:
        """Use every control and put it back, as the start's values were chosen to show something.

        Returns what was tried, such as "bank share: 0.1 to 0.4".
        """
        self._show()
        self._check_layout()
        tried = [self._drag(slider) for slider in self.box.locator(".widget-hslider").all()]
        tried += [step for group in self.box.locator(".widget-toggle-buttons").all() for step in self._click_all(group)]
        if not any(tried):
            raise LessonFailure("an explorer whose controls have one value each")
        return [step for step in tried if step]

    def _show(self) -> None:
        """The controls at the top of the window, with as much of the picture below as fits."""
        self.box.evaluate("box => box.scrollIntoView({block: 'start'})")
        self.watch.settle()

    def _drag(self, slider: Locator) -> str | None:
        """To the far end and back with the mouse held down, looking on the way."""
        name, readout = slider.locator(".widget-label").inner_text(), slider.locator(".widget-readout")
        handle, track = slider.locator(".noUi-handle"), slider.locator(".noUi-base").bounding_box()
        low, now, high = (float(handle.get_attribute(f"aria-value{end}")) for end in ("min", "now", "max"))
        if low == high:
            return None  # one value: nothing to drag
        at = handle.bounding_box()
        x, y = at["x"] + at["width"] / 2, at["y"] + at["height"] / 2
        goal = track["x"] + (track["width"] if 2 * now <= low + high else 0)
        values, places, first = [readout.inner_text()], self._places(), self._pixels()
        shown = first
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        for share in STOPS:
            self.page.mouse.move(x + share * (goal - x), y, steps=4)
            self.watch.settle()
            if readout.inner_text() != values[-1]:
                values.append(readout.inner_text())
                shown = self._changed(shown, f"{name} = {values[-1]}")
            self._stayed(places, f"while {name} is dragged")
        self.page.mouse.up()
        self.watch.settle()
        self._stayed(places, f"after {name} was dragged")
        if len(values) < 3 or values[-1] != values[0]:
            raise LessonFailure(f"{name} was dragged to the end and back and stood at {', '.join(values)}")
        if shown != first:
            raise LessonFailure(f"back at {name} = {values[0]} the picture is not what it was")
        return f"{name}: {values[0]} to {values[-2]}"

    def _click_all(self, group: Locator) -> list[str]:
        """Each button that is not down already, then the first one again."""
        name, buttons = group.locator(".widget-label").inner_text(), group.locator("button").all()
        down = [i for i, button in enumerate(buttons) if "mod-active" in button.get_attribute("class")]
        order = [i for i in range(len(buttons)) if i not in down]
        tried = []
        for button in (buttons[i] for i in [*order, *down][: len(buttons) if order else 0]):
            places, shown, label = self._places(), self._pixels(), button.inner_text()
            button.click()
            self.watch.settle()
            self._changed(shown, f"{name} = {label}")
            self._stayed(places, f"after a click on {label}")
            tried.append(f"{name}: {label}")
        return tried

    def _places(self) -> list[str]:
        return self.box.evaluate(BOXES)

    def _stayed(self, places: list[str], when: str) -> None:
        for old, new in zip(places, self._places(), strict=True):
            if old != new:
                raise LessonFailure(f"something moved {when}: from {old} to {new} (left, top, width, height)")

    def _changed(self, shown: bytes, where: str) -> bytes:
        """The picture's pixels, once they differ from `shown`."""
        for _ in range(10 * PAINT_SECONDS):
            pixels = self._pixels()
            if pixels != shown:
                return pixels
            if self.watch.problems:
                break
            self.page.wait_for_timeout(100)
        reason = f": {self.watch.problems[-1]}" if self.watch.problems else ""
        raise LessonFailure(f"the picture did not change at {where}{reason}")

    def _pixels(self) -> bytes:
        """What the image shows, decoded here; a picture of one colour shows nothing."""
        from PIL import Image

        picture = Image.open(io.BytesIO(base64.b64decode(self.picture.evaluate(DATA)))).convert("RGB")
        if all(low == high for low, high in picture.getextrema()):
            raise LessonFailure("the picture is empty")
        return picture.tobytes()

    def _check_layout(self) -> None:
        """Nothing cut off or beyond the edge, and the picture at its own size or smaller."""
        cut = self.box.evaluate(CUT_OFF)
        if cut:
            raise LessonFailure(f"cut off: {', '.join(cut)}")
        room = self.box.evaluate("box => box.getBoundingClientRect().right")
        width, right, natural = self.picture.evaluate(
            "e => [e.getBoundingClientRect().width, e.getBoundingClientRect().right, e.naturalWidth]"
        )
        if width > natural + 1:
            raise LessonFailure(f"the picture of {natural} pixels is blown up to {width:.0f}")
        if right > room + 1:
            raise LessonFailure(f"the picture ends {right - room:.0f} pixels beyond its cell")
