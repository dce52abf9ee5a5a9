"""Adapters beside plain tuning where both have learned as much: by hand on walks of three steps, and what the lesson says of the shipped tables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from difftuning.lessons.adapters import claims, effects, figures, learning
from difftuning.lessons.adapters.answers import answer_in_words
from difftuning.lessons.parts import GUIDANCES, RUNS, SIDES, Parts, read_parts
from difftuning.lessons.tuning.plane import SAMPLES, Study, View, read_study

pd = pytest.importorskip("pandas")
WALK = {120: (1.2, 0.8), 400: (1.4, 0.6), 800: (1.5, 0.7)}  # loss on old and on new pictures, after / before, under plain tuning


def tables(points, fid=2.0):
    """Two methods of each name that have these losses on old and new pictures in both sets."""
    both = {method: point for name, point in points.items() for method in ({name} if name == "plain" else effects.pair(name))}
    runs = [{"task": task, "method": method, "seed": 0} for task in RUNS for method in both]
    scores = [run | {"guidance": way, "fid": fid if run["method"] == "plain" else 2 * fid} for run in runs for way in GUIDANCES]
    losses = [
        run | {"data": data, "tenth": tenth, "before": 0.5, "after": 0.5 * both[run["method"]][data == "target"]}
        for run in runs for data in SIDES for tenth in range(1, 11)
    ]  # fmt: skip
    return Parts(pd.DataFrame(scores), pd.DataFrame(losses))


STUDY = Study({step: tables({"plain": point}) for step, point in WALK.items()})


@pytest.mark.parametrize(
    ("old", "new", "plain", "reached"),
    [
        (1.1, 0.6, 0.4, True),
        (1.1, math.sqrt(0.8 * 0.6), math.sqrt(1.2 * 1.4) - 1, True),  # half the way, as logarithms
        (1.1, 0.7, math.exp(math.log(1.2) + math.log(1.4 / 1.2) * math.log(0.7 / 0.8) / math.log(0.6 / 0.8)) - 1, True),  # on the way down
        (1.1, math.sqrt(0.8), math.sqrt(1.2) - 1, True),  # the walk begins where nothing is learned or forgotten
        (1.1, 1.3, 0.0, True),  # worse than before tuning
        (1.1, 0.5, 0.4, False),
    ],
)
def test_plain_tuning_is_met_where_it_first_has_the_same_loss(old, new, plain, reached):
    parts = tables({"plain": WALK[800], "BitFit": (old, new)})
    found = learning.at_equal_loss(parts, STUDY, "digits", "BitFit")
    assert found.rise == pytest.approx(old - 1) and found.plain == pytest.approx(plain, abs=1e-12) and found.reached is reached
    assert found.forgets_less is (0.9 * plain > 0.1)


def test_words_tell_those_that_plain_tuning_meets_from_those_that_it_does_not():
    parts = tables({"plain": WALK[800], "BitFit": (1.1, 0.6), "DiffFit": (1.3, 0.5), "VPT-Deep": (1.2, 0.4)})
    lines = learning.equal_learning_in_words(parts, STUDY).splitlines()
    assert lines[1] == (
        "- *digits (200)*: On new pictures, two of the three adapters get lower than plain tuning of all weights at any of the three numbers of "
        "steps that were measured. At the best of these, 400 steps, its loss on old pictures has risen by 40 %; theirs has risen by 20 to 30 %. Where plain tuning of all weights has the same "
        "loss on new pictures as one of the others, its loss on old ones has risen by 40 %, read off the lines; that of the adapters has risen by 10 %."
    )


def test_an_adapter_that_is_lower_by_next_to_nothing_is_said_to_be_about_as_low():
    parts = tables({"plain": WALK[800], "BitFit": (1.1, 0.595), "DiffFit": (1.3, 0.5)})
    said = learning.equal_learning_in_words(parts, STUDY)
    assert "that were measured (BitFit by less than 2 %, which is about as low). At the best" in said


@pytest.mark.parametrize(
    ("fid", "plain"),
    [(4.5, None), (4.0, 0.2), (4.0**0.5 * 2.0**0.5, math.sqrt(1.2 * 1.4) - 1), (2.0, 0.4), (0.5, 0.5)],
)
def test_by_samples_what_is_worse_than_the_first_measured_step_is_not_compared(fid, plain):
    drawn = {120: 4.0, 400: 2.0, 800: 1.0}
    study = Study({step: tables({"plain": point}, drawn[step]) for step, point in WALK.items()})
    parts = tables({"plain": WALK[800], "BitFit": (1.1, 0.6)}, fid / 2)  # adapters have twice as much
    found = learning.at_equal_samples(parts, study, View("digits", SAMPLES), "BitFit")
    assert (found is None) is (plain is None)
    assert found is None or (found.plain, found.rise) == pytest.approx((plain, 0.1))
    said = learning.equal_samples_in_words(parts, study).splitlines()[0]
    assert ("Alone, none of the adapters draws as well" in said) is (plain is None)
    assert (", or is at its best, its loss on old pictures has risen by 50 %" in said) is (fid == 0.5)


@pytest.mark.parametrize(
    ("difffit", "said"),
    [
        ((1.1, 0.6), "two adapters forget less than tuning all weights, even where"),
        ((1.38, 0.6), "two adapters forget less than tuning all weights, one of them even where"),
        ((1.6, 0.6), "one of the two adapters forgets less than tuning all weights, even where"),
    ],
)
def test_the_answer_says_how_many_forget_less_at_equal_learning(difffit, said):
    parts = tables({"plain": WALK[800], "BitFit": (1.1, 0.6), "DiffFit": difffit})
    assert said in answer_in_words(parts, STUDY)
    only = tables({"plain": WALK[800], "DiffFit": (1.38, 0.6)})
    assert "but none of them where as much is learned" in answer_in_words(only, STUDY)


def test_the_figure_has_the_walk_and_each_adapter_and_is_near_to_them():
    steep = Study({**STUDY.at, 1600: tables({"plain": (1.9, 3.0)})})
    figure = figures.equal_learning_figure(tables({"plain": WALK[800], "BitFit": (1.1, 0.65)}), steep)
    for axis in figure.axes:
        _, walk, guide, dot = axis.lines  # the first is the untouched model
        (left, height), (right, same) = guide.get_xydata()
        assert height == same == pytest.approx(0.65) and left == pytest.approx(1.1) and 1.2 < right < 1.4  # on the way down
        assert np.allclose(walk.get_xydata(), [*WALK.values(), (1.9, 3.0)]) and np.allclose(dot.get_xydata(), [(1.1, 0.65)])
        assert axis.get_ylim()[1] < 1 and [text.get_text() for text in axis.texts if "higher up" in text.get_text()] == [
            "higher up:\n1,600 steps"
        ]
    assert "BitFit (1.10, 0.65)" in figure.get_label() and "(1.40, 0.60) after 400 steps" in figure.get_label()


def test_the_shipped_tables_bear_out_what_the_lesson_says_of_them():
    parts, study = read_parts("adapters"), read_study()
    assert claims.unfounded(parts, study) == []
    assert learning.forgets_less_at_equal_loss(parts, study) == effects.measured(parts)
    swapped = parts.scores.assign(method=parts.scores.method.replace({"BitFit": "LoRA, rank 8", "LoRA, rank 8": "BitFit"}))
    assert claims.unfounded(parts._replace(scores=swapped), study) == [
        "by Diff-Tuning no adapter gains less in samples than all weights",
        "only one of the written predictions was right",
        "DiffFit draws as BitFit does",
        "LoRA draws better than BitFit, DiffFit and VPT",
    ]
