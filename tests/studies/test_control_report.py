"""The ControlNet study's tables by hand; the committed report and the README are the tables' own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from difftuning.data.conditions import KINDS
from difftuning.studies.control_gains import distance_lower
from difftuning.studies.control_report import control_report, convergence_table, costs_table, lower_by, settings_table
from difftuning.studies.gains import read_table
from difftuning.support.world import data_folder

STEPS = range(0, 101, 20)


def made(steps: dict[str, list[float]], fid: dict[str, list[float]] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and agreement of runs on every condition that jump at their step (nan: never); seed by seed."""
    scores, checks = [], []
    for method, kind, (seed, step) in ((m, k, each) for m, own in steps.items() for k in KINDS for each in enumerate(own)):
        run = {"kind": kind, "method": method, "seed": seed}
        scores.append(
            run | {"sudden_convergence": step, "fid": (fid or {}).get(method, [1.0] * 9)[seed], "caption_agreement": 0.8, "step": 100}
        )
        checks += [run | {"step": check, "scaled": float(check >= step)} for check in STEPS]
    return pd.DataFrame(scores), pd.DataFrame(checks)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_steps_and_what_is_saved_of_them_are_told_by_condition():
    lines = convergence_table(*made({"plain": [80, 60, 60], "Diff-Tuning": [40, 40, 60]}))
    assert len(lines) == 2 + len(KINDS) + 1 and cells(lines[2])[:4] == ["edge", "3", "67", "47"]
    assert cells(lines[2])[4].startswith(f"{100 * (0.5 + 1 / 3 + 0) / 3:.0f} ± ") and cells(lines[2])[4].endswith(", 3 pairs")
    assert cells(lines[-1])[4] == cells(lines[2])[4]  # all conditions are alike


def test_runs_that_never_converge_are_counted_and_left_out():
    lines = convergence_table(*made({"plain": [80, np.nan], "Diff-Tuning": [40, 40]}))
    assert cells(lines[2])[2:5] == ["80 (1 of 2 never)", "40", "50 %, one pair"]
    assert cells(convergence_table(*made({"plain": [np.nan], "Diff-Tuning": [40]}))[2])[2:5] == ["never", "40", "–"]


def test_a_run_without_scores_does_not_count():
    scores, checks = made({"plain": [80, 80], "Diff-Tuning": [40, 40]})
    unfinished = scores[~((scores.kind == "edge") & (scores.seed == 1) & (scores.method == "plain"))]
    assert cells(convergence_table(unfinished, checks)[2])[:5] == ["edge", "1", "80", "40", "50 %, one pair"]


def test_two_seeds_have_no_interval_and_costs_are_paired():
    lines = costs_table(*made({"plain": [80, 80], "Diff-Tuning": [40, 40]}, fid={"plain": [2.0, 4.0], "Diff-Tuning": [1.0, 3.0]}))
    assert cells(lines[2]) == ["edge", "39 %, 2 pairs", "1.00, 1.00", "0.80, 0.80"]


def test_the_two_means_over_the_chain_weigh_noise_levels_differently():
    """A fall by half where the loss is a tenth: little of the sum, much of the product."""
    usual, changed = (pd.DataFrame({"after": after}) for after in ([1.0, 0.1], [1.0, 0.05]))
    assert lower_by(changed, usual, geometric=False) == pytest.approx(0.05 / 1.1)
    assert lower_by(changed, usual, geometric=True) == pytest.approx(1 - 0.5**0.5)


def test_no_change_of_settings_passes_the_rule_that_was_written():
    """By the mean over the chain, as it is written; the report says what the other mean would say."""
    lines = settings_table(read_table("controlnet_rates_losses"), read_table("controlnet_rates"))
    shares = [float(cells(line)[1].removesuffix(" %")) for line in lines[2:-1]]
    assert len(shares) == 4 and max(shares) < 2 and cells(lines[-1])[1] == ""


def test_the_committed_report_says_what_the_committed_tables_say():
    results = data_folder() / "results"
    assert (results / "controlnet.md").read_text(encoding="utf-8") == control_report(results)


def test_the_readme_says_on_which_conditions_the_steps_differ():
    """Where the interval of the steps saved leaves out 0: edge and segmentation."""
    readme = (data_folder().parent / "README.md").read_text(encoding="utf-8")
    saved = {}
    for row in convergence_table(read_table("controlnet"), read_table("controlnet_agreement"))[2:-1]:
        mean, _, width = cells(row)[4].partition(" %")[0].partition(" ± ")
        if abs(float(mean)) > float(width):
            saved[cells(row)[0]] = float(mean)
    assert "obey edges a fifth earlier and segmentations more than a quarter later; on the other conditions there is no clear" in readme
    assert saved.keys() == {"edge", "segmentation"} and round(saved["edge"]) == 20 and -33 < saved["segmentation"] < -25


def test_what_the_lesson_and_the_readme_say_of_the_pictures_is_in_the_shipped_table():
    """Better on edge, worse on segmentation, and on average no clear difference."""
    sides = {
        kind: (each.mean > each.half_width, -each.mean > each.half_width) for kind, each in distance_lower(read_table("controlnet")).items()
    }
    assert sides["edge"] == (True, False) and sides["segmentation"] == (False, True) and sides["mean"] == (False, False), sides
