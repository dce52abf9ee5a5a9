"""Lesson 09's precision and recall: a table whose differences are known."""

from __future__ import annotations

import pytest

from difftuning.lessons.when.variety import variety, variety_in_words
from difftuning.studies.tables import write_rows
from difftuning.support.world import world_version


def test_precision_and_recall_are_compared_seed_by_seed_at_the_last_step(tmp_path):
    """On the first set Diff-Tuning is more precise and less varied under guidance; on the second the difference is none."""
    scores = {  # set, guidance, method -> precision, recall
        (200, "1.5", "plain"): (0.8, 0.9), (200, "1.5", "Diff-Tuning"): (0.9, 0.7), (2000, "1.5", "plain"): (0.8, 0.9),
        (2000, "1.5", "Diff-Tuning"): (0.805, 0.895), (200, "1", "plain"): (0.8, 0.9), (200, "1", "Diff-Tuning"): (0.7, 0.9),
        (2000, "1", "plain"): (0.8, 0.9), (2000, "1", "Diff-Tuning"): (0.8, 0.8),
    }  # fmt: skip
    fixed = {"world": world_version(), "task": "digits", "fid": 1.0, "kid": 0.0}
    rows = [
        fixed | {"training_pictures": count, "guidance": guidance, "method": method, "split": split, "step": step, "seed": 0}
        | {"precision": precision + (step == 400) + (split == "validation"), "recall": recall}
        for (count, guidance, method), (precision, recall) in scores.items() for step in (400, 1600) for split in ("validation", "test")
    ]  # fmt: skip
    rows.append(rows[-1] | {"seed": 1, "precision": 0.1})  # the other method has no such seed
    write_rows(tmp_path / "pilot.csv", rows)
    found = variety("1.5", tmp_path)
    assert found.loc["digits, 200 pictures", ("precision", "Diff-Tuning")] == pytest.approx(0.9)
    assert found.loc["digits, 2,000 pictures", ("recall", "plain")] == pytest.approx(0.9) and found.shape == (2, 4)
    assert variety_in_words(tmp_path) == (
        "**At guidance 1.5 Diff-Tuning's samples are more precise than plain fine-tuning's on one of the two sets, and less varied on one; "
        "without guidance they are more precise on none, and less varied on one.**"
    )
