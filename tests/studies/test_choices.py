"""Learning rates and weights of regularizers are those that the validation splits chose."""

from __future__ import annotations

import pytest

from difftuning.studies import choices
from difftuning.studies.choices import LEARNING_RATES, TRIED, best_rates, best_weights
from difftuning.studies.grid import SOME, studies
from difftuning.studies.methods import BASELINES, METHODS, REGULARIZER_WEIGHTS
from difftuning.studies.tables import kept_rows, write_rows
from difftuning.support.world import data_folder, world_version


def test_every_family_has_three_rates_or_more_tried_on_a_development_set_with_one_seed():
    cells = studies()["learning_rates"]
    for method, tried in TRIED.items():
        assert METHODS[method].rate_of == method
        mine = {(cell.learning_rate, cell.seed) for cell in cells if (cell.method, cell.task, cell.training_pictures) == (method, *SOME)}
        assert mine == {(rate, 0) for rate in tried} and len(tried) >= 3 and list(tried) == sorted(tried)
    assert {method.rate_of for method in METHODS.values()} == set(TRIED)


def test_no_chosen_rate_is_the_lowest_or_highest_of_those_tried():
    """Otherwise a further one might have been better."""
    for method, tried in TRIED.items():
        assert min(tried) < LEARNING_RATES[method] < max(tried), method


def test_a_method_takes_what_was_chosen_for_its_family_on_the_validation_split_and_else_the_second_rate(tmp_path, monkeypatch):
    scores = [
        ("BitFit", 1e-3, "validation", 5),
        ("BitFit", 1e-2, "validation", 4),
        ("BitFit", 1e-3, "test", 1),
        ("P2", 3e-4, "validation", 2),
    ]
    rows = [
        {
            "world": world_version(),
            "guidance": "1.5",
            "task": "footwear",
            "method": method,
            "learning_rate": rate,
            "split": split,
            "fid": fid,
        }
        for method, rate, split, fid in scores
    ]
    rows.append(rows[0] | {"world": "another", "fid": 0.1})
    write_rows(tmp_path / "results" / "learning_rates.csv", rows)
    monkeypatch.setattr(choices, "data_folder", lambda: tmp_path)
    choices._chosen.cache_clear()
    own = type(LEARNING_RATES)()
    assert own["BitFit"] == own["BitFit + Diff-Tuning"] == 1e-2
    assert own["P2"] == TRIED["P2"][1] and own["LoRA, rank 16"] == TRIED["LoRA, rank 8"][1] == 3e-3  # P2 with one rate: no choice
    choices._chosen.cache_clear()


def test_an_unknown_methods_rate_is_a_key_error():
    with pytest.raises(KeyError, match="magic"):
        LEARNING_RATES["magic"]


def test_a_methods_best_rate_has_the_lowest_mean_over_its_tasks_of_its_best_score():
    scores = {("a", 1e-4): (8, 6, 2), ("a", 1e-3): (5, 7, 3), ("b", 1e-4): (9, 9, 9), ("b", 1e-3): (9, 9, 8)}
    rows = [
        {"method": method, "learning_rate": rate, "task": task, "guidance": guidance, "fid": fid if guidance == "1.5" else 1 / fid}
        for (method, rate), (first, second, other) in scores.items()
        for task, fid in (("x", first), ("x", second), ("y", other))
        for guidance in ("1", "1.5")
    ]
    # a at 1e-4: sqrt(6 * 2) = 3.5, at 1e-3: sqrt(5 * 3) = 3.9; b: 9 and 8.5
    assert best_rates(rows) == {"a": 1e-4, "b": 1e-3}
    assert best_rates([row for row in rows if row != rows[0]]) == {"a": 1e-4, "b": 1e-3}  # one step count is missing
    unfinished = [row for row in rows if (row["method"], row["learning_rate"], row["task"]) != ("a", 1e-3, "y")]
    assert best_rates(unfinished) == {"b": 1e-3}  # one rate alone is no choice
    third = [{**row, "learning_rate": 1e-2, "fid": 1} for row in rows if row["method"] == "a" and row["task"] == "x"]
    assert best_rates(rows + third) == {"a": 1e-4, "b": 1e-3}  # a rate that was not tried on y does not count
    one_task = [{**row, "method": "c"} for row in rows if row["method"] == "b" and row["task"] == "y"]
    assert best_rates(rows + one_task)["c"] == 1e-3  # a method need not be tried on every task


def test_a_regularizers_best_weight_has_the_lowest_loss_over_the_chain_on_validation_pictures():
    """EWC: geometric means of ten losses 2 and 4 by turns (2.83), of ten 3 and of ten 2.9; the other splits say otherwise."""
    by_weight = {
        "EWC, weight 1000": [2, 4] * 5,
        "EWC, weight 10000": [3] * 10,
        "EWC, weight 100000": [2.9] * 10,
        "L2-SP, weight 0.01": [1] * 10,
    }
    rows = [
        {"method": method, "data": data, "after": str(loss if data == "validation" else 10 / loss)}
        for method, losses in by_weight.items() for loss in losses for data in ("target", "validation", "source")
    ]  # fmt: skip
    assert best_weights(rows) == {"EWC": 1e3}  # L2-SP has not tried all of its weights


def test_the_weights_in_use_are_those_that_the_study_chose():
    rows = kept_rows(data_folder() / "results" / "regularizer_weights_losses.csv")
    for name, weight in best_weights(rows).items():
        assert BASELINES[name].regularizer.weight == weight


def test_each_regularizer_is_tried_at_three_weights_or_more_and_its_own_is_between_the_others():
    for name in ("EWC", "L2-SP", "distillation"):
        tried = {method.regularizer.weight for known, method in REGULARIZER_WEIGHTS.items() if known.startswith(name)}
        assert BASELINES[name].regularizer.weight in sorted(tried)[1:-1]
