import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from difftuning.lessons.figures import COLOURS, Figure, draw_with_interval, picture_rows


def drawn(seeds):
    """An axis with the mean of a score over seeds against steps: 9, 10 and 11 at 400 steps, 8, 9 and 10 at 800."""
    rows = pd.DataFrame(
        [(seed, step, 10 - step / 400 + seed) for seed in range(seeds) for step in (400, 800)], columns=["seed", "step", "fid"]
    )
    axis = Figure().subplots()
    draw_with_interval(axis, rows, "step", "fid", "black", "plain")
    return axis


def test_the_band_is_the_interval_of_the_seeds_by_hand():
    """Student's t at 97.5 % with 2 degrees of freedom is 4.3027; at 400 steps the values 9, 10, 11 have standard deviation 1."""
    axis = drawn(seeds=3)
    band = axis.collections[0].get_paths()[0].vertices
    at_400 = band[band[:, 0] == 400, 1]
    half = 4.3027 / np.sqrt(3)
    assert at_400.max() == pytest.approx(10 + half, rel=1e-4) and at_400.min() == pytest.approx(10 - half, rel=1e-4)
    assert axis.lines[0].get_xydata().tolist() == [[400, 10.0], [800, 9.0]]


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_seed_or_two_have_no_band(seeds):
    band = drawn(seeds).collections[0].get_paths()
    assert not band or not np.isfinite(band[0].vertices).any() or not len(band[0].vertices)


def test_figures_carry_alt_text():
    figure = picture_rows({"real": torch.zeros(2, 3, 32, 32)})
    assert len(figure.get_label()) > 15
    png = figure._repr_png_()
    assert png.startswith(b"\x89PNG") and figure.get_label().encode() in png
    shown, metadata = DisplayFormatter().format(figure)
    assert shown["image/png"] == png and metadata["image/png"]["alt"] == figure.get_label() and figure.get_label() in shown["text/plain"]


def test_fewer_pictures_than_columns_leave_blanks():
    figure = picture_rows({"few": -torch.ones(2, 3, 8, 8), "many": torch.ones(9, 3, 8, 8)}, columns=4)
    few, many = (axis.images[0].get_array() for axis in figure.axes)
    assert few.shape == many.shape == (10, 40, 3)
    assert few[5, 5].max() == 0 and few[5, 35].min() > 0.3 and many[5, 35].min() == 1


def test_methods_have_colours_of_their_own():
    assert len(set(COLOURS.values())) == len(COLOURS)
