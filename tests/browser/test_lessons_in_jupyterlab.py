"""Each lesson in JupyterLab, as a reader meets it: run all, choose every answer, drag every slider, click every button, at two widths.

To look at the screenshots: DIFFTUNING_SCREENSHOTS=runs/screenshots python -m pytest tests/browser
"""

from __future__ import annotations

import os

import pytest

from tests.browser.explorer import find_explorers
from tests.browser.lab import LAPTOP, NARROW, PREDICTION, click_every_answer, open_notebook, run_all, screenfuls
from tests.browser.notebooks import copy_lesson, explorer_cells, lessons, prediction_cells
from tests.browser.servers import jupyterlab

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SECONDS = 180 * float(os.environ.get("DIFFTUNING_TIME_FACTOR", 1))  # to run all; lessons' own limits are kept elsewhere


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
def test_a_lessons_widgets_follow_mouse_and_width(path, watched, keep, tmp_path):
    page, watch = watched
    copy_lesson(path, tmp_path / "notebooks")
    with jupyterlab(tmp_path / "notebooks", tmp_path / "server") as address:
        open_notebook(page, address(path.name))
        run_all(page, watch, seconds=SECONDS)
        assert len(find_explorers(page, watch)) >= explorer_cells(path)
        assert page.locator(PREDICTION).count() == prediction_cells(path)
        print(f"{path.stem}: {' '.join(click_every_answer(page, watch))}")
        for size in (LAPTOP, NARROW):
            page.set_viewport_size(size)
            name = f"{path.stem}-{size['width']}"
            for number, shot in enumerate(screenfuls(page)):
                keep(shot, f"{name}-screen{number:02}")
            for number, explorer in enumerate(find_explorers(page, watch)):
                try:
                    print(f"{name}, explorer {number}: {'; '.join(explorer.drive())}")
                finally:
                    keep(page.screenshot(), f"{name}-explorer{number}")
        watch.settle()
        assert watch.problems == []
        page.goto("about:blank")  # before the server goes: a page without one complains
