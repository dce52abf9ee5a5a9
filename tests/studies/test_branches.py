"""Branches of guidance from two tuned models: who answers and who guides, by hand; a table that grows."""

from __future__ import annotations

import pytest

from difftuning.data.tasks import load_task
from difftuning.evaluation.metrics import evaluate
from difftuning.sampling import sample
from difftuning.studies import branches
from difftuning.studies.tables import kept_rows


@pytest.fixture(scope="module")
def models():
    return {name: branches.tuned_model(name, "digits", 200, 0, steps=2) for name in branches.MAIN}


@pytest.mark.slow
def test_each_pair_is_scored_with_one_models_labels_and_the_others_null_branch(models):
    rows = {(row["labels_by"], row["guided_by"]): row["fid"] for row in branches.mixed_scores(models, "digits", 0, samples=20)}
    assert len(rows) == len(models) * 4
    ours, plain = models["Diff-Tuning"].model, models["plain"].model
    labels = models["Diff-Tuning"].rows.repeat(2)
    for guide, name in ((plain, "plain"), (None, "Diff-Tuning")):  # no guide: the model itself
        images = sample(ours, labels, steps=branches.SAMPLING_STEPS, guidance=branches.GUIDANCE, guide=guide, seed=0, progress=False)
        assert rows["Diff-Tuning", name] == pytest.approx(evaluate(images, load_task("digits", split="test"))["fid"], rel=1e-3)


@pytest.mark.slow
def test_what_the_table_has_is_not_measured_again(tmp_path, monkeypatch, models):
    asked = []
    monkeypatch.setattr(branches, "tuned_model", lambda name, task, *rest: asked.append((name, task)) or models[name])
    monkeypatch.setattr(branches, "mixed_scores", lambda *given: [{"labels_by": "plain", "guided_by": "none", "fid": 1.0, "kid": 0.0}])
    table = tmp_path / "branches.csv"
    for expected in (4, 4):  # two sets, two models each; the second call finds all
        branches.main(["--table", str(table)])
        assert len(asked) == expected
    assert {(row["task"], row["seed"]) for row in kept_rows(table)} == {("footwear", "0"), ("digits", "0")}
