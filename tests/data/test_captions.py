"""Captions say what is measured, in pictures drawn by hand, and a sample is measured the same way."""

from __future__ import annotations

import math

import pytest
import torch

from difftuning.data.captions import (
    CaptionAs,
    asked_words,
    attribute_words,
    caption_agreement,
    caption_pictures,
    measure_attributes,
    name_pictures,
    vocabulary_captions,
)


def box(top: int, left: int, height: int, width: int, tone: float = 0.65, side: int = 32) -> torch.Tensor:
    """A filled rectangle of a tone out of [0, 1] on black, as an image (1, 3, side, side) in [-1, 1]."""
    image = torch.full((1, 3, side, side), -1.0)
    image[..., top : top + height, left : left + width] = 2 * tone - 1
    return image


def stroke(slope: float) -> torch.Tensor:
    """A line 24 pixels high that moves `slope` pixels to the right for each one it goes up."""
    image = torch.full((1, 3, 32, 32), -1.0)
    for row in range(4, 28):
        column = round(16 + slope * (16 - row))
        image[..., row, column : column + 3] = 0.3
    return image


def frame(tone: float = 0.65) -> torch.Tensor:
    image = box(5, 5, 22, 22, tone)
    image[..., 7:25, 7:25] = -1
    return image


CASES = {
    "plain": (box(4, 4, 24, 24), ["solid"]),
    "small": (box(10, 10, 12, 12), ["small", "solid"]),
    "large": (box(1, 1, 30, 30), ["large", "solid"]),
    "wide": (box(12, 4, 8, 24), ["wide", "solid"]),
    "tall": (box(4, 12, 24, 8), ["tall", "solid"]),
    "dim": (box(4, 4, 24, 24, tone=0.4), ["solid", "dim"]),
    "bright": (box(4, 4, 24, 24, tone=0.9), ["solid", "bright"]),
    "thin": (frame(), ["thin"]),
    "leaning right": (stroke(0.5), ["tall", "thin", "leaning right"]),
    "leaning left": (stroke(-0.5), ["tall", "thin", "leaning left"]),
    "upright": (stroke(0.0), ["tall", "solid"]),
    "dark on white": (-box(12, 4, 8, 24), ["wide", "solid"]),
    "nothing": (torch.full((1, 3, 32, 32), -1.0), []),
}


@pytest.mark.parametrize("case", CASES)
def test_pictures_drawn_by_hand_get_their_words(case):
    image, words = CASES[case]
    assert attribute_words(image) == [words]


def test_the_numbers_are_those_of_the_table():
    measured = {name: float(value) for name, value in measure_attributes(box(12, 4, 8, 24, tone=0.8)).items()}
    assert measured == pytest.approx({"size": 24 / 32, "shape": 3, "fill": 1, "brightness": 0.8, "tilt": 0}, abs=1e-5)
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    line = torch.where(x == 7 - y, 1.0, -1.0).expand(1, 3, 8, 8)  # a diagonal that rises to the right
    assert float(measure_attributes(line)["tilt"]) == pytest.approx(1)
    assert all(math.isnan(value) for value in measure_attributes(CASES["nothing"][0]).values())


def test_larger_pictures_of_the_same_thing_get_the_same_words():
    large = box(24, 8, 16, 48, side=64)
    assert attribute_words(large) == attribute_words(box(12, 4, 8, 24))


def test_a_mirrored_picture_leans_the_other_way():
    assert caption_pictures(stroke(0.5), ["stroke"]) == ["a tall thin stroke leaning right"]
    assert CaptionAs("stroke")(stroke(0.5), ["line"]) == ["a tall thin stroke leaning right"]
    assert caption_pictures(stroke(0.5).flip(-1), ["stroke"]) == ["a tall thin stroke leaning left"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("T-shirt", "a t shirt"), ("3", "a digit 3"), ("A", "a letter a"), ("ankle boot", "an ankle boot"), ("", "a picture")],
)
def test_classes_are_called_as_in_a_sentence(name, said):
    assert name_pictures(CASES["nothing"][0], [name]) == caption_pictures(CASES["nothing"][0], [name]) == [said]


def test_every_word_is_in_the_vocabulary():
    names = ["T-shirt", "ankle boot", "7", "b"]
    known = {word for caption in vocabulary_captions(names) for word in caption.split()}
    for image, _ in CASES.values():
        assert {word for name in names for word in caption_pictures(image, [name])[0].split()} <= known | {"7", "b"}


@pytest.mark.parametrize("case", CASES)
def test_a_caption_s_words_are_found_again_in_its_picture(case):
    image, words = CASES[case]
    caption = caption_pictures(image, ["shape"])
    assert asked_words(caption[0]) == words
    agreement = caption_agreement(caption, image)
    assert math.isnan(agreement) if not words else float(agreement) == 1


def test_agreement_is_the_share_of_the_words_asked_for():
    images = torch.cat([box(12, 4, 8, 24), box(4, 12, 24, 8)])  # wide, tall
    assert caption_agreement(["a wide dim brightness", "a wide shape"], images).tolist() == [0.5, 0]


def test_other_shapes_and_ranges_are_refused():
    with pytest.raises(ValueError, match=r"images must have shape \(N, 3, H, W\), got \(1, 1, 8, 8\)"):
        measure_attributes(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"images must lie in \[-1, 1\]"):
        caption_pictures(torch.full((1, 3, 8, 8), 255.0), ["shape"])
