"""Pages of lessons, opened from disk without network: sliders move by keyboard, nothing is wider than a phone, text can be read in the dark.

To look at the screenshots: DIFFTUNING_SCREENSHOTS=runs/screenshots python -m pytest tests/browser/test_pages.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.lab import LessonFailure
from tests.browser.page import PHONE, SCHEMES, choose_every_answer, move_every_control, open_page, poor_to_read
from tests.notebooks.pages.write import write_pages
from tests.notebooks.small_lessons import FIRST, SECOND, write_lessons

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(browser, tmp_path_factory) -> Path:
    """`browser` first, so that without one no page is made."""
    place = tmp_path_factory.mktemp("pages")
    write_pages(write_lessons(place / "executed"), place / "pages")
    return place / "pages"


def test_every_control_moves_its_picture_by_keyboard(folder, watched, keep):
    page, watch = watched
    open_page(page, folder / f"{FIRST}.html")
    assert move_every_control(page) == ["t: 5 values", "colour: 2 values", "t: 10 values", "more: 10 values"]
    assert watch.problems == []
    keep(page.screenshot(full_page=True), "page-explorers")


def test_a_picture_that_stays_is_found_out(folder, watched):
    page, _ = watched
    open_page(page, folder / f"{FIRST}.html")
    page.locator(".explorer input").first.evaluate("e => e.addEventListener('input', s => s.stopImmediatePropagation(), true)")
    page.locator(".explorer").first.evaluate("e => e.addEventListener('input', s => s.stopPropagation(), true)")
    with pytest.raises(LessonFailure, match="the picture did not change from 't = 300"):
        move_every_control(page)


def test_a_prediction_is_recorded_below_its_question_and_leaves_the_others_alone(folder, watched, keep):
    page, watch = watched
    open_page(page, folder / f"{SECOND}.html", PHONE, "dark")
    first, last = page.locator(".prediction").all()
    first.get_by_label("darker").check()
    assert first.locator("output").inner_text() == "Recorded: darker."
    assert "Choose one" in last.locator("output").inner_text() and not last.get_by_label("darker").is_checked()
    keep(first.screenshot(), "page-prediction-dark")
    assert choose_every_answer(page) == ["Recorded: darker.", "Recorded: as dark & no more."] * 2
    assert first.get_by_label("as dark").is_checked() and poor_to_read(page) == [] and watch.problems == []
    last.get_by_label("as dark").press("Enter")
    assert page.url.endswith(f"{SECOND}.html") and last.get_by_label("as dark").is_checked(), "nothing is sent anywhere"


def test_a_slider_shows_and_says_its_value(folder, watched):
    page, watch = watched
    open_page(page, folder / f"{FIRST}.html")
    slider, label = page.locator("input[type=range]").first, page.locator("output").first
    assert page.get_by_label("t", exact=True).first.get_attribute("type") == "range"
    assert (label.inner_text(), slider.get_attribute("aria-valuetext")) == ("300", "300")
    slider.press("End")
    assert (label.inner_text(), slider.get_attribute("aria-valuetext")) == ("900", "900")
    assert page.locator(".explorer img").first.get_attribute("alt") == "t = 900, colour = red. A shade: [230, 0, 0]."
    assert watch.problems == []


def test_where_combinations_are_missing_the_others_go_back_to_the_start(folder, watched):
    page, watch = watched
    open_page(page, folder / f"{FIRST}.html")
    t, more = page.locator(".explorer").nth(1).locator("input").all()
    t.press("End")
    more.press("End")
    assert (t.input_value(), more.input_value()) == ("5", "9")
    assert page.locator(".explorer img").nth(1).get_attribute("alt").startswith("t = 500, more = 9, colour = red.")
    assert watch.problems == []


def test_without_scripts_there_are_pictures_and_no_dead_controls(folder, browser):
    still = browser.browser.new_context(java_script_enabled=False)
    page = still.new_page()
    open_page(page, folder / f"{FIRST}.html")
    assert page.locator(".explorer img").first.is_visible() and not page.locator(".controls").first.is_visible()
    still.close()


@pytest.mark.parametrize("name", [FIRST, SECOND, "index"])
def test_a_page_fits_a_phone_and_its_text_stands_out_in_both_schemes(folder, watched, keep, name):
    page, watch = watched
    for scheme in SCHEMES:
        open_page(page, folder / f"{name}.html", PHONE, scheme)
        keep(page.screenshot(full_page=True), f"page-{name}-{scheme}")
        assert poor_to_read(page) == []
    assert watch.problems == []


def test_figures_lie_on_a_light_card_in_the_dark(folder, watched):
    page, _ = watched
    open_page(page, folder / f"{FIRST}.html", scheme="dark")
    for picture in page.locator("figure img").all():
        assert picture.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"
