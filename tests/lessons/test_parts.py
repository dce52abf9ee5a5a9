"""What choices do to tuning: the right rows are read, summed up as by hand, put into words that hold, and drawn where the numbers say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from difftuning.config import StudyCell
from difftuning.lessons import parts as lesson
from difftuning.lessons import parts_figures as figures
from difftuning.lessons.kept_samples import kept_samples
from difftuning.studies.gains import Estimate
from difftuning.studies.tables import write_rows
from difftuning.support.world import world_version

pd = pytest.importorskip("pandas")
METHODS = ("plain", "Diff-Tuning")


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Two methods whose numbers are plain functions of task, guidance, seed and tenth, among rows that lessons must not read."""
    scores, losses, floors = [], [], []
    for task, pictures in (*lesson.RUNS.items(), ("footwear", 200)):
        mine = pictures == lesson.RUNS[task]
        for n, method in enumerate(METHODS):
            for seed in range(3):
                run = {"task": task, "method": method, "seed": seed, "training_pictures": pictures, "world": world_version(), "step": 800}
                run |= {"samples": 500, "learning_rate": 0.001}
                for guidance, split in (("1", "test"), ("1.5", "validation"), ("1.5", "test"), ("domain 1.5", "test")):
                    wanted = guidance in ("1", "1.5") and split == "test" and mine
                    fid = (2 - n + 0.1 * seed) * float(guidance if wanted else 1)
                    scores.append(run | {"guidance": guidance, "split": split, "fid": fid if wanted else 99})
                for data in ("target", "validation", "source"):
                    for tenth in range(1, 11):
                        losses.append(run | {"data": data, "tenth": tenth, "before": 2.0, "after": 2.0 * (n + 1) * 2.0 ** (seed - 1)})
        floors += [
            {"world": world_version(), "task": task, "training_pictures": count, "pictures": kind, "fid": fid}
            for kind, few in (("training pictures", 0.9), ("the same through the autoencoder", 99))
            for count, fid in ((200, few), (2000, few / 2))
        ]
    losses += [row | {"step": 1600, "after": 99} for row in losses]
    write_rows(tmp_path / "results" / "parts.csv", scores)
    write_rows(tmp_path / "results" / "parts_losses.csv", losses)
    write_rows(tmp_path / "results" / "floors.csv", floors)
    for module in ("studies.gains", "lessons.kept_samples"):
        monkeypatch.setattr(f"difftuning.{module}.data_folder", lambda: tmp_path)
    return lesson.read_parts()


def test_only_the_rows_of_these_runs_are_read(parts):
    assert len(parts.scores) == 2 * 2 * 3 * 2 and parts.scores.fid.max() < 99 and set(parts.losses.data) == {"target", "source"}
    assert parts.losses.after.max() < 99 and set(parts.scores.training_pictures) == {2000, 200}
    assert parts.floors == {"digits": 0.45, "footwear": 0.45}  # of as many real pictures as samples


def test_a_seed_that_some_method_of_the_set_lacks_is_left_out(parts, tmp_path):
    for name in ("parts", "parts_losses"):
        path = tmp_path / "results" / f"{name}.csv"
        table = pd.read_csv(path, dtype={"guidance": str})
        lacks = (table.task == "digits") & (table.method == "plain") & (table.seed == 2)
        table[~lacks].to_csv(path, index=False)
    found = lesson.read_parts()
    for table in found[:2]:
        assert table.groupby("task").seed.unique().map(set).to_dict() == {"digits": {0, 1}, "footwear": {0, 1, 2}}
    assert lesson.score(found, "digits", "Diff-Tuning", "1").seeds == lesson.score(found, "digits", "plain", "1").seeds == 2


def test_means_are_over_seeds_and_ratios_geometric(parts):
    assert lesson.score(parts, "digits", "plain", "1").mean == pytest.approx(2.1)
    assert lesson.score(parts, "digits", "plain", "1.5").mean == pytest.approx(3.15)
    assert lesson.ratio(parts, "footwear", "target", "Diff-Tuning") == pytest.approx(2)  # of 1, 2 and 4
    found = lesson.ratios(parts, "footwear", "source", "plain", [1, 2])
    assert found.seeds == 3 and found.half_width == pytest.approx(4.302653 * math.log(2) / math.sqrt(3), rel=1e-5)


def test_a_mean_over_sets_has_the_interval_of_its_means_by_seed(parts):
    """Not of its cells: those of a seed share pictures and noise.  A seed that lacks a set is left out."""
    logs = np.log([2 / 1, 2.1 / 1.1, 2.2 / 1.2])  # the same in all cells
    found = lesson.mean_saved(parts, "Diff-Tuning", "plain")
    assert found.mean == pytest.approx(logs.mean()) and found.seeds == 3
    assert found.half_width == pytest.approx(4.302653 * logs.std(ddof=1) / math.sqrt(3), rel=1e-5)
    lacking = parts.scores[(parts.scores.seed != 2) | (parts.scores.task != "digits")]
    found = lesson.mean_saved(lesson.Parts(lacking, parts.losses), "Diff-Tuning", "plain")
    assert found.seeds == 2 and found.mean == pytest.approx(logs[:2].mean())
    only = lesson.mean_saved(lesson.Parts(lacking, parts.losses), "Diff-Tuning", "plain", ["footwear"])
    assert only.seeds == 3 and only.mean == pytest.approx(logs.mean())


def test_shares_of_a_rise_that_two_methods_avoid_are_compared_seed_by_seed(parts):
    """Rises of 1 and 3 (seed 2), against 3 and, for a third method, against 1.5: a share of 2/3 beside one of 1/2."""
    ours = parts.losses[(parts.losses.method == "plain") & (parts.losses.seed == 2)]
    third = ours.assign(method="third", after=ours.before * 2.5)
    table = lesson.Parts(parts.scores, pd.concat([parts.losses[parts.losses.seed == 2], third]))
    assert lesson.mean_avoided(table, "plain", "Diff-Tuning").mean == pytest.approx(2 / 3)
    assert lesson.mean_avoided(table, "third", "Diff-Tuning").mean == pytest.approx(1 / 2)
    assert lesson.mean_avoided(table, "plain", "Diff-Tuning", instead="third").mean == pytest.approx(2 / 3 - 1 / 2)
    assert lesson.mean_avoided(table, "nobody", "Diff-Tuning").seeds == 0


def test_methods_are_compared_seed_by_seed(parts):
    """Distances 2, 2.1, 2.2 and 1, 1.1, 1.2; rises of -0.5, 0, 1 and 0, 1, 3, of which the first has no share."""
    saved = lesson.distance_saved(parts, "digits", "Diff-Tuning", "plain", "1.5")
    assert saved.mean == pytest.approx(np.log([2 / 1, 2.1 / 1.1, 2.2 / 1.2]).mean()) and saved.seeds == 3
    alone = lesson.Parts(parts.scores, parts.losses[parts.losses.seed == 2])
    assert lesson.rise_avoided(alone, "digits", "plain", "Diff-Tuning").mean == pytest.approx(1 - 1 / 3)
    dear = alone.losses.assign(after=alone.losses.after * np.where((alone.losses.method == "plain") & (alone.losses.tenth == 7), 1.5, 1))
    dear = lesson.Parts(parts.scores, dear)
    assert lesson.rise_avoided(dear, "digits", "plain", "Diff-Tuning", [7]).mean == pytest.approx(1 - 2 / 3)
    assert lesson.rise_avoided(dear, "digits", "plain", "Diff-Tuning", [6, 8]).mean == pytest.approx(1 - 1 / 3)
    assert lesson.new_samples(parts, "Diff-Tuning") == "better" and lesson.new_samples(parts, "plain", "Diff-Tuning") == "worse"
    assert lesson.old_pictures(alone, "plain", "Diff-Tuning") == "better" and lesson.old_pictures(alone, "Diff-Tuning", "plain") == "worse"


@pytest.mark.parametrize(
    "cells, word",
    [
        ([[0.2], [0.0]], "better"),  # 0.1 on average
        ([[0.08], [0.0]], "about the same"),
        ([[-0.3], [0.02]], "worse"),
        ([[-0.2], [0.2]], "mixed"),
        ([[0.4, 0.0, 0.2], [0.1, 0.5, 0.3]], "better"),  # each by itself may be chance; their means are 0.25 in every seed
        ([[0.9, -0.8, 0.1], [0.1, 0.1, 0.1]], "about the same"),
        ([[0.2], []], "better"),  # what was not measured says nothing
        ([[-0.1], [0.4]], "better"),  # they contradict each other, and the mean is clear
        ([[], []], "–"),
    ],
)
def test_a_word_is_of_the_mean_over_cells_seed_by_seed_unless_they_contradict_each_other(cells, word):
    assert lesson.mean_in_a_word([pd.Series(cell, dtype=float) for cell in cells], 0.05) == word


@pytest.mark.parametrize(
    "gains, words",
    [
        ([(0.2, 1), (0.3, 1)], "better"),
        ([(0.2, 1), (0.01, 1)], "partly better"),
        ([(-0.2, 1), (0.01, 1)], "partly worse"),
        ([(-0.2, 1), (0.2, 1)], "mixed"),
        ([(0.01, 1)], "about the same"),
        ([(0.2, 3)], "about the same"),  # its interval holds 0
        ([(-0.4, 3)], "worse"),
        ([(0.2, 1), (math.nan, 0)], "better"),  # what was not measured says nothing
    ],
)
def test_a_word_holds_for_every_setting_and_beyond_the_interval(gains, words):
    assert lesson.in_a_word((Estimate(mean, 0.3 if seeds > 1 else math.nan, seeds) for mean, seeds in gains), 0.05) == words


def test_what_was_run_says_how_many_seeds(parts):
    alone = lesson.Parts(parts.scores[parts.scores.seed == 0], parts.losses[parts.losses.seed == 0])
    assert lesson.runs_in_words(alone) == (
        "Each method has one run (seed) of 800 steps on each set: 2,000 pictures of footwear, 200 pictures of digits. A small difference may be chance."
    )
    assert (
        "3 runs (seeds) of 800 steps on each set: 2,000 pictures of footwear, 200 pictures of digits. Bars and bands are 95 % intervals"
        in lesson.runs_in_words(parts)
    )
    some = lesson.Parts(parts.scores[(parts.scores.seed == 0) | (parts.scores.method == "plain")], parts.losses)
    assert "1 to 3 runs (seeds)" in lesson.runs_in_words(some) and "intervals, and where there is none a small" in lesson.runs_in_words(
        some
    )
    assert lesson.seeds_in_words(alone) == "one run each" and lesson.seeds_in_words(parts) == "3 seeds, 95 % intervals"


def test_samples_are_those_of_the_first_seed(parts, tmp_path):
    kept = {
        StudyCell("digits", "plain", seed, 0.001, steps=(800,), training_pictures=200).file_name: np.full(
            (12, 32, 32), 255 * seed, np.uint8
        )
        for seed in (0, 1)
    }
    np.savez(tmp_path / "results" / "parts_samples.npz", **kept)
    found = kept_samples("parts", "digits", 200, METHODS)
    assert list(found) == ["plain"] and found["plain"].shape == (12, 3, 32, 32) and bool((found["plain"] == -1).all())
    figure = figures.samples_figure(parts, METHODS)
    assert len(figure.axes) == 6  # real pictures and two methods, of two sets
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == [str(digit) for digit in range(10)]
    classes, places = zip(*((label.get_text(), label.get_position()[0]) for label in figure.axes[0].get_xticklabels()))
    assert classes == ("sandal", "sneaker", "ankle boot")  # each above its own four, three and three
    assert np.allclose(places, np.array([2, 5.5, 8.5]) * 34)


# The figures


def test_the_loss_figure_draws_every_tenth_and_an_interval_for_three_seeds(parts):
    figure = figures.loss_figure(parts, [*METHODS, "bank of noise"])
    assert len(figure.axes) == 4
    for axis in figure.axes:
        heights = [line.get_ydata() for line in axis.lines if len(line.get_xdata()) == 10]
        assert np.allclose(heights[0], 1) and np.allclose(heights[1], 2) and len(axis.collections) == 2
    assert "digits, old pictures: plain 1.00, Diff-Tuning 2.00" in figure.get_label()
    one_side = figures.loss_figure(parts, METHODS, ["source"], {"plain": "no bank"})
    labels = [[text.get_text() for text in axis.texts] for axis in one_side.axes]
    assert labels == [[], ["no bank", "Diff-Tuning"]]  # the last column's, for all
    assert [axis.get_title() for axis in one_side.axes] == [
        "old pictures, after tuning on footwear (2,000)",
        "old pictures, after tuning on digits (200)",
    ]


def test_the_score_figure_has_both_guidances_and_leaves_out_what_is_not_there(parts):
    alone = lesson.Parts(parts.scores[parts.scores.seed == 0], parts.losses[parts.losses.seed == 0])
    figure = figures.score_figure(alone, [*METHODS, "bank of noise"])
    marks = [figures.marker_of(method) for method in METHODS]
    means = [[line.get_xdata()[0] for line in axis.lines if line.get_marker() in marks] for axis in figure.axes]
    assert means == [[2, 1], [3, 1.5]] * 2 and figure.axes[0].get_xlim()[0] == 0
    figure = figures.score_figure(parts, METHODS)
    real = [line.get_xydata().tolist() for axis in figure.axes for line in axis.lines if line.get_markersize() == 12]
    assert real == [[[0.45, 2]]] * 4 and figure.axes[0].get_yticklabels()[2].get_text() == "real pictures"


def test_bars_are_the_share_of_the_rise_that_is_avoided(parts):
    alone = lesson.Parts(parts.scores[parts.scores.seed == 2], parts.losses[parts.losses.seed == 2])
    figure = figures.avoided_figure(alone, ["plain", "bank of real pictures"], other="Diff-Tuning")
    assert [[bar.get_width() for bar in axis.patches] for axis in figure.axes] == [[pytest.approx(200 / 3)]] * 2
    named = figures.avoided_figure(alone, ["plain"], other="Diff-Tuning", names={"plain": "no bank"})
    assert named.axes[0].get_yticklabels()[0].get_text() == "no bank" and named.axes[0].get_xlim() == (0, 100)


def test_no_two_methods_share_a_colour_or_a_marker():
    colours = figures.COLOURS | figures.MORE_COLOURS
    assert (
        len({colour.lower() for colour in colours.values()}) == len(colours) == len(set(figures.MARKERS.values())) == len(figures.MARKERS)
    )
