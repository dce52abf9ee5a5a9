"""Lesson 08's drawings become the pictures that they show."""

from __future__ import annotations

import pytest
import torch

from difftuning.data.conditions import annotate
from difftuning.data.tasks import load_task
from difftuning.lessons.controlnet.drawing import FOREIGN, outlines, picture_of

DRAWING = "\n" + "." * 32 + "\n..##+\n" + "\n" * 3


def test_each_character_is_a_pixel_wide_and_two_high():
    picture = picture_of(DRAWING)
    assert picture.shape == (1, 3, 32, 32) and picture.min() == -1
    grey = (picture[0, 0] + 1) / 2
    torch.testing.assert_close(grey[2:4, :6], torch.tensor([[0, 0, 0.9, 0.9, 0.5, 0]] * 2))
    assert grey[:2].max() == 0 == grey[4:].max() and torch.equal(picture[0, 0], picture[0, 2])


def test_the_outline_of_a_drawn_square_is_found():
    edge = annotate("edge", picture_of("\n".join(["." * 32] * 4 + ["." * 8 + "#" * 16] * 8)))
    inside, outside = edge[..., 12:20, 12:20], torch.cat([edge[..., :5, :], edge[..., -5:, :]], 2)
    assert inside.max() == 0 == outside.max() and edge.sum() > 3 * 4 * 14


@pytest.mark.parametrize(
    ("drawing", "message"),
    [("\n".join("#" * 17), "got 17 of up to 1"), ("#" * 33, "got 1 of up to 33"), ("..x", "made of .* and spaces, got 'x'")],
)
def test_what_is_no_drawing_is_refused(drawing, message):
    with pytest.raises(ValueError, match=message):
        picture_of(drawing)


def test_an_outline_for_each_class_of_shoes_and_things_that_are_none():
    found, shoes = outlines(), load_task("footwear", split="test")
    assert list(found) == [*shoes.class_names, *FOREIGN]
    first = shoes.read([shoes.labels.tolist().index(1)])
    assert torch.equal(found["sneaker"][0], annotate("edge", first)) and found["sneaker"][1] == "a shoe"
    assert found["T-shirt"][1] == "a t shirt" and all(edge.sum() > 0 for edge, _ in found.values())
