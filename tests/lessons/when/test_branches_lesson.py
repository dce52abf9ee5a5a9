"""Lesson 09's branches of guidance: made-up distances whose shares are known."""

from __future__ import annotations

import pytest

from difftuning.lessons.when import branch_figure, branches
from difftuning.lessons.when.expected import of_branches
from difftuning.studies.branches import NONE, UNTOUCHED
from difftuning.studies.tables import write_rows
from difftuning.support.world import world_version

DISTANCES = {  # under the labels, under the null label -> distance
    ("plain", "plain"): 2.0, ("Diff-Tuning", "plain"): 1.9, ("plain", "Diff-Tuning"): 1.0, ("Diff-Tuning", "Diff-Tuning"): 2.5,
}  # fmt: skip


def written(folder, seeds=1, more=None):
    run = {"training_pictures": 200, "step": 1600, "world": world_version(), "task": "digits"}
    pairs = DISTANCES | (more or {}) | {(name, other): 3.0 for name in ("plain", "Diff-Tuning") for other in (UNTOUCHED, NONE)}
    rows = [
        run | {"seed": seed, "labels_by": a, "guided_by": b, "fid": fid * (1 + seed), "kid": 0}
        for (a, b), fid in pairs.items()
        for seed in range(seeds)
    ]
    write_rows(folder / "branches.csv", rows)


def test_the_table_has_a_row_for_who_answers_and_a_column_for_who_guides(tmp_path):
    written(tmp_path, seeds=2)
    table = branches.branches_table(tmp_path)
    assert table.shape == (2, 4)
    assert table.loc[("digits, 200 pictures", "Diff-Tuning"), "plain tuning"] == pytest.approx(1.9 * 1.5)


def test_the_tiles_are_the_table(tmp_path):
    written(tmp_path)
    panel = branch_figure.branches_figure(tmp_path).axes[0]
    told = [float(text.get_text()) for text in panel.texts]
    assert told == branches.branches_table(tmp_path).to_numpy().ravel().round(2).tolist()
    assert [label.get_text() for label in panel.get_xticklabels()][-1] == "no\nguidance"


def test_each_branch_is_told_by_itself(tmp_path):
    written(tmp_path)
    assert branches.branches_in_words(tmp_path) == (
        "**On digits, 200 pictures neither branch makes the difference alone (one run each).**\n\n"
        "- *digits, 200 pictures*: both branches 25 % higher; the labels' branch alone 5 % lower, the null branch alone 50 % lower. "
        "The best of all 8 mixtures: labels by plain tuning, guided by Diff-Tuning (1.00)."
    )


@pytest.mark.parametrize(
    ("labels", "null", "said"),
    [
        (0.0, 0.45, "the null branch makes the difference"),
        (0.5, -0.1, "the labels' branch makes the difference"),
        (0.3, 0.3, "neither branch makes the difference alone"),
    ],
)
def test_a_branch_decides_that_brings_most_of_the_gain_while_the_other_brings_little(labels, null, said):
    both, one, other, none = (branches.Estimate(mean, float("nan"), 1) for mean in (0.5, labels, null, 0))
    assert branches.decisive(branches.Split("set", both, one, other, none)) == said
    assert (
        branches.decisive(branches.Split("set", both._replace(mean=0.01), one, other, none)) == "the two models' samples are about the same"
    )


@pytest.mark.parametrize(
    ("without_bank", "said", "told"),
    [
        (1.0, ", and the rising weights alone have made it so", "50 % lower"),
        (1.95, ", and the bank has made it so", "about the same"),
        (1.4, ", and rising weights and bank together have made it so", "30 % lower"),
    ],
)
def test_a_model_without_a_bank_tells_whether_the_bank_has_made_the_null_branch(tmp_path, without_bank, said, told):
    """Diff-Tuning's null branch halves the distance of 2 to 1."""
    written(tmp_path, more={("Diff-Tuning", "Diff-Tuning"): 1.0, ("plain", "reconsolidation only"): without_bank})
    (split,) = branches.splits(tmp_path)
    assert branches.decisive(split) == branches.NULL and branches.made_by(split) == said
    assert branches.branches_table(tmp_path).columns.tolist() == list(branches.NAMES.values())
    assert f"that of reconsolidation only {told}." in branches.branches_in_words(tmp_path)


def test_what_was_expected_of_a_model_without_a_bank_stands_beside_what_came():
    """Half of the gain on shoes is as foretold; a null branch that helps on digits is not."""

    def split(name, null, without_bank):
        seldom = branches.Estimate(0.0, float("nan"), 1)
        return branches.Split(name, seldom, seldom, *(branches.Estimate(mean, float("nan"), 1) for mean in (null, without_bank)))

    shoes, few = split("footwear, 2,000 pictures", 0.4, 0.2), split("digits, 200 pictures", -0.1, 0.3)
    found = of_branches([shoes, few])
    assert [right for right, _ in found.values()] == [True, False]
    assert [told for _, told in found.values()] == [
        "Diff-Tuning's 33 % lower, that without a bank 18 % lower",
        "Diff-Tuning's 11 % higher, that without a bank 26 % lower",
    ]
    assert not of_branches([shoes._replace(null_without_bank=branches.Estimate(float("nan"), float("nan"), 0))])
