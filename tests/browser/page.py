"""A lesson's page as its readers use it: by keyboard, on a phone, in the dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.lab import LAPTOP, LessonFailure

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator, Page

PHONE = {"width": 400, "height": 800}
SCHEMES = ("light", "dark")
SHOWN = "e => ({src: e.src, alt: e.alt, width: e.naturalWidth})"
TOO_FAINT = """() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const channels = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data] };
    const light = colour => { const [r, g, b] = channels(colour).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b };
    const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (channels(c)[3] > 250) return c }
        return 'white' };
    document.querySelectorAll('details').forEach(e => e.open = true);
    const found = {};
    for (const e of document.body.querySelectorAll('*')) {
        if (e.closest('script, style, option') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
        const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
        const ratio = (a + .05) / (b + .05);
        if (ratio < 4.5) found[`${e.tagName}.${e.className} ${ratio.toFixed(1)}`] = e.textContent.slice(0, 40);
    }
    return found }"""
TOO_WIDE = """() => [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1
    && !e.closest('pre, .highlight, .wide, .formula, .skip')).map(e => `${e.tagName}.${e.className}`)"""


def open_page(page: Page, path: Path, size: dict = LAPTOP, scheme: str = "light") -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    page.goto(path.as_uri())
    page.wait_for_load_state()


def move_every_control(page: Page) -> list[str]:
    """By keyboard, through all values and back to the start; returns what was tried, such as "t: 5 values".

    Raises where a value leaves the picture as it was, or the start is not found again.
    """
    tried = []
    for box in page.locator(".explorer").all():
        for control in box.locator("input, select").all():
            tried.append(_move(control, box.locator("img")))
    return tried


def _move(control: Locator, picture: Locator) -> str:
    name, slides = control.get_attribute("aria-label"), control.get_attribute("type") == "range"
    back, forth = ("ArrowLeft", "ArrowRight") if slides else ("ArrowUp", "ArrowDown")
    count = 1 + int(control.get_attribute("max")) if slides else control.locator("option").count()
    start, first = int(control.input_value()), picture.evaluate(SHOWN)
    shown = first
    for key, place in [*((back, i) for i in reversed(range(start))), *((forth, i) for i in range(1, count))]:
        control.press(key)
        before, shown = shown, picture.evaluate(SHOWN)
        if control.input_value() != str(place):
            raise LessonFailure(f"{name} stands at value {control.input_value()} instead of {place} after {key}")
        if shown["src"] == before["src"] or shown["alt"] == before["alt"]:
            raise LessonFailure(f"the picture did not change from {before['alt']!r} to {shown['alt']!r}")
        picture.evaluate("e => e.decode()")  # fails for a picture that cannot be shown
    for _ in range(start, count - 1):
        control.press(back)
    if picture.evaluate(SHOWN) != first:
        raise LessonFailure(f"back at its start, {name} does not show what it did")
    return f"{name}: {count} values"


def choose_every_answer(page: Page) -> list[str]:
    """Each prediction's answers in turn, by keyboard; returns the notes, such as "Recorded: better."."""
    notes = []
    for form in page.locator(".prediction").all():
        boxes = form.get_by_role("radio")
        boxes.first.press("Space")
        for place in range(boxes.count()):
            if place:
                page.keyboard.press("ArrowDown")
            if not boxes.nth(place).is_checked():
                raise LessonFailure(f"answer {place} was not chosen by its key")
            notes.append(form.locator("output").inner_text())
            if notes[-1] != f"Recorded: {boxes.nth(place).input_value()}.":
                raise LessonFailure(f"beside answer {place} stands {notes[-1]!r}")
    return notes


def poor_to_read(page: Page) -> list[str]:
    """What is wider than the window, and text that is too faint."""
    width = page.evaluate("document.documentElement.scrollWidth")
    scrolls = [f"the page is {width} pixels wide"] if width > page.viewport_size["width"] else []
    faint = page.evaluate(TOO_FAINT)
    return [*scrolls, *page.evaluate(TOO_WIDE), *(f"faint: {where} {text!r}" for where, text in faint.items())]
