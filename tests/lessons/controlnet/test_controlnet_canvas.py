"""Lesson 08's canvas: the picture is what the pixels say, a browser's numbers are checked, and Fill draws what stands there now."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from traitlets import TraitError

from difftuning.data.tasks import load_task
from difftuning.lessons.controlnet.canvas import Canvas
from difftuning.lessons.controlnet.drawing import picture_of
from difftuning.lessons.figures import Figure, describe
from difftuning.lessons.page_frames import description_of

DRAWING = "\n".join(["." * 32] * 3 + [".#+#"] * 2)


def brightness(picture: torch.Tensor) -> Figure:
    return describe(Figure(figsize=(2, 1)), f"Brightness {float(picture.mean()):.3f}.")


@pytest.fixture
def canvas() -> Canvas:
    return Canvas(picture_of(DRAWING), brightness)


def test_pixels_are_grey_values_row_by_row(canvas):
    canvas.surface.pixels = [place % 256 for place in range(1024)]
    expected = torch.tensor([[(32 * row + column) % 256 / 127.5 - 1 for column in range(32)] for row in range(32)])
    assert canvas.picture.shape == (1, 3, 32, 32) and canvas.picture.dtype == torch.float32
    torch.testing.assert_close(canvas.picture, expected.expand(1, 3, 32, 32))


def test_a_canvas_starts_with_its_picture_to_eight_bits(canvas):
    torch.testing.assert_close(canvas.picture, picture_of(DRAWING), atol=0.004, rtol=0)
    stored = load_task("footwear", split="test").read([3])  # grey and of eight bits
    torch.testing.assert_close(Canvas(stored, brightness).picture, stored)


@pytest.mark.parametrize("pixels", [[0] * 1023, [0] * 1025, [0] * 1023 + [256], [0] * 1023 + [-1], [0] * 1023 + [0.5], "0" * 1024, None])
def test_what_a_browser_may_not_send_is_refused_and_changes_nothing(canvas, pixels):
    before = canvas.picture
    with pytest.raises(TraitError):
        canvas.surface.set_state({"pixels": pixels})
    assert torch.equal(canvas.picture, before)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (torch.zeros(1, 3, 16, 16), r"must have shape \(N, 3, 32, 32\), got \(1, 3, 16, 16\)"),
        (torch.full((1, 3, 32, 32), 255.0), "must lie in"),
        (torch.zeros(2, 3, 32, 32), "one picture, got 2"),
    ],
)
def test_a_start_that_is_no_picture_is_refused(start, message):
    with pytest.raises(ValueError, match=message):
        Canvas(start, brightness)


def test_fill_shows_the_figure_of_what_is_drawn_now(canvas):
    canvas.surface.pixels = [255] * 1024
    canvas.button.click()
    canvas.surface.pixels = [0] * 1024
    canvas.button.click()
    *_, shown = canvas.children
    assert len(canvas.children) == 3 and Image.open(io.BytesIO(shown.value)).size == (180, 90)
    assert description_of(shown.value) == "Brightness -1.000." and not canvas.button.disabled


def test_a_fill_that_fails_leaves_a_button_to_press_again(caplog):
    broken = Canvas(picture_of(DRAWING), lambda picture: 1 / 0)
    broken.button.click()
    assert "ZeroDivisionError" in caplog.text  # ipywidgets hands it to the log
    assert not broken.button.disabled and broken.button.description == "Fill"


def test_words_stand_where_no_widget_lives(canvas):
    assert canvas._repr_mimebundle_()["text/plain"].startswith("Run the notebook to draw here, on 32 x 32 pixels")
