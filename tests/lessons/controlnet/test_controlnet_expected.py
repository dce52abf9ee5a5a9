"""Lesson 08's table of predictions: made-up runs in which each comes true, and changes that each make one of them fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from difftuning.data.conditions import KINDS
from difftuning.lessons.controlnet import lesson
from difftuning.lessons.controlnet.runs import Runs
from difftuning.studies.controlnet import HELD, THRESHOLD

STEPS = range(0, 501, 20)
OPTIONS = ("Diff-Tuning, null prompts", "Diff-Tuning, black conditions")
SAID = {  # a word of each prediction -> its place in the table
    "flat": 0, "200 to 300": 1, "the bank adds nothing": 2, "areas": 3, "four of five": 4, "obey alike": 5, "Frechet": 6, "prompts are followed": 7,
    "t is large": 8, "black": 9, "null": 10, "lines tell least": 11,
}  # fmt: skip


def start(method: str, kind: str) -> int:
    """The step at which a curve begins to rise; 220 steps later it is at 1."""
    return (60 if method != "plain" else 90) - 10 * (kind in ("segmentation", "depth", "normal"))


def made(*, late=None, length=220, low=None, fid=1.0, words=0.8, best_tenth=9, first=1.0) -> Runs:
    """Runs of two seeds.  `late`: (method, kind) -> steps added to its start; `low`: (method, kind) -> its last agreement."""
    late, low, scores, agreement, losses = late or {}, low or {}, [], [], []
    methods = ["plain", "Diff-Tuning", "reconsolidation only", *OPTIONS]
    for method, kind, seed in ((m, k, s) for m in methods for k in KINDS if k == "edge" or m not in OPTIONS for s in range(2)):
        run = {"kind": kind, "method": method, "seed": seed}
        begins = start(method, kind) + late.get((method, kind), 0)
        curve = [min(max((step - begins) / length, 0), 1) * low.get((method, kind), 1) for step in STEPS]
        half = next((step for step, *three in zip(STEPS, curve, curve[1:], curve[2:]) if min(three) > THRESHOLD), np.nan)
        scores.append(
            run | {"step": 500, "sudden_convergence": half, "fid": fid if method == "Diff-Tuning" else 1.0, "caption_agreement": words}
        )
        agreement += [run | {"step": step, "scaled": each, "sudden_convergence": half} for step, each in zip(STEPS, curve)]
        after = dict.fromkeys(range(2, 11), 0.9) | {1: first, best_tenth: 0.6}
        losses += [run | {"data": "target", "tenth": tenth, "before": 2.0, "after": 2 * after[tenth]} for tenth in after]
    floors = [{"pictures": "base without condition", "caption_agreement": 0.8}]
    return Runs(*map(pd.DataFrame, (scores, agreement, losses, floors)), Path("none.npz"))


def information(**changed: float) -> pd.DataFrame:
    shares = {"edge": 0.3, "sketch": 0.35, "segmentation": 0.5, "depth": 0.7, "normal": 0.8} | changed
    return pd.DataFrame([{"condition": kind, "explained_by_condition": share} for kind, share in shares.items()])


def test_all_is_right_where_the_runs_are_as_predicted():
    assert HELD == 3
    assert lesson.expected(made(), information()).right.tolist() == ["yes"] * len(SAID)


@pytest.mark.parametrize(
    ("failing", "changes", "shares"),
    [
        (["flat"], {"length": 290}, {}),  # from a fifth to four fifths in 174 steps
        (["200 to 300"], {"late": {("reconsolidation only", "edge"): 20}}, {}),
        (["the bank adds nothing"], {"late": {("Diff-Tuning", "edge"): -30, (OPTIONS[0], "edge"): -30, (OPTIONS[1], "edge"): -30}}, {}),
        (["areas"], {"late": {("plain", "normal"): 30, ("plain", "depth"): 30}}, {}),
        (["four of five"], {"late": {("Diff-Tuning", kind): 25 for kind in ("normal", "depth")}}, {}),
        (["obey alike"], {"low": {("Diff-Tuning", "depth"): 0.85}}, {}),
        (["Frechet"], {"fid": 0.8}, {}),
        (["prompts are followed"], {"words": 0.7}, {}),
        (["t is large"], {"best_tenth": 5}, {}),
        (["t is large"], {"first": 1.1}, {}),
        (["black"], {"low": {(OPTIONS[1], "edge"): 0.85}}, {}),
        (["null"], {"late": {(OPTIONS[0], "edge"): 40}}, {}),
        (["lines tell least"], {}, {"sketch": 0.6}),
        (["lines tell least"], {}, {"normal": 0.95}),
    ],
)
def test_a_prediction_fails_where_its_own_number_is_off(failing, changes, shares):
    table = lesson.expected(made(**changes), information(**shares))
    wrong = [place for place, right in enumerate(table.right) if right == "no"]
    assert {SAID[word] for word in failing} <= set(wrong), table
    if changes.get("length") is None and not any("plain" in key for key in changes.get("late", {})):
        assert wrong == [SAID[word] for word in failing], table


def test_what_was_found_is_said_in_numbers():
    found = lesson.expected(made(fid=0.8), information()).found
    assert found.iloc[SAID["Frechet"]].startswith("from -20 %") and "of 10 mean curves" in found.iloc[0]
    assert found.iloc[SAID["200 to 300"]] == "plain after 220; alone 18 % earlier"
    assert "base 0.80, Diff-Tuning 0.80, plain 0.80" in found.iloc[SAID["prompts are followed"]]
