"""Lesson 08: the gates open in the order that is told, figures show the tables' own numbers, the exercise knows right from wrong."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from difftuning.data.captions import caption_pictures
from difftuning.data.conditions import KINDS, annotate
from difftuning.evaluation.agreement import sudden_convergence_step
from difftuning.lessons.controlnet import figures
from difftuning.lessons.controlnet.curves import noisy_curve
from difftuning.lessons.controlnet.information import information_rows
from difftuning.lessons.controlnet.two_gates import PARTS, two_gate_start
from difftuning.lessons.exercises import grade
from difftuning.models.controlnet import ControlNetAdapter
from difftuning.support.random import seeded_generator
from small import small_task, small_text_to_image

# the two gates


@pytest.fixture(scope="module")
def start() -> pd.DataFrame:
    return two_gate_start(small_text_to_image(), small_task(size=16), steps=4, batch_size=4)


def test_the_gates_open_one_after_the_other(start):
    first = {part: rows[rows.gradient > 0].step.min() for part, rows in start.groupby("part", sort=False)}
    assert first == dict(zip(PARTS, (1, 2, 3, 2)))
    assert (start[start.gradient > 0].groupby("part").size() == [5 - first[part] for part in sorted(first)]).all(), "and stay open"


def test_the_first_gradient_is_that_of_the_loss_written_out(start):
    base, task = small_text_to_image(), small_task(size=16)
    generator = seeded_generator(0, "target", 0)
    t = torch.multinomial(torch.full((1000,), 1e-3, dtype=torch.float64), 4, replacement=True, generator=generator)
    noise = torch.randn(4, 4, 4, 4, generator=generator)
    images = task.images[torch.randperm(16, generator=seeded_generator(0, "target order", 0))[:4]]
    names = [task.class_names[task.labels[place]] for place in torch.randperm(16, generator=seeded_generator(0, "target order", 0))[:4]]
    told = {"text": base.denoiser.tokens(caption_pictures(images, names)), "control": annotate("edge", images)}
    x_t = base.diffusion.q_sample(base.encode(images), t, noise)
    ControlNetAdapter((16, 32))(base.denoiser)
    (base.denoiser(x_t, t, **told) - noise).square().mean().backward()
    squares = sum(
        float(weight.grad.square().sum())
        for name, weight in base.denoiser.controlnet.named_parameters()
        if name.startswith(("controlnet_down_blocks", "controlnet_mid_block"))
    )
    assert start.gradient.iloc[0] == pytest.approx(math.sqrt(squares), rel=1e-4)


def test_the_figure_of_the_gates_has_a_ring_for_each_zero(start):
    figure = figures.two_gates(start)
    (axis,) = figure.axes
    rings = [line for line in axis.lines if line.get_markerfacecolor() == "white"]
    assert sum(len(line.get_xdata()) for line in rings) == (start.gradient == 0).sum() == 4
    drawn = [line for line in axis.lines if line.get_markerfacecolor() != "white"]
    np.testing.assert_allclose(np.concatenate([line.get_ydata() for line in drawn]).sum(), start.gradient.sum())
    assert "rest of the condition's embedding from step 3" in figure.get_label()


# the curves


def runs(kinds=KINDS, methods=("plain", "Diff-Tuning"), seeds=2) -> pd.DataFrame:
    rows = []
    for (place, kind), (late, method), seed in ((k, m, s) for k in enumerate(kinds) for m in enumerate(methods) for s in range(seeds)):
        steps, scores = noisy_curve(200 - 60 * late + 20 * place, seed=seed)
        found = sudden_convergence_step(steps, scores, threshold=0.5)
        rows += [
            {"kind": kind, "method": method, "seed": seed, "step": step, "scaled": score, "sudden_convergence": found}
            for step, score in zip(steps, scores)
        ]
    return pd.DataFrame(rows)


def test_five_curves_pass_through_the_means_and_have_a_star_at_their_convergence():
    table = runs(methods=("plain",))
    figure = figures.five_curves(table)
    (axis,) = figure.axes
    curves = {line.get_label(): line for line in axis.lines if line.get_label() in KINDS}
    stars = [line for line in axis.lines if line.get_marker() == "*"]
    assert list(curves) == list(KINDS) and len(stars) == 5
    for kind, star in zip(KINDS, stars):
        mine = table[table.kind == kind]
        np.testing.assert_allclose(curves[kind].get_ydata(), mine.groupby("step").scaled.mean())
        assert star.get_xydata().tolist() == [[mine.groupby("seed").sudden_convergence.first().mean(), 0.5]]
    assert "edge after 200 steps; sketch after 220 steps" in figure.get_label()
    names = [text.get_text() for text in axis.texts]
    assert set(KINDS) < set(names)


def test_a_condition_that_never_converges_has_no_star_and_says_so():
    table = runs(methods=("plain",))
    table.loc[table.kind == "depth", "sudden_convergence"] = np.nan
    table.loc[(table.kind == "edge") & (table.seed == 0), "sudden_convergence"] = np.nan
    figure = figures.five_curves(table)
    assert len([line for line in figure.axes[0].lines if line.get_marker() == "*"]) == 4
    assert "depth never" in figure.get_label() and "edge after 200 steps (1 of 2 runs never)" in figure.get_label()


def test_methods_are_compared_on_one_condition():
    table = runs(kinds=("edge",))
    (axis,) = figures.agreement_by_method(table).axes
    found = {line.get_label(): line.get_ydata() for line in axis.lines if line.get_label() in ("plain", "Diff-Tuning")}
    for method, drawn in found.items():
        np.testing.assert_allclose(drawn, table[table.method == method].groupby("step").scaled.mean())


def test_a_bar_joins_the_mean_steps_of_each_condition():
    scores = runs().drop_duplicates(["kind", "method", "seed"]).assign(step=500)
    figure = figures.convergence_steps(scores)
    bars = [line for line in figure.axes[0].lines if line.get_color() == "0.75"]
    means = scores.groupby(["kind", "method"], sort=False).sudden_convergence.mean()
    assert [list(line.get_xdata()) for line in bars] == [[means[kind, "plain"], means[kind, "Diff-Tuning"]] for kind in KINDS]
    assert "edge: plain after 200 steps, Diff-Tuning after 140 steps" in figure.get_label()
    assert not [line for line in figure.axes[0].lines if line.get_marker() == ">" and len(line.get_xdata())]


def test_runs_that_never_converge_stand_behind_the_last_step_and_out_of_the_mean():
    scores = runs().drop_duplicates(["kind", "method", "seed"]).reset_index(drop=True)
    scores["step"] = 500
    never = (scores.kind == "edge") & (scores.method == "plain") & (scores.seed == 0)
    scores.loc[never, "sudden_convergence"] = np.nan
    figure = figures.convergence_steps(scores)
    behind = [line for line in figure.axes[0].lines if line.get_marker() == ">" and len(line.get_xdata())]
    assert len(behind) == 1 and behind[0].get_xdata()[0] > scores.step.max()
    assert "edge: plain after 200 steps (1 of 2 runs never)" in figure.get_label()


# what each condition tells


@pytest.mark.slow
def test_the_table_of_conditions_has_a_row_for_each_task_and_kind():
    rows = information_rows(["digits"], pictures=60)
    assert [row["condition"] for row in rows] == list(KINDS) and {row["training_pictures"] for row in rows} == {60}
    assert all(-0.5 < float(row["explained_by_condition"]) < 1 for row in rows)
    assert len({row["explained_by_class"] for row in rows}) == 1


# the exercise


@pytest.mark.parametrize("seed", range(5))
def test_a_made_up_curve_jumps_where_it_says(seed):
    steps, scores = noisy_curve(240, peaks=(60,), seed=seed)
    assert scores[3] == 0.8 and sudden_convergence_step(steps, scores, threshold=0.5) == 240


def held(steps, scores, threshold, k):
    """By a loop, as a reader may write it."""
    for i in range(len(steps) - k + 1):
        if min(scores[i : i + k]) > threshold:
            return steps[i]
    return None


def first_high(steps, scores, threshold, k):
    return next((step for step, score in zip(steps, scores) if score > threshold), None)


def at_its_end(steps, scores, threshold, k):
    run = 0
    for step, score in zip(steps, scores):
        run = run + 1 if score > threshold else 0
        if run == k:
            return step
    return None


def not_below(steps, scores, threshold, k):
    return held(steps, [score + 1e-9 for score in scores], threshold, k)


def one_too_few(steps, scores, threshold, k):
    return held(steps[:-1], scores[:-1], threshold, k)


def test_the_right_answer_passes_and_a_missing_one_is_not_written_yet():
    assert grade("sudden convergence", held).passed
    for missing in (None, ...):
        found = grade("sudden convergence", lambda *given: missing)
        assert not found.passed and found.message.startswith("not written yet")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (first_high, "that is the first high score, which noise reaches, too"),
        (at_its_end, "that is the last of the k checks"),
        (one_too_few, "the last k checks may be the ones that hold"),
        (not_below, "a score at the threshold is not above it"),
        (lambda steps, *rest: steps[0], "a clean jump (k = 3) converges at 240, yours says 0"),
        (lambda steps, *rest: "soon", "yours says soon"),
    ],
)
def test_a_wrong_answer_is_told_what_it_is(answer, words):
    found = grade("sudden convergence", answer)
    assert not found.passed and words in found.message
