"""What choices do to tuning: the right rows are read, summed up as by hand, and drawn where the numbers say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from difftuning.lessons import parts as lesson
from difftuning.studies.tables import write_rows
from difftuning.support.world import world_version

pd = pytest.importorskip("pandas")
METHODS = ("plain", "Diff-Tuning")


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Two methods whose numbers are plain functions of task, seed and tenth, among rows that lessons must not read."""
    scores, losses = [], []
    for task, pictures in (*lesson.RUNS.items(), ("footwear", 200)):
        for n, method in enumerate(METHODS):
            for seed in range(3):
                run = {"task": task, "method": method, "seed": seed, "training_pictures": pictures, "world": world_version(), "step": 800}
                for guidance, split in (("1", "test"), ("1.5", "validation"), ("1.5", "test")):
                    wanted = guidance == "1.5" and split == "test" and pictures == lesson.RUNS[task]
                    scores.append(run | {"guidance": guidance, "split": split, "fid": 2 - n + 0.1 * seed if wanted else 99})
                for data in ("target", "validation", "source"):
                    for tenth in range(1, 11):
                        losses.append(run | {"data": data, "tenth": tenth, "before": 2.0, "after": 2.0 * (n + 1) * 2.0 ** (seed - 1)})
    losses += [row | {"step": 1600, "after": 99} for row in losses]
    write_rows(tmp_path / "results" / "parts.csv", scores)
    write_rows(tmp_path / "results" / "parts_losses.csv", losses)
    monkeypatch.setattr("difftuning.studies.gains.data_folder", lambda: tmp_path)
    return lesson.read_parts()


def test_only_the_rows_of_these_runs_are_read(parts):
    assert len(parts.scores) == 2 * 2 * 3 and parts.scores.fid.max() < 99 and set(parts.losses.data) == {"target", "source"}
    assert parts.losses.after.max() < 99 and set(parts.scores.training_pictures) == {2000, 200}


def test_means_are_over_seeds_and_ratios_geometric(parts):
    assert lesson.score(parts, "digits", "plain").mean == pytest.approx(2.1)
    assert lesson.ratio(parts, "footwear", "target", "Diff-Tuning") == pytest.approx(2)  # of 1, 2 and 4
    found = lesson.ratios(parts, "footwear", "source", "plain", [1, 2])
    assert found.seeds == 3 and found.half_width == pytest.approx(4.302653 * math.log(2) / math.sqrt(3), rel=1e-5)


def test_the_loss_figure_draws_every_tenth_and_an_interval_for_three_seeds(parts):
    figure = lesson.loss_figure(parts, METHODS)
    for axis in figure.axes:
        heights = [line.get_ydata() for line in axis.lines if len(line.get_xdata()) == 10]
        assert np.allclose(heights[0], 1) and np.allclose(heights[1], 2) and len(axis.collections) == 2
    assert "3 seeds" in lesson.seeds_in_words(parts) and "Diff-Tuning 2.00 new" in figure.get_label()


def test_one_seed_is_said_to_be_one_and_a_method_that_is_not_there_is_left_out(parts):
    alone = lesson.Parts(parts.scores[parts.scores.seed == 0], parts.losses[parts.losses.seed == 0])
    assert lesson.seeds_in_words(alone).startswith("One seed")
    figure = lesson.score_figure(alone, [*METHODS, "bank of noise"])
    means = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert means == [2, 1] and len(lesson.loss_figure(alone, [*METHODS, "bank of noise"]).axes[0].collections) == 0
