"""Branches of guidance from two tuned models: who answers and who guides, by hand; a table that grows."""

from __future__ import annotations

import pytest

from difftuning.data.tasks import load_task
from difftuning.evaluation.metrics import evaluate
from difftuning.sampling import sample
from difftuning.studies import branches
from difftuning.studies.tables import kept_rows, write_rows


@pytest.fixture(scope="module")
def models():
    return {name: branches.tuned_model(name, "digits", 200, 0, steps=2) for name in branches.MODELS}


@pytest.mark.slow
def test_each_pair_is_scored_with_one_models_labels_and_the_others_null_branch(models):
    rows = {(row["labels_by"], row["guided_by"]): row["fid"] for row in branches.mixed_scores(models, "digits", 0, samples=20)}
    assert len(rows) == len(models) * (len(models) + 2)
    ours, plain = models["Diff-Tuning"].model, models["plain"].model
    labels = models["Diff-Tuning"].rows.repeat(2)
    for guide, name in ((plain, "plain"), (None, "Diff-Tuning")):  # no guide: the model itself
        images = sample(ours, labels, steps=branches.SAMPLING_STEPS, guidance=branches.GUIDANCE, guide=guide, seed=0, progress=False)
        assert rows["Diff-Tuning", name] == pytest.approx(evaluate(images, load_task("digits", split="test"))["fid"], rel=1e-3)


@pytest.mark.slow
def test_what_the_table_has_is_not_measured_again(tmp_path, monkeypatch, models):
    """A pair is lost from one set: two models are tuned again for it, one to answer and one to guide."""
    asked = []
    monkeypatch.setattr(branches, "tuned_model", lambda name, task, *rest: asked.append((name, task)) or models[name])
    monkeypatch.setattr(
        branches, "mixed_scores", lambda models, task, seed, pairs: [dict(zip(branches.PAIR, pair)) | {"fid": 1.0} for pair in pairs]
    )
    table = tmp_path / "branches.csv"
    for expected in (6, 6):  # two sets, three models each; the second call finds all
        branches.main(["--table", str(table)])
        assert len(asked) == expected
    rows = kept_rows(table)
    assert [(row["labels_by"], row["guided_by"]) for row in rows] == 2 * branches.PAIRS
    assert [row["task"] for row in rows] == len(branches.PAIRS) * ["footwear"] + len(branches.PAIRS) * ["digits"]
    lost = [row for row in rows if (row["task"], row["labels_by"], row["guided_by"]) == ("digits", "plain", "reconsolidation only")]
    write_rows(table, [row for row in rows if row not in lost])
    branches.main(["--table", str(table)])
    assert len(lost) == 1 and asked[6:] == [("plain", "digits"), ("reconsolidation only", "digits")]
    assert kept_rows(table)[-1] == lost[0]
    branches.main(["--table", str(table), "--seeds", "2", "--task", "digits"])
    assert {task for _, task in asked[8:]} == {"digits"} and len(asked[8:]) == 3
