"""Lesson 02: trends over seeds, figures that show the tables' own numbers, a table that can be built again."""

import numpy as np
import pandas as pd
import pytest

from difftuning.data.tasks import load_source, load_task
from difftuning.evaluation.chain_of_forgetting import denoiser_replacement
from difftuning.lessons.chain import figures, forgetting
from difftuning.lessons.chain.forgetting import zero_shot_table
from difftuning.models.loading import load_pretrained
from difftuning.studies.cell import losses_along_chain
from difftuning.studies.gains import read_table
from difftuning.support.world import data_folder, world_version
from difftuning.training.fine_tuned import FineTuned
from difftuning.training.label_rows import choose_rows
from difftuning.training.memory_bank import MemoryBank


def losses():
    rows = []
    for method, growth in (("plain", 0.3), ("Diff-Tuning", 0.1)):
        for seed in (0, 1):
            for step in (400, 1600):
                for data in ("target", "source"):
                    for tenth in range(1, 11):
                        after = 2 * (1 + growth * tenth * (data == "source"))
                        rows.append(("digits", method, seed, step, data, tenth, 2.0, after))
    return pd.DataFrame(rows, columns=["task", "method", "seed", "step", "data", "tenth", "before", "after"])


def test_the_map_writes_the_ratio_into_each_cell():
    figure = figures.forgetting_map(losses(), "digits")
    panels = {axis.get_title(): axis for axis in figure.axes}
    texts = {(round(text.get_position()[0]), round(text.get_position()[1])): text.get_text() for text in panels["plain, on source"].texts}
    assert texts[0, 0] == "1.30" and texts[1, 9] == "4.00" and len(texts) == 20
    assert {text.get_text() for text in panels["Diff-Tuning, on target"].texts} == {"1.00"}


def test_replacement_curves_pass_through_the_means():
    rows = [
        ("digits", method, seed, by, fraction, 10 * fraction + seed + 5 * (by != "source"))
        for method in ("plain", "Diff-Tuning")
        for seed in (0, 2)
        for by, fractions in (("source", (0, 0.1, 1)), ("own null label", (0.1,)))
        for fraction in fractions
    ]
    table = pd.DataFrame(rows, columns=["task", "method", "seed", "by", "fraction", "fid"])
    live = pd.DataFrame({"method": ["plain", "plain"], "fraction": [0.1, 0.5], "fid": [7.0, 8.0]})
    near, whole = figures.replacement_curves(table, "digits", live).axes
    source, control = (line.get_xydata().tolist() for line in near.lines[:2])
    assert (source, control) == ([[0, 1], [10, 2]], [[10, 7]])
    means, stars = (line.get_xydata().tolist() for line in whole.lines[:2])
    assert (means, stars) == ([[0, 1], [10, 2], [100, 11]], [[10, 7], [50, 8]])


def handed_back_table():
    """Distances 4 without replacement; by the source 3 (plain) and 2 (ours), by the own null label 5 and 3, a seed's number added."""
    after = {("plain", "source"): 3, ("plain", "own null label"): 5, ("Diff-Tuning", "source"): 2, ("Diff-Tuning", "own null label"): 3}
    rows = [("digits", method, seed, by, 0.1, fid + seed) for (method, by), fid in after.items() for seed in (0, 1)]
    rows += [("digits", method, seed, "source", 0.0, 4 + seed) for method in ("plain", "Diff-Tuning") for seed in (0, 1)]
    return pd.DataFrame(rows, columns=["task", "method", "seed", "by", "fraction", "fid"])


def test_handing_back_is_measured_against_both_controls_seed_by_seed():
    found = forgetting.handed_back(handed_back_table())
    assert found.map(lambda change: (change.mean, change.half_width)).to_dict("index") == {
        ("digits", "plain", 0.1): {"against no replacement": (-1, 0), "against the own null label": (-2, 0)},
        ("digits", "Diff-Tuning", 0.1): {"against no replacement": (-2, 0), "against the own null label": (-1, 0)},
    }


def test_who_gains_less_by_handing_back_has_lost_less():
    assert forgetting.lost_less(handed_back_table(), "digits", 0.1)[:2] == (1, 0)


def test_zero_shot_curves_show_the_task_beside_the_source():
    rows = [(name, seed, t, t / 100 + seed, t / 200) for name in ("kana", forgetting.SOURCE) for seed in (0, 1) for t in (100, 300)]
    table = pd.DataFrame(rows, columns=["set", "seed", "t", "error", "kid"])
    figure = figures.zero_shot_curves(table, "kana", forgetting.SOURCE)
    error, distance = figure.axes
    assert [line.get_label() for line in error.lines] == ["kana", forgetting.SOURCE]
    assert error.lines[0].get_xydata().tolist() == [[100, 1.5], [300, 3.5]]
    assert distance.lines[0].get_xydata().tolist() == [[100, 0.5], [300, 1.5]]
    assert len(figure.get_label()) > 15


def test_beyond_the_source_is_what_the_source_itself_does_not_lose():
    rows = [("kana", 0, 100, 0.5), ("kana", 0, 300, 2.0), (forgetting.SOURCE, 0, 100, 0.1), (forgetting.SOURCE, 0, 300, 0.4)]
    found = forgetting.beyond_source(pd.DataFrame(rows, columns=["set", "seed", "t", "kid"]))
    assert found["set"].tolist() == ["kana", "kana"]
    assert found.beyond.tolist() == pytest.approx([0.4, 1.6])


def test_held_out_pictures_come_in_the_shares_of_the_models_own_samples():
    source = load_source()
    kind_of = dict(zip(source.labels.tolist(), source.kinds))
    bank = pd.Series([kind_of[label] for label in MemoryBank.load(data_folder() / "bank").labels.tolist()]).value_counts(normalize=True)
    heldout = load_source("heldout")
    chosen = forgetting.as_the_model_draws(heldout)
    shares = pd.Series(chosen.kinds).value_counts(normalize=True)
    assert (shares - bank).abs().max() < 0.005 and len(chosen) > 500
    assert len(chosen.labels.unique()) > 0.9 * len(heldout.labels.unique())  # of the many kinds of icon, too


@pytest.mark.slow
def test_a_part_of_the_zero_shot_table_comes_out_again():
    path = data_folder() / "results" / "zero_shot.csv"
    kept = pd.read_csv(path, dtype={"world": str}) if path.is_file() else pd.DataFrame({"world": ["none"]})
    if set(kept.world) != {world_version()}:
        pytest.skip(f"zero_shot.csv is of world {kept.world.iloc[0]}: run `python -m difftuning.lessons.chain.forgetting`")
    found = zero_shot_table(load_pretrained("tiny"), ["kana"], seeds=[1], timesteps=[100, 400])
    expected = kept[(kept["set"] == "kana") & (kept.seed == 1) & kept.t.isin([100, 400])]
    np.testing.assert_allclose(found[["error", "kid"]], expected[["error", "kid"]], rtol=0.02, atol=2e-3)


@pytest.mark.slow
def test_what_the_pilots_tables_hold_of_the_untouched_model_comes_out_again():
    """The part that needs no training: the loss before tuning, and samples that are the source model's from the first step on."""
    pretrained, reference = load_pretrained("tiny"), load_task("footwear", split="validation")
    untouched = FineTuned(pretrained, None, None, choose_rows(pretrained, len(reference.class_names)))
    losses = read_table("pilot_losses")[lambda rows: rows.task == "footwear"]
    expected = losses.groupby(["data", "tenth"]).before.mean()
    for row in losses_along_chain(pretrained, untouched, reference, 100):
        assert row["before"] == pytest.approx(expected[row["data"], row["tenth"]], rel=1e-3)
    found = denoiser_replacement(untouched, pretrained, [1.0], reference, seed=0, samples=300, steps=25)
    table = read_table("pilot_replacement")
    kept = table[(table.task == "footwear") & (table.seed == 0) & (table.by == "source") & (table.fraction == 1)].fid
    assert len(kept) == 2 and found["fid"].item() == pytest.approx(kept.mean(), rel=0.01) == pytest.approx(kept.max(), rel=0.01)
