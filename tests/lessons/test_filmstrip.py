"""Filmstrips: the frames of the named settings and no others, in order, described, at their own size or smaller."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from difftuning.lessons.explorers import explore, fixed_size_png, precompute
from difftuning.lessons.figures import Figure, describe
from difftuning.lessons.filmstrip import WIDEST, filmstrip


def bars(height: int, colour: str = "blue", *, size: tuple[float, float] = (2, 1.5)) -> Figure:
    figure = Figure(figsize=size)
    figure.subplots().bar([0], [height], color=colour)
    return describe(figure, f"One {colour} bar of {height}.")


@pytest.fixture(scope="module")
def frames():
    return precompute(bars, height=list(range(1, 10)), colour=["blue", "red"])


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def shown(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes]


def test_a_filmstrip_shows_the_frames_of_its_settings(frames):
    figure = filmstrip(frames, height=[1, 2, 4, 6, 9], colour="red")
    assert titles(figure) == [f"height = {h}" for h in (1, 2, 4, 6, 9)]
    for picture, height in zip(shown(figure), (1, 2, 4, 6, 9)):
        assert np.array_equal(picture, pixels(frames(height=height, colour="red")))


def test_what_is_not_named_stays_at_the_explorers_start(frames):
    figure = filmstrip(explore(frames, height=2, colour="red"), height=[3, 4])
    assert np.array_equal(shown(figure)[0], pixels(frames(height=3, colour="red")))
    words = filmstrip(explore(frames, height=2), colour=["blue", "red"])
    assert titles(words) == ["colour = blue", "colour = red"]
    assert np.array_equal(shown(words)[1], pixels(frames(height=2, colour="red")))


def test_without_a_list_the_first_control_takes_five_values_from_end_to_end(frames):
    assert titles(filmstrip(frames)) == [f"height = {h}" for h in (1, 3, 5, 7, 9)]
    assert titles(filmstrip(frames, height=2)) == ["colour = blue", "colour = red"]


def test_the_alt_text_names_all_values_and_says_what_the_ends_show(frames):
    alt = filmstrip(frames, height=[1, 5, 9]).get_label()
    assert alt == "One figure at 3 values of height: 1, 5, 9. At the first: One blue bar of 1. At the last: One blue bar of 9."


def test_a_strip_is_kept_in_256_colours_with_its_alt_text(frames):
    figure = filmstrip(frames, height=[1, 5, 9])
    data, metadata = figure._repr_mimebundle_()
    image = Image.open(io.BytesIO(data["image/png"]))
    assert image.mode == "P" and image.info["Description"] == metadata["image/png"]["alt"] == figure.get_label()
    whole = pixels(Figure._repr_png_(figure)).astype(int)
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - whole).mean() < 1


@pytest.mark.parametrize("size", [(2, 1.5), (10, 2), (10, 6), (3, 8)])
def test_a_strip_has_a_title_for_every_picture_and_stays_within_its_width(size):
    figure = filmstrip(precompute(lambda height: bars(height, size=size), height=range(1, 6)))
    drawn = pixels(fixed_size_png(figure))
    assert drawn.shape[1] <= WIDEST + 1 and drawn.shape[0] < 1.6 * WIDEST
    boxes = [axis.get_window_extent() for axis in figure.axes]
    assert all(0 <= box.x0 < box.x1 <= drawn.shape[1] + 1 and 0 <= box.y0 < box.y1 <= drawn.shape[0] + 1 for box in boxes)
    assert not any(a.overlaps(b.shrunk(0.98, 0.98)) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_setting_that_does_not_exist_is_named(frames):
    with pytest.raises(ValueError, match="unknown height 77"):
        filmstrip(frames, height=[1, 77])
    with pytest.raises(ValueError, match="unknown control 'width'"):
        filmstrip(frames, width=[1])
    with pytest.raises(ValueError, match="needs a list of values for one of height, colour"):
        filmstrip(frames, height=1, colour="red")
    with pytest.raises(ValueError, match="not for height and colour"):
        filmstrip(frames, height=[1, 2], colour=["blue", "red"])
