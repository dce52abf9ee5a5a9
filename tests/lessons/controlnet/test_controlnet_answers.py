"""Lesson 08's words follow the tables: made-up runs whose steps are known, read back from files, told and drawn."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from difftuning.data.captions import CaptionAs
from difftuning.data.conditions import KINDS, annotate
from difftuning.data.tasks import load_task
from difftuning.evaluation.agreement import edge_f1
from difftuning.lessons.controlnet import answers, figures, lesson
from difftuning.lessons.controlnet.runs import Runs, kept_drawings, own_and_others, read_runs, shown_set
from difftuning.studies.control_cells import ControlCell
from difftuning.studies.controlnet import ask
from difftuning.studies.tables import append_rows

STEPS = np.arange(0, 501, 20)
MEASURED = {"fid": 2.0, "caption_agreement": 0.8}


def made(jumps: dict[str, float], *, seeds: int = 3, measured: dict[str, dict[str, float]] | None = None, kinds=KINDS) -> Runs:
    """Each method's runs jump from 0 to 1 at its step, on every condition; `measured` changes what they end with."""
    scores, agreement, losses = [], [], []
    for method, jump in jumps.items():
        for kind, seed in ((kind, seed) for kind in kinds for seed in range(seeds)):
            run = {"kind": kind, "method": method, "seed": seed}
            own = MEASURED | {"end": 1.0, "loss": 0.5} | (measured or {}).get(method, {})
            found = next((int(step) for step in STEPS if step >= jump), np.nan)
            scores.append(
                run | {"step": 500, "sudden_convergence": found, "fid": own["fid"], "caption_agreement": own["caption_agreement"]}
            )
            agreement += [
                run | {"step": int(step), "scaled": own["end"] * (step >= jump), "sudden_convergence": found} for step in STEPS
            ]  # fmt: skip
            losses += [
                run | {"data": data, "tenth": tenth, "before": 1.0, "after": own["loss"]} for data in ("target", "source") for tenth in range(1, 11)
            ]  # fmt: skip
    floors = [
        {"pictures": "base without condition", "fid": 3.0, "caption_agreement": 0.7},
        {"pictures": "real, through the autoencoder", "fid": 0.5, "caption_agreement": 0.9},
    ]
    return Runs(*map(pd.DataFrame, (scores, agreement, losses, floors)), Path("none.npz"))


# the answer


@pytest.mark.parametrize(
    ("jump", "turn", "bold"),
    [
        (200, "earlier", "**Yes: with Diff-Tuning the pictures snap to their conditions after 20 % fewer steps"),
        (300, "later", "**No: with Diff-Tuning the pictures snap to their conditions only after 20 % more steps"),
        (250, "no clear difference", "**These runs cannot tell: averaged over five conditions"),
    ],
)
def test_the_bold_sentence_says_which_method_is_earlier_and_by_how_much(jump, turn, bold):
    runs = made({"plain": 250 if turn.startswith("no") else 241, "Diff-Tuning": jump})
    runs = runs._replace(scores=runs.scores.replace({"sudden_convergence": {260: 250}}))
    assert lesson.turn_in_words(runs) == turn
    told = lesson.answer_in_words(runs)
    assert told.startswith(bold) and told.count("**") == 2 and "24 %, for Stable Diffusion" in told and "(3 seeds)" in told


def test_a_difference_within_its_interval_is_none():
    runs = made({"plain": 240, "Diff-Tuning": 200})
    steps = runs.scores.sudden_convergence.where(runs.scores.method == "plain", 120 + 80 * runs.scores.seed)  # 120, 200, 280
    assert lesson.turn_in_words(runs._replace(scores=runs.scores.assign(sudden_convergence=steps))) == "no clear difference"


def test_conditions_are_named_where_they_differ():
    runs = made({"plain": 240, "Diff-Tuning": 180})
    ours, scores = runs.scores.method == "Diff-Tuning", runs.scores
    steps = scores.sudden_convergence.mask(ours & (scores.kind == "depth"), 300).mask(ours & (scores.kind == "edge"), 240)
    told = lesson.answer_in_words(runs._replace(scores=scores.assign(sudden_convergence=steps)))
    assert (
        "pairs of runs: earlier on sketch (3), segmentation (3), normal (3); later on depth (3); no clear difference for edge (3)." in told
    )


def test_runs_that_never_converge_decide_nothing():
    runs = made({"plain": 240, "Diff-Tuning": 900})
    assert lesson.answer_in_words(runs).startswith("**These runs cannot tell") and lesson.turn_in_words(runs) == "no clear difference"


def test_a_condition_on_which_one_method_never_converges_is_left_out_of_the_mean():
    runs = made({"plain": 240, "Diff-Tuning": 180})
    steps = runs.scores.sudden_convergence.mask((runs.scores.kind == "depth") & (runs.scores.method == "plain"))
    told = lesson.answer_in_words(runs._replace(scores=runs.scores.assign(sudden_convergence=steps)))
    assert told.startswith("**Yes: ") and "after 25 % fewer steps, on average over edge, sketch, segmentation and normal.**" in told
    assert "left out with the other method's run: plain on depth (seed 0), plain on depth (seed 1), plain on depth (seed 2)." in told
    counted = (4 * (1 - 180 / 240) + 1 - 180 / 500) / 5
    assert f"Counted as step 500, the mean would be {100 * counted:.2f} ± 0.00 % (3 seeds)." in told


def test_one_seed_is_told_as_one():
    assert "Steps saved: 25 % (one seed)" in lesson.answer_in_words(made({"plain": 240, "Diff-Tuning": 180}, seeds=1))


def test_a_clean_jump_saves_as_much_by_every_definition():
    found = answers.saved_by_other_measures(made({"plain": 240, "Diff-Tuning": 180}))
    assert len(found) == 3 and all(share.mean == pytest.approx(0.25) for share in found.values())


def test_reconsolidation_is_told_over_all_conditions_and_options_on_edge():
    runs, edge = made({"plain": 240, "Diff-Tuning": 180, "reconsolidation only": 180}), made({"black": 120}, kinds=["edge"])
    told = lesson.parts_in_words(runs._replace(scores=pd.concat([runs.scores, edge.scores])))
    assert "- *reconsolidation only*: 25 ± 0 % over five conditions, 25 ± 0 % on edge (3 seeds)" in told.replace("25.00 ± 0.00", "25 ± 0")
    assert (
        "- *black*: 50" in told and told.count("over five conditions") == 2 and "over edge" not in told and "does not clearly move" in told
    )


@pytest.mark.parametrize(("alone", "words"), [(240, "moves the step forward"), (120, "moves the step back")])
def test_what_the_bank_adds_is_measured_against_reconsolidation(alone, words):
    assert words in lesson.parts_in_words(made({"plain": 300, "Diff-Tuning": 180, "reconsolidation only": alone}))


def test_costs_are_told_in_the_direction_in_which_they_go():
    worse = {"Diff-Tuning": {"fid": 2.5, "caption_agreement": 0.9, "end": 0.8, "loss": 0.51}}
    *lines, _, mean = lesson.costs_in_words(made({"plain": 240, "Diff-Tuning": 200}, measured=worse)).splitlines()
    assert (
        mean
        == (
            "On average over the conditions the Frechet distance is lower than plain's by -25.00 % (-25.00 to -25.00) (a minus: higher)."  # 2.5 for 2
        )
    )
    assert [line.split(": ")[1] for line in lines] == [
        "*worse than plain*", "*better than plain*", "*worse than plain*", "*about the same as plain*", "*about the same as plain*",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "first", "verdict"),
    [
        (lambda x: x, "gains 0.12 in the first 60 steps, and 0.12 in the steepest 60 later on", "there is no onset"),
        (lambda x: 1 - np.exp(-6 * x), "gains 0.51", "there is no onset"),
        (lambda x: 1.0 * (x > 0.5), "gains 0.00 in the first 60 steps, and 1.00", "there is an onset"),
    ],
    ids=["a straight line", "an exponential", "a late jump"],
)
def test_a_jump_is_told_from_an_even_rise(shape, first, verdict):
    runs = made({"plain": 240})
    told = lesson.rise_in_words(runs._replace(agreement=runs.agreement.assign(scaled=shape(runs.agreement.step / 500))))
    assert first in told and verdict in told and "an even rise would gain 0.12" in told


# the tables and pictures


def test_tables_are_read_and_unfinished_runs_left_out(tmp_path):
    cells = [ControlCell("edge", "plain", seed) for seed in (0, 1)]
    for cell in cells:
        append_rows(tmp_path / "controlnet_agreement.csv", [cell.identity | {"step": step, "scaled": 0.1} for step in (0, 20)])
    append_rows(tmp_path / "controlnet.csv", [cells[0].identity | {"sudden_convergence": 20, "fid": 1.0}])
    for name in ("losses", "floors"):
        append_rows(tmp_path / f"controlnet_{name}.csv", [cells[0].identity | {"fid": 1.0}])
    runs = read_runs(tmp_path)
    assert runs.agreement.seed.tolist() == [0, 0] and runs.agreement.sudden_convergence.tolist() == [20, 20]
    with pytest.raises(FileNotFoundError, match="controlnet_samples.npz is not there: build it with `difftuning study controlnet"):
        kept_drawings(runs)


def test_kept_drawings_are_those_of_the_first_run_at_its_checks(tmp_path):
    cells = [replace(ControlCell(kind, "plain", seed, learning_rate=1e-3), check_every=50) for kind in KINDS for seed in (4, 3)]
    pictures = {cell.file_name: np.full((3, 6, 8, 8), place, dtype=np.uint8) for place, cell in enumerate(cells)}
    np.savez_compressed(tmp_path / "kept.npz", **pictures)
    runs = made({"plain": 240})._replace(scores=pd.DataFrame(map(asdict, cells)), pictures=tmp_path / "kept.npz")
    found = kept_drawings(runs)
    assert list(found) == list(KINDS) and all(list(of_kind) == [50, 100, 150] for of_kind in found.values())
    for place, kind in enumerate(KINDS):  # seed 3 stands second
        assert found[kind][50].shape == (6, 3, 8, 8)
        torch.testing.assert_close(found[kind][150], torch.full((6, 3, 8, 8), (2 * place + 1) / 127.5 - 1))


def test_what_is_shown_are_the_first_of_those_that_are_checked():
    shown, checked = shown_set("edge"), ask("edge", load_task("footwear", split="test"), 32, CaptionAs("shoe"))
    assert torch.equal(shown.images, checked.images[:6]) and torch.equal(shown.conditions, checked.conditions[:6])
    assert shown.prompts == checked.prompts[:6]


def test_own_and_others_agreement_counts_every_other_picture():
    wanted = annotate("edge", load_task("footwear", split="test").read([0, 1, 2]))
    drawn = load_task("footwear", split="test").read([0, 2, 1])
    table = own_and_others("edge", {20: drawn, 40: drawn[[0, 2, 1]]}, wanted)
    pairs = [[float(edge_f1(wanted[i : i + 1], wanted[j : j + 1])) for j in range(3)] for i in range(3)]
    assert table.own.tolist() == pytest.approx([(1 + 2 * pairs[1][2]) / 3, 1])
    assert table.others[1] == pytest.approx((sum(map(sum, pairs)) - 3) / 6)
    axis = figures.own_and_others(table, "edge").axes[0]
    assert [line.get_ydata().tolist() for line in axis.lines] == [table.own.tolist(), table.others.tolist()]


def test_losses_by_side_are_means_over_conditions():
    runs = made({"plain": 240, "Diff-Tuning": 200})
    runs = runs._replace(losses=runs.losses.assign(after=runs.losses.kind.map(dict(zip(KINDS, range(1, 6)))) * runs.losses.tenth))
    for rows in lesson.losses_by_side(runs).values():
        assert len(rows) == 2 * 3 * 10 and rows.after.tolist() == (3.0 * rows.tenth).tolist()


def test_the_first_gradient_names_the_parts_that_have_one():
    gates = pd.DataFrame({"step": [1, 1, 2, 2], "part": ["a", "b", "a", "b"], "gradient": [0.0, 1.0, 1.0, 1.0]})
    assert lesson.first_gradient(gates) == ["b"]


# the figures


def test_bars_are_as_long_as_the_shares():
    shares = pd.DataFrame(
        {"task": ["digits"] * 5, "condition": KINDS, "explained_by_condition": [0.5, 0.6, 0.7, 0.8, 0.9], "explained_by_class": 0.2}
    )
    figure = figures.information(shares)
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == [0.5, 0.6, 0.7, 0.8, 0.9] and axis.lines[0].get_xdata() == [0.2, 0.2]
    assert "digits: edge 50%" in figure.get_label() and "the class 20%" in figure.get_label()


def test_costs_are_drawn_run_by_run_between_base_and_real_pictures():
    figure = figures.costs(made({"plain": 240, "Diff-Tuning": 200}, measured={"Diff-Tuning": {"fid": 1.0}}))
    distance = figure.axes[0]
    dots = [line.get_xdata() for line in distance.lines if line.get_marker() == "o"]
    assert len(dots) == 2 * 5 * 2 and sorted({float(x) for each in dots for x in np.atleast_1d(each)}) == [1.0, 2.0]
    assert [line.get_xdata()[0] for line in distance.lines if line.get_marker() == "None"] == [3.0, 0.5]
    assert "Frechet distance, Diff-Tuning: edge 1.00" in figure.get_label()
