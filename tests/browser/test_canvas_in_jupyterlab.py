"""The canvas of lesson 08 in JupyterLab: what is drawn with the mouse and with keys is in the kernel, on a wide page and on a narrow dark one."""

from __future__ import annotations

import ast

import pytest

from tests.browser.lab import open_notebook, run_all
from tests.browser.notebooks import write_notebook
from tests.browser.servers import jupyterlab

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CELL = """
import torch
from difftuning.lessons.controlnet.canvas import Canvas
from difftuning.lessons.figures import picture_rows

canvas = Canvas(torch.full((1, 3, 32, 32), -1.0), lambda picture: picture_rows({"drawn": picture}))
canvas
"""
# an expression's value in the notebook's kernel, as text
ASK = """async expression => {
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const reply = await kernel.requestExecute({code: '', silent: true, user_expressions: {answer: expression}}).done;
    return reply.content.user_expressions.answer.data['text/plain'] }"""
DARK = "jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"


def drawn(page, watch) -> dict[tuple[int, int], int]:
    """Column, row and grey value of the kernel's pixels that are not black."""
    watch.settle()
    found = "{(place % 32, place // 32): value for place, value in enumerate(canvas.surface.pixels) if value}"
    return ast.literal_eval(page.evaluate(ASK, found))


def test_a_stroke_and_keys_arrive_in_the_kernel_and_fill_shows_a_picture(watched, keep, tmp_path):
    page, watch = watched
    write_notebook(tmp_path / "notebooks" / "canvas.ipynb", CELL)
    with jupyterlab(tmp_path / "notebooks", tmp_path / "server") as address:
        open_notebook(page, address("canvas.ipynb"))
        run_all(page, watch, seconds=60)
        surface = page.get_by_label("Drawing of 32 by 32 pixels")
        box = surface.bounding_box()
        assert box["width"] == pytest.approx(12 * 32, abs=4) and box["height"] == pytest.approx(box["width"], abs=1)

        def stroke(*pixels: tuple[int, int]) -> None:
            for place, (column, row) in enumerate(pixels):
                page.mouse.move(box["x"] + (column + 0.5) * box["width"] / 32, box["y"] + (row + 0.5) * box["height"] / 32)
                if place == 0:
                    page.mouse.down()
            page.mouse.up()

        stroke((5, 4), (14, 4), (14, 20))  # thick and bright, as a canvas begins
        across = {(column, row) for column in range(4, 16) for row in range(3, 6)}
        down = {(column, row) for column in range(13, 16) for row in range(3, 22)}
        assert drawn(page, watch) == dict.fromkeys(across | down, 230)

        page.get_by_role("button", name="black").click()
        page.get_by_role("button", name="thin").click()
        stroke((14, 20), (14, 10))
        assert drawn(page, watch) == dict.fromkeys((across | down) - {(14, row) for row in range(10, 21)}, 230)

        keep(page.screenshot(), "canvas-wide")
        page.get_by_role("button", name="clear").click()
        page.get_by_role("button", name="half").click()
        surface.focus()
        for key in ("ArrowLeft", "ArrowUp", "Space", "Shift+ArrowUp"):  # from the last pixel of the stroke
            page.keyboard.press(key)
        assert drawn(page, watch) == {(13, 9): 128, (13, 8): 128}
        assert page.get_by_text("Column 14, row 9: 50 % bright.").is_visible()

        page.get_by_role("button", name="Fill").click()
        page.locator(".widget-image").wait_for()
        page.set_viewport_size({"width": 400, "height": 900})
        page.evaluate(DARK)
        watch.settle()
        room = page.locator(".jp-OutputArea-output").first.bounding_box()
        for element in (surface, page.locator(".widget-image")):
            shown = element.bounding_box()
            assert shown["x"] + shown["width"] <= room["x"] + room["width"] + 1
        keep(page.screenshot(), "canvas-narrow-dark")
        assert watch.problems == []
        page.goto("about:blank")
