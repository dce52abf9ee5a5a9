"""Lesson 02: figures that show the tables' own numbers, exercises that pass the right answers and explain the wrong ones."""

import numpy as np
import pandas as pd
import pytest

from difftuning.lessons.chain import figures, grade, readme_picture
from difftuning.studies.gains import read_table
from difftuning.support.world import data_folder


def losses(ratios, method="plain"):
    """Two seeds whose geometric mean is ratios[step][tenth - 1]."""
    rows = [
        (method, seed, step, tenth, 2.0, 2 * ratio * factor)
        for step, of_step in ratios.items()
        for tenth, ratio in enumerate(of_step, 1)
        for seed, factor in enumerate((0.5, 2.0))
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "step", "tenth", "before", "after"])


RISING, FALLING = np.linspace(0.5, 1.4, 10), np.linspace(2, 0.65, 10)


def drawn(axis):
    return {line.get_label(): line.get_ydata() for line in axis.lines if len(line.get_ydata()) == 10}


def test_a_curve_for_each_number_of_steps_passes_through_the_seeds_geometric_means():
    tables = {"few": losses({120: RISING, 1600: FALLING}), "many": losses({120: FALLING, 1600: RISING}, "Diff-Tuning")}
    few, many = figures.ratios_by_steps(tables).axes
    for axis, expected in ((few, (RISING, FALLING)), (many, (FALLING, RISING))):
        found = drawn(axis)
        assert list(found) == ["120 steps", "1,600 steps"]
        np.testing.assert_allclose([*found.values()], expected)


def test_a_curve_for_each_method_passes_through_its_means():
    table = pd.concat([losses({800: RISING}), losses({800: FALLING}, "Diff-Tuning")])
    (axis,) = figures.ratios_by_method({"digits": table}).axes
    found = drawn(axis)
    np.testing.assert_allclose([found["plain"], found["Diff-Tuning"]], (RISING, FALLING))


def test_frames_share_a_scale_and_a_single_scale_holds_all_curves():
    table = losses({800: FALLING})
    assert figures.ratios_by_method({"digits": table}, limits=(0.2, 5)).axes[0].get_ylim() == (0.2, 5)
    low, high = figures.ratios_by_method({"digits": table}).axes[0].get_ylim()
    assert low < 0.65 * 0.5 and high > 2 * 2.0  # of each seed


def test_labels_stand_at_the_right_end_in_the_order_of_the_curves_and_apart():
    close = {step: [1.0] * 9 + [0.7 + step / 1e6] for step in (120, 400, 800, 1600)}
    (axis,) = figures.ratios_by_steps({"digits": losses(close)}).axes
    places = {text.get_text(): text.get_position() for text in axis.texts if "steps" in text.get_text()}
    heights = [np.log(places[f"{step:,} steps"][1]) for step in close]
    assert all(x > 10 for x, _ in places.values())
    assert np.diff(heights).min() > 0.06 * np.log(np.divide(*reversed(axis.get_ylim())))
    assert min(heights) > np.log(axis.get_ylim()[0])


def test_what_lies_above_1_is_marked_as_worse():
    (axis,) = figures.ratios_by_method({"digits": losses({800: FALLING})}).axes
    worse, better = ((patch.get_y(), patch.get_y() + patch.get_height()) for patch in axis.patches)
    assert worse == (1, axis.get_ylim()[1]) and better == (axis.get_ylim()[0], 1)


def test_the_replacement_curve_passes_through_its_scores():
    scores = {"the untouched model": ([0, 0.2, 1], [5.0, 6.0, 40.0]), "without class": ([0.2], [7.0])}
    figure = figures.replacement_curves(scores)
    (axis,) = figure.axes
    assert [line.get_xydata().tolist() for line in axis.lines] == [[[0, 5], [20, 6], [100, 40]], [[20, 7]]]
    assert "20% 6.0" in figure.get_label()


def test_replacement_is_shown_beside_the_tuned_model_alone():
    rows = [(step, fraction, fid) for step, fids in ((400, (1.0, 50.0)), (120, (4.0, 2.0))) for fraction, fid in zip((0, 0.6), fids)]
    table = pd.DataFrame(rows, columns=["step", "fraction", "fid"]).assign(method="plain")
    figure = figures.replacement_by_steps({"200 shoes": table})
    (axis,) = figure.axes
    curves = [line.get_xydata().tolist() for line in axis.lines if line.get_marker() == "o"]
    assert curves == [[[0, 1], [60, 0.5]], [[0, 1], [60, 50]]]
    assert [text.get_text() for text in axis.texts][-2:] == ["120 steps", "400 steps"]
    assert "200 shoes, 120 steps: 0% 1.00, 60% 0.50" in figure.get_label()


def test_pretraining_is_measured_from_the_first_checkpoint_to_the_last():
    rows = [
        (step, name, tenth, 10 * tenth * left)
        for step, left in ((4000, 1.0), (8000, 0.9), (60_000, 0.6))
        for name in ("source", "footwear", "digits")
        for tenth in range(1, 11)
    ]
    figure = figures.pretraining_curves(pd.DataFrame(rows, columns=["step", "pictures", "tenth", "loss"]))
    assert len(figure.axes[0].lines) == 3
    for line in figure.axes[0].lines:
        np.testing.assert_allclose(line.get_ydata(), 40)


def test_each_figure_says_what_it_shows():
    table = losses({800: FALLING})
    for figure in (figures.ratios_by_steps({"digits": table}), figures.ratios_by_method({"digits": table})):
        assert "digits" in figure.get_label() and "2.00 and 0.65" in figure.get_label()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda before, after: (after / before).mean(1), "that is the mean of the ratios"),
        (lambda before, after: before.mean(1) / after.mean(1), "before over after"),
        (lambda before, after: after.mean() / before.mean(), "the shape is ()"),
        (lambda before, after: after.mean(1) / before[:, 0], "of 10 are wrong"),
    ],
)
def test_a_wrong_ratio_is_told_what_it_is(answer, words):
    found = grade("ratio by tenth", answer)
    assert not found.passed and words in found.message and "figure of section 3" in found.message


def test_the_ratio_of_means_passes():
    assert grade("ratio by tenth", lambda before, after: after.mean(1) / before.mean(1)).passed


def best_stop(steps, losses, tenths):
    means = [sum(float(row[tenth - 1]) for tenth in tenths) / len(tenths) for row in losses]
    return steps[means.index(min(means))]


def test_the_best_stop_by_a_loop_passes():
    assert grade("best stop", best_stop).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda steps, losses, tenths: steps[int(losses.mean(1).argmin())], "the whole chain"),
        (lambda steps, losses, tenths: steps[int(losses[:, [min(tenth, 9) for tenth in tenths]].mean(1).argmin())], "tenth 1 is column 0"),
        (lambda steps, losses, tenths: steps[int(losses[:, [tenth - 1 for tenth in tenths]].mean(1).argmax())], "highest"),
        (lambda steps, losses, tenths: 7, "take the mean over those tenths"),
    ],
)
def test_a_wrong_stop_is_told_what_it_is(answer, words):
    found = grade("best stop", answer)
    assert not found.passed and words in found.message and "section 4" in found.message


def test_the_readmes_picture_is_drawn_from_the_committed_tables():
    from PIL import Image

    with Image.open(data_folder().parent / readme_picture.PICTURE) as picture:
        assert picture.text["Description"] == readme_picture.readme_figure().get_label()


def test_what_the_lesson_says_of_replacement_is_in_the_shipped_table():
    """Up to 40 % of the steps, beside the tuned model alone: better after long training on few pictures, dearer by steps with many."""
    table = read_table("pilot_replacement").query("by == 'source' and fraction <= 0.4")
    curves = {run: figures.beside_alone(rows) for run, rows in table.groupby(["task", "training_pictures", "method"])}
    for name in ("digits", "footwear"):
        alone, ours = (curves[name, 200, method][3200] for method in ("plain", "Diff-Tuning"))
        assert alone.max() < 1.01 and alone[0.4] < 0.9 and alone[0.4] < ours[0.4] < 1, (alone, ours)
    assert all((each[0.4] < 0.8) == (step >= 1600) for step, each in curves["footwear", 200, "plain"].items())
    for by_step in (curves["footwear", count, "plain"] for count in (2000, 10_000)):
        assert list(by_step) == [120, 400, 800, 1600, 3200]
        assert all(each[0.1] < 1.01 for each in by_step.values()) and min(each[0.4] for each in by_step.values()) > 1.2
        assert all(pd.Series([each[fraction] for each in by_step.values()]).is_monotonic_increasing for fraction in (0.3, 0.4))
    assert max(each[0.2] for (*_, method), by_step in curves.items() if method == "Diff-Tuning" for each in by_step.values()) < 1.05
