"""Each lesson's page, made from the run that the other tests look at: every slider and prediction by keyboard, then on a phone in both schemes.

To look at the screenshots: DIFFTUNING_SCREENSHOTS=runs/screenshots python -m pytest tests/browser
"""

from __future__ import annotations

import pytest

from tests.browser.notebooks import explorer_cells, lessons, prediction_cells
from tests.browser.page import PHONE, SCHEMES, choose_every_answer, move_every_control, open_page, poor_to_read
from tests.notebooks.pages.write import LARGEST_PAGE, write_pages

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
def test_a_lessons_page_moves_without_a_kernel_and_can_be_read(path, watched, executed_lessons, tmp_path, keep):
    page, watch = watched  # first, so that without a browser nothing is run
    made, _ = write_pages([executed_lessons.of(path).notebook()], tmp_path)
    assert made.stat().st_size <= LARGEST_PAGE
    open_page(page, made)
    assert page.locator(".explorer").count() >= explorer_cells(path) and page.locator(".prediction").count() == prediction_cells(path)
    moved, chosen = move_every_control(page), choose_every_answer(page)
    print(f"{path.stem}: {made.stat().st_size / 1e6:.1f} MB; {'; '.join(moved)}; {' '.join(chosen)}")
    for scheme in SCHEMES:
        open_page(page, made, PHONE, scheme)
        keep(page.screenshot(full_page=True), f"page-{path.stem}-{scheme}")
        assert poor_to_read(page) == []
    assert watch.problems == []
