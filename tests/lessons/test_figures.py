import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from difftuning.lessons.figures import COLOURS, picture_rows, score_curves


def table():
    rows = [
        (method, seed, step, 10 - step / 400 + seed) for method in ("plain", "Diff-Tuning") for seed in (0, 1, 2) for step in (400, 800)
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "step", "fid"])


def test_the_band_is_the_interval_of_the_seeds_by_hand():
    """Student's t at 97.5 % with 2 degrees of freedom is 4.3027; at 400 steps the values 9, 10, 11 have standard deviation 1."""
    band = score_curves(table()).axes[0].collections[0].get_paths()[0].vertices
    at_400 = band[band[:, 0] == 400, 1]
    assert at_400.max() == pytest.approx(10 + 4.3027 / np.sqrt(3), rel=1e-4) and at_400.min() == pytest.approx(
        10 - 4.3027 / np.sqrt(3), rel=1e-4
    )


def test_one_seed_has_no_band():
    one = table()[lambda rows: rows.seed == 0]
    band = score_curves(one).axes[0].collections[0].get_paths()
    assert not band or not np.isfinite(band[0].vertices).any() or not len(band[0].vertices)


def test_curves_pass_through_the_means_and_stars_stand_on_the_live_scores():
    live = pd.DataFrame({"method": ["plain"], "step": [200], "fid": [12.0]})
    axis = score_curves(table(), live).axes[0]
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert lines["plain"] == [[400, 10.0], [800, 9.0]]
    assert lines["plain, your run"] == [[200, 12.0]]


@pytest.mark.parametrize("figure", [score_curves(table()), picture_rows({"real": torch.zeros(2, 3, 32, 32)})], ids=["curves", "rows"])
def test_figures_carry_alt_text(figure):
    assert len(figure.get_label()) > 15
    png = figure._repr_png_()
    assert png.startswith(b"\x89PNG") and figure.get_label().encode() in png
    shown, metadata = DisplayFormatter().format(figure)
    assert shown["image/png"] == png and metadata["image/png"]["alt"] == figure.get_label() and figure.get_label() in shown["text/plain"]


def test_axes_have_labels_with_units():
    axis = score_curves(table()).axes[0]
    assert "steps" in axis.get_xlabel() and "Frechet distance" in axis.get_ylabel()


def test_fewer_pictures_than_columns_leave_blanks():
    figure = picture_rows({"few": -torch.ones(2, 3, 8, 8), "many": torch.ones(9, 3, 8, 8)}, columns=4)
    few, many = (axis.images[0].get_array() for axis in figure.axes)
    assert few.shape == many.shape == (10, 40, 3)
    assert few[5, 5].max() == 0 and few[5, 35].min() > 0.3 and many[5, 35].min() == 1


def test_methods_have_colours_of_their_own():
    assert len(set(COLOURS.values())) == len(COLOURS)
