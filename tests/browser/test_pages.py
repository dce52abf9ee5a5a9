"""Pages of lessons, opened from disk without network: sliders move by keyboard, nothing is wider than a phone, text can be read in the dark.

To look at the screenshots: DIFFTUNING_SCREENSHOTS=runs/screenshots python -m pytest tests/browser/test_pages.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.lab import LAPTOP
from tests.notebooks.pages.lessons import NOTEBOOKS
from tests.notebooks.pages.write import write_pages
from tests.notebooks.small_lessons import FIRST, SECOND, write_lessons

pytestmark = pytest.mark.browser
PHONE = {"width": 400, "height": 800}
SCHEMES = ("light", "dark")
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
NAMES = [FIRST, SECOND, "index", *(path.stem for path in LESSONS)]
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


@pytest.fixture(scope="module")
def folder(browser, tmp_path_factory) -> Path:
    """`browser` first, so that without one no page is made.  The committed lessons stand there with what they show when read."""
    place = tmp_path_factory.mktemp("pages")
    write_pages(LESSONS, place / "pages")
    write_pages(write_lessons(place / "executed"), place / "pages")
    return place / "pages"


def open_page(page, folder: Path, name: str, size: dict = LAPTOP, scheme: str = "light") -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    page.goto((folder / f"{name}.html").as_uri())
    page.wait_for_load_state()


def test_every_control_moves_its_picture_by_keyboard(folder, watched, keep):
    page, watch = watched
    open_page(page, folder, FIRST)
    moved = 0
    for box in page.locator(".explorer").all():
        picture = box.locator("img")
        for control in box.locator("input, select").all():
            before, value = picture.evaluate(SHOWN), control.input_value()
            control.focus()
            page.keyboard.press("ArrowRight" if control.get_attribute("type") == "range" else "ArrowDown")
            after = picture.evaluate(SHOWN)
            assert control.input_value() != value and after["src"] != before["src"] and after["alt"] != before["alt"]
            picture.evaluate("e => e.decode()")  # fails for a picture that cannot be shown
            page.keyboard.press("ArrowLeft" if control.get_attribute("type") == "range" else "ArrowUp")
            assert picture.evaluate(SHOWN)["src"] == before["src"]
            moved += 1
    assert moved == 4 and watch.problems == []
    keep(page.screenshot(full_page=True), "page-explorers")


def test_a_slider_shows_and_says_its_value(folder, watched):
    page, watch = watched
    open_page(page, folder, FIRST)
    slider, label = page.locator("input[type=range]").first, page.locator("output").first
    assert page.get_by_label("t", exact=True).first.get_attribute("type") == "range"
    assert (label.inner_text(), slider.get_attribute("aria-valuetext")) == ("300", "300")
    slider.press("End")
    assert (label.inner_text(), slider.get_attribute("aria-valuetext")) == ("900", "900")
    assert page.locator(".explorer img").first.get_attribute("alt") == "t = 900, colour = red. A shade: [230, 0, 0]."
    assert watch.problems == []


def test_where_combinations_are_missing_the_others_go_back_to_the_start(folder, watched):
    page, watch = watched
    open_page(page, folder, FIRST)
    t, more = page.locator(".explorer").nth(1).locator("input").all()
    t.press("End")
    more.press("End")
    assert (t.input_value(), more.input_value()) == ("5", "9")
    assert page.locator(".explorer img").nth(1).get_attribute("alt").startswith("t = 500, more = 9, colour = red.")
    assert watch.problems == []


def test_without_scripts_there_are_pictures_and_no_dead_controls(folder, browser):
    still = browser.browser.new_context(java_script_enabled=False)
    page = still.new_page()
    open_page(page, folder, FIRST)
    assert page.locator(".explorer img").first.is_visible() and not page.locator(".controls").first.is_visible()
    still.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_a_phone_and_its_text_stands_out_in_both_schemes(folder, watched, keep, name):
    page, watch = watched
    for scheme in SCHEMES:
        open_page(page, folder, name, PHONE, scheme)
        keep(page.screenshot(full_page=True), f"page-{name}-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.evaluate(TOO_WIDE) == []
        assert page.evaluate(TOO_FAINT) == {}
    assert watch.problems == []


def test_figures_lie_on_a_light_card_in_the_dark(folder, watched):
    page, _ = watched
    open_page(page, folder, FIRST, scheme="dark")
    for picture in page.locator("figure img").all():
        assert picture.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"
