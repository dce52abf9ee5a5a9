"""The driver of the lessons sees what works, and each way in which a notebook can fail in a browser.

One JupyterLab for all of them; the notebooks are small and made here.
"""

from __future__ import annotations

import pytest

from tests.browser.explorer import find_explorers
from tests.browser.lab import LAPTOP, NARROW, LessonFailure, click_every_answer, open_notebook, run_all, watched_page
from tests.browser.notebooks import EXPLORER, write_notebook
from tests.browser.servers import jupyterlab

pytestmark = [pytest.mark.browser, pytest.mark.slow]

GOOD = "explore(precompute(draw, power=[0.5, 1, 2, 3], law=['rising', 'falling']), power=2)"
RAISES = """
def picture(power):
    if power > 1:
        raise ValueError("no such power")
    return precompute(lambda power: draw(power, "rising"), power=[power])(power=power)
picture.axes = {"power": [0.5, 1, 2, 3]}
explore(picture)
"""
STUCK = "explore(precompute(lambda power: draw(1, 'rising'), power=[0.5, 1, 2]))"
EMPTY = "explore(precompute(lambda power: Figure(figsize=(4, 2)), power=[0.5, 1, 2]))"
JUMPS = """
from difftuning.lessons.explorers import fixed_size_png
def picture(power):
    figure = draw(power, "rising")
    figure.set_size_inches(6, power)
    return fixed_size_png(figure)
picture.axes = {"power": [2, 3, 4]}
explore(picture)
"""
WIDE = "box = explore(precompute(draw, power=[1, 2], law=['rising']))\nbox.children[-1].layout.min_width = '1400px'\nbox"
BREACHES = {
    "a callback that raises": (RAISES, "did not change at power = .*: a callback raised ValueError: no such power"),
    "a picture that stands still": (STUCK, "the picture did not change at power = "),
    "an empty picture": (EMPTY, "the picture is empty"),
    "a picture that jumps": (JUMPS, "something moved while power is dragged"),
    "a picture wider than its cell": (WIDE, "blown up to 1400"),
}


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """Where to put notebooks, and their addresses; `browser` first, so that without one no server starts."""
    folder = tmp_path_factory.mktemp("notebooks")
    with jupyterlab(folder, tmp_path_factory.mktemp("server")) as address:
        yield folder, address


@pytest.fixture(scope="module")
def shelf(lab, browser):
    """A page with one good explorer and all the bad ones below it, run once."""
    with watched_page(browser) as (page, watch):
        open_with(lab, page, EXPLORER, GOOD, *(cell for cell, _ in BREACHES.values()))
        run_all(page, watch, seconds=120)
        yield page, watch


def open_with(lab, page, *cells: str) -> None:
    folder, address = lab
    name = f"lesson{len(list(folder.glob('*.ipynb')))}.ipynb"
    write_notebook(folder / name, *cells)
    open_notebook(page, address(name))


@pytest.mark.parametrize("size", [LAPTOP, NARROW], ids=lambda size: f"{size['width']} wide")
def test_a_good_explorer_follows_its_slider_and_its_buttons(shelf, keep, size):
    page, watch = shelf
    page.set_viewport_size(size)
    good, *_ = find_explorers(page, watch)
    assert good.drive() == ["power: 2 to 0.5", "law: falling", "law: rising"]
    assert watch.problems == []
    keep(page.screenshot(), f"small-{size['width']}")


@pytest.mark.parametrize("breach", BREACHES)
def test_a_bad_explorer_is_found_out(shelf, keep, breach):
    page, watch = shelf
    page.set_viewport_size(LAPTOP)
    found = find_explorers(page, watch)[1:]
    with pytest.raises(LessonFailure, match=BREACHES[breach][1]):
        found[list(BREACHES).index(breach)].drive()
    keep(page.screenshot(), breach)
    page.mouse.up()  # a drag may have been broken off
    watch.settle()
    watch.problems.clear()


def test_a_prediction_is_chosen_and_one_that_does_not_say_so_is_found_out(lab, watched):
    page, watch = watched
    asks = "from difftuning.lessons.predictions import predict\npredict('Which?', ['this', 'that & more'])"
    mute = "guess = predict('Which?', ['this', 'that'])\nguess.buttons.unobserve_all()\nguess"
    open_with(lab, page, asks)
    run_all(page, watch, seconds=60)
    assert click_every_answer(page, watch) == ["Recorded: this.", "Recorded: that & more."] and watch.problems == []
    open_with(lab, page, asks, mute)
    run_all(page, watch, seconds=60)
    with pytest.raises(LessonFailure, match="after a click on 'this' the note says 'Choose one"):
        click_every_answer(page, watch)


def test_a_cell_that_fails_is_named(lab, watched):
    page, watch = watched
    open_with(lab, page, "1 + 1", "[][3]", "print('not reached')")
    with pytest.raises(LessonFailure, match="cell 1 raised IndexError"):
        run_all(page, watch, seconds=60)
    assert watch.problems == ["a cell raised IndexError: list index out of range"]


def test_a_cell_that_takes_too_long_is_named(lab, watched):
    page, watch = watched
    open_with(lab, page, "1 + 1", "import time\ntime.sleep(20)")
    with pytest.raises(LessonFailure, match="after 3 s: the first of them is cell 1"):
        run_all(page, watch, seconds=3)


def test_errors_of_the_page_and_requests_to_the_outside_are_collected(lab, watched):
    page, watch = watched
    open_with(
        lab,
        page,
        "from IPython.display import HTML, Javascript, display",
        "display(Javascript(\"console.error('from a cell'); setTimeout(() => { throw new Error('later') })\"))",
        "display(HTML('<img src=\"https://pictures.example.org/x.png\">'))",
        "import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()",
    )
    run_all(page, watch, seconds=60)
    found = "\n".join(watch.problems)
    for part in ("console error: from a cell", "page error: later", "asks for https://pictures.example.org/x.png", "traceback"):
        assert part in found
