"""Predictions beside what came: made-up tables in which each comes true, and changes that make one fail."""

from __future__ import annotations

import pandas as pd
import pytest

from difftuning.studies.expected import LARGE, SMALL, baselines_found, pilot_found
from difftuning.studies.report import expected_table

SETS = [*LARGE, *SMALL]
PILOT = {
    "plain": 1.0,
    "Diff-Tuning": 0.9,
    "reconsolidation only": 0.97,
    "retention only": 1.0,
    "Diff-Tuning, own labels": 0.85,
}  # distances
KEEPERS = ("Diff-Tuning", "retention only")


def scores(distances: dict[tuple[str, str, str], float], methods, sets=SETS, copied=0.0) -> pd.DataFrame:
    """A distance for each (method, set, guidance); 1 where none is given."""
    return pd.DataFrame(
        [
            {"method": method, "set": name, "guidance": way, "split": split, "seed": 0, "step": step, "fid": distances.get((method, name, way), 1.0),
             "copied": copied * (method == "plain")}
            for method in methods for name in sets for way in ("1", "1.25", "1.5", "domain 1.5") for split in ("validation", "test") for step in (800, 1600)
        ]
    )  # fmt: skip


def pilot(few_ours=1.1, source=0.75, copied=0.1, **changed: float):
    """The pilot as predicted; `changed`: a method's distance at guidance 1.5 on every set."""
    distances = {}
    for name in SETS:
        distances |= {
            (method, name, "1.5"): changed.get(method.replace(" ", "_").replace(",", ""), value) for method, value in PILOT.items()
        }
        distances["plain", name, "1.25"] = distances["plain", name, "domain 1.5"] = 0.95
        distances["Diff-Tuning", name, "1"] = distances["Diff-Tuning", name, "domain 1.5"] = 0.99
    distances["Diff-Tuning", SETS[2], "1.5"] = 0.93  # the largest set gains least
    table = scores(distances, PILOT, copied=copied)
    # each at its own best: the validation split picks plain's guidance 1.25 (0.95) and Diff-Tuning's guidance 1.5
    losses = []
    for method in PILOT:
        for name in SETS:
            few, pictures = name in SMALL, int(name.split(", ")[1].split()[0].replace(",", ""))
            for step in (800, 1600):
                for data in ("target", "validation", "source"):
                    for tenth in range(1, 11):
                        if data == "source":
                            after = source if method in KEEPERS else 1.0
                        elif few and tenth <= 3:
                            after = 1.5 if method == "plain" else few_ours
                        else:
                            after = 1 - 0.01 * tenth if tenth < 7 else 0.7 - 0.02 * tenth
                        losses.append({"method": method, "set": name, "task": name.split(",")[0], "training_pictures": pictures, "seed": 0, "step": step,
                                       "data": data, "tenth": tenth, "before": 1.0, "after": after})  # fmt: skip
    parts = scores(
        {(method, name, way): 1.2 for method in ("weightings swapped", "bank of noise") for name in SETS[:2] for way in ("1", "1.5")},
        ["plain", "weightings swapped", "bank of noise"], SETS[:2],
    )  # fmt: skip
    return table, pd.DataFrame(losses), parts


def wrong(found) -> list[int]:
    return [place for place, (right, _) in enumerate(found.values()) if right is False]


def test_all_that_was_predicted_of_the_pilot_can_come_true():
    found = pilot_found(*pilot())
    assert wrong(found) == [] and None not in [right for right, _ in found.values()], found


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (1, {"Diff-Tuning": 0.7}),
        (4, {"few_ours": 1.3}),
        (5, {"copied": 0.0}),
        (6, {"source": 0.9}),
        (7, {"reconsolidation_only": 0.9}),
        (8, {"retention_only": 0.9}),
        (9, {"Diff-Tuning_own_labels": 0.95}),
    ],
)
def test_a_prediction_of_the_pilot_fails_where_its_number_is_off(place, change):
    assert place in wrong(pilot_found(*pilot(**change)))


def test_methods_without_runs_are_said_to_be_missing():
    table, losses, parts = pilot()
    few = table[table.method.isin(["plain", "Diff-Tuning"])]
    found = list(pilot_found(few, losses, parts).values())
    assert [right for right, _ in found[7:10]] == [None] * 3 and found[7][1] == "not run yet"
    assert expected_table({"this": (None, "not run yet"), "that": (True, "so")})[2:] == [
        "| this | – | not run yet |",
        "| that | yes | so |",
    ]


BASELINES = {
    "early stopping": (1.5, 0.95, 1.0), "L2-SP": (1.0, 1.1, 0.8), "EWC": (1.0, 1.1, 0.8), "distillation": (0.9, 1.0, 0.9), "P2": (1.0, 1.0, 1.0),
    "prior preservation": (0.95, 1.0, 0.901), "Min-SNR": (1.0, 1.0, 1.0), "hard threshold 0.25": (1.1, 1.0, 1.0), "hard threshold 0.5": (1.05, 1.0, 1.0),
    "hard threshold 0.75": (1.2, 1.0, 1.0), "plain": (1.0, 1.0, 1.0), "Diff-Tuning": (0.9, 1.0, 0.9),
}  # fmt: skip


def baselines(**changed: tuple[float, float, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Distance, loss on new and on old pictures of each method, the same on both sets."""
    sets, all_of = ["digits, 200 pictures", "footwear, 2,000 pictures"], BASELINES | {"distillation": (0.9, 1.0, 0.905)} | changed
    losses = [
        {"method": method, "set": name, "seed": 0, "step": 800, "data": data, "tenth": tenth, "after": value}
        for method, (_, *both) in all_of.items() for name in sets for data, value in zip(("target", "source"), both) for tenth in range(1, 11)
    ]  # fmt: skip
    return scores({(method, name, "1.5"): own[0] for method, own in all_of.items() for name in sets}, all_of, sets), pd.DataFrame(losses)


def test_all_that_was_predicted_of_the_baselines_can_come_true():
    assert wrong(baselines_found(*baselines())) == []


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        (0, {"prior preservation": (0.8, 1.0, 0.901)}),
        (0, {"prior preservation": (0.95, 1.0, 0.7)}),
        (1, {"distillation": (0.8, 1.0, 0.905)}),
        (2, {"EWC": (1.0, 0.9, 0.8)}),
        (3, {"early stopping": (0.9, 0.95, 1.0)}),
        (4, {"Min-SNR": (0.7, 1.0, 1.0)}),
        (5, {"hard threshold 0.75": (1.0, 1.0, 1.0)}),
    ],
)
def test_a_prediction_of_the_baselines_fails_where_its_number_is_off(place, changed):
    assert place in wrong(baselines_found(*baselines(**changed)))
