"""A lesson as a page without code: Voila runs it for each visitor, and its explorers work as in JupyterLab."""

from __future__ import annotations

import os

import pytest

from tests.browser.explorer import find_explorers
from tests.browser.lab import LAPTOP, NARROW, LessonFailure, open_voila
from tests.browser.notebooks import EXPLORER, LESSONS, copy_lesson, explorer_cells, write_notebook
from tests.browser.servers import voila

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LESSON = LESSONS / "04_timestep_weights.ipynb"
SECONDS = 180 * float(os.environ.get("DIFFTUNING_TIME_FACTOR", 1))


@pytest.mark.skipif(not LESSON.is_file(), reason=f"there is no {LESSON.name} yet")
def test_the_timestep_weights_work_under_voila(watched, keep, tmp_path):
    page, watch = watched
    copy_lesson(LESSON, tmp_path / "notebooks")
    with voila(tmp_path / "notebooks", tmp_path / "server") as address:
        open_voila(page, watch, address(LESSON.name), SECONDS, pictures=explorer_cells(LESSON))
        for size in (LAPTOP, NARROW):
            page.set_viewport_size(size)
            for number, explorer in enumerate(find_explorers(page, watch)):
                explorer.drive()
                keep(page.screenshot(), f"voila-{LESSON.stem}-{size['width']}-explorer{number}")
        assert watch.problems == []
        page.goto("about:blank")


def test_a_small_notebook_works_under_voila_and_a_failing_one_is_found_out(watched, tmp_path):
    page, watch = watched
    write_notebook(tmp_path / "notebooks" / "good.ipynb", EXPLORER, "explore(precompute(draw, power=[1, 2, 3], law=['rising']))")
    write_notebook(tmp_path / "notebooks" / "bad.ipynb", "print('begins')", "[][3]", "print('not reached')")
    with voila(tmp_path / "notebooks", tmp_path / "server") as address:
        open_voila(page, watch, address("good.ipynb"), 60, pictures=1)
        (explorer,) = find_explorers(page, watch)
        assert explorer.drive() == ["power: 1 to 3"]
        assert watch.problems == []
        with pytest.raises(LessonFailure, match="IndexError: list index out of range"):
            open_voila(page, watch, address("bad.ipynb"), 60, pictures=1)
        page.goto("about:blank")
