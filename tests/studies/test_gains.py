"""Means, gains and intervals by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from difftuning.studies.gains import (
    Estimate,
    Gain,
    best_setting,
    estimate,
    gain_at_own_best,
    gain_at_the_data_end,
    gain_over,
    loss_gain,
    mean_gain,
    mean_loss_gain,
    paired_gain,
    read_table,
    trend,
    verdict,
)
from difftuning.studies.report import (
    loss_gain_table,
)
from tests.studies.helpers import table


def test_a_gain_is_paired_seed_by_seed():
    """5 of 10 and 15 of 20: the geometric mean of 1/2 and 3/4 is left, and the logarithms log 2 and log 4/3 are log 3/2 apart."""
    gain = paired_gain(table(), "ours", "1", 100)
    assert gain.lower == pytest.approx(1 - (1 / 2 * 3 / 4) ** 0.5) and gain.seeds == 2
    assert gain.half_width == pytest.approx(12.7062 * math.log(3 / 2) / 2, rel=1e-4)


def test_a_run_that_diverged_is_counted_and_no_part_of_the_mean():
    gain = gain_over(pd.Series([2.0, 2.0, 2.0]), pd.Series([1.0, math.inf, 1.0]))
    assert gain.lower == pytest.approx(0.5) and (gain.seeds, gain.diverged) == (2, 1) and gain.percent == "50 %, 1 diverged"
    assert verdict(gain) == "two seeds decide nothing"
    assert estimate(np.array([math.inf])).text() == "–, 1 diverged" and estimate(np.array([1.0, math.inf])).text() == "1.00, 1 diverged"


def test_a_half_weighs_as_much_as_a_double():
    assert gain_over(pd.Series([2.0, 2.0]), pd.Series([1.0, 4.0])).lower == pytest.approx(0)


def test_a_gains_interval_is_said_by_its_ends():
    """Half as much, from as much to a quarter; twice as much, from as much to four times; 1 % and narrow."""
    assert Gain(math.log(2), math.log(2), 3).percent == "50 % (0 to 75)"
    assert Gain(-math.log(2), math.log(2), 3).percent == "-100 % (-300 to 0)"
    assert Gain(-math.log(0.99), 0.002, 3).percent == "1.0 % (0.8 to 1.2)"
    assert Gain(math.log(2), 1.0, 2).percent == "50 %" and Gain(float("nan"), float("nan"), 0).percent == "–"


def test_domain_guidance_does_not_compete_for_the_best_setting():
    by_source = table()[lambda rows: rows.guidance == "1"].assign(guidance="domain 1.5", fid=0.1)
    assert best_setting(pd.concat([table(), by_source]), "plain") == best_setting(table(), "plain")


def test_a_setting_that_few_seeds_have_does_not_compete():
    """One seed at step 150, better than all others have at 200."""
    alone = table()[lambda rows: (rows.seed == 0) & (rows.step == 100)].assign(step=150, fid=0.1)
    assert best_setting(pd.concat([table(), alone]), "plain") == best_setting(table(), "plain")


def test_each_methods_best_setting_is_by_its_mean_over_seeds_on_the_validation_split():
    assert best_setting(table(), "plain") == ("1", 200) and best_setting(table(), "ours") == ("1", 100)


def test_a_gain_at_its_own_best_is_of_settings_that_the_validation_split_chose_and_of_scores_on_the_test_split():
    """On the test split ours would be best after 200 steps (6 and 2); the validation split chose 100 (5 and 15).  plain: 8 and 8."""
    gain = gain_at_own_best(table(), "ours")
    assert gain.lower == pytest.approx(1 - (5 / 8 * 15 / 8) ** 0.5) and gain.seeds == 2


def test_the_gain_at_the_data_end_is_of_the_fraction_that_the_other_seeds_chose():
    """Seed 0 is best at 0.1 (8 of 10), seed 1 at 0 (5, then 6): seed 0 is left as it is, seed 1 goes from 5 to 6."""
    scores = {(0, 0.0): 10, (0, 0.1): 8, (1, 0.0): 5, (1, 0.1): 6}
    rows = [
        {"method": "plain", "by": by, "seed": seed, "fraction": fraction, "fid": fid if by == "source" else 0}
        for by in ("source", "own null label")
        for (seed, fraction), fid in scores.items()
    ]
    rows.append({"method": "plain", "by": "source", "seed": 0, "fraction": 0.5, "fid": 1})  # no part of the data end
    gain = gain_at_the_data_end(pd.DataFrame(rows), "plain")
    assert gain.mean == pytest.approx((0 - 1 / 5) / 2) and gain.seeds == 2


def test_beyond_the_own_null_label_its_gain_is_taken_off():
    """The source gains 3 and 1 of 10, the own null label 1 and 0.5 of 10, all at the only fraction there is."""
    fids = {("source", 0.0): (10, 10), ("source", 0.1): (7, 9), ("own null label", 0.1): (9, 9.5)}
    rows = [
        {"method": "plain", "by": by, "seed": seed, "fraction": fraction, "fid": fid}
        for (by, fraction), both in fids.items()
        for seed, fid in enumerate(both)
    ]
    assert gain_at_the_data_end(pd.DataFrame(rows), "plain", beyond_null=True).mean == pytest.approx((0.2 + 0.05) / 2)


def test_a_gain_in_loss_is_a_geometric_mean_over_the_chain():
    """ours has a half and two thirds of plain's loss: 1 - sqrt(1/3)."""
    rows = [
        {"method": method, "seed": 0, "step": 10, "data": data, "tenth": tenth, "after": after}
        for method, losses in {"plain": (4.0, 0.3), "ours": (2.0, 0.2)}.items()
        for tenth, after in enumerate(losses, 1)
        for data in ("target", "source")
    ]
    assert loss_gain(pd.DataFrame(rows), "ours", "target", 10).lower == pytest.approx(1 - (1 / 3) ** 0.5)
    assert loss_gain_table(pd.DataFrame(rows))[2:] == ["| ours | target | 42 % |", "| ours | source | 42 % |"]


def test_the_mean_over_sets_is_of_the_seeds_that_have_all_of_them():
    """Seed 0: a half on the one set and three quarters on the other; seed 1 has one set alone."""
    rows = [
        {"set": name, "method": method, "seed": seed, "guidance": "1", "step": 10, "split": "test", "fid": fid}
        for (name, seed), both in {("a", 0): (2, 1), ("b", 0): (4, 3), ("a", 1): (2, 9)}.items()
        for method, fid in zip(("plain", "ours"), both)
    ]
    gain = mean_gain(pd.DataFrame(rows), "ours", "1", 10)
    assert gain.lower == pytest.approx(1 - (1 / 2 * 3 / 4) ** 0.5) and gain.seeds == 1
    losses = pd.DataFrame(rows).rename(columns={"fid": "after"}).assign(data="target")
    assert mean_loss_gain(losses, "ours", "target", 10)[::2] == gain[::2]


def test_a_mean_that_rounds_to_nothing_has_no_sign():
    assert Estimate(-0.001, 0.02, 3).percent == "0 ± 2 %" and Estimate(-0.02, 0.01, 3).percent == "-2 ± 1 %"


def test_a_narrow_interval_is_not_rounded_to_none():
    assert Estimate(0.163, 0.004, 5).percent == "16.3 ± 0.4 %" and Estimate(0.163, 0.006, 5).percent == "16 ± 1 %"
    assert Estimate(0.163, 0.0004, 5).percent == "16.30 ± 0.04 %"


@pytest.mark.parametrize(
    ("gain", "words"),
    [((0.3, 0.1, 5), "by 20% or more"), ((0.1, 0.05, 5), "by less than 20%"), ((0.1, 0.2, 5), "undecided"), ((-0.3, 0.1, 5), "worse"), ((0.3, 0, 1), "one seed"), ((0.0, 0.0, 5), "undecided"), ((0.0, 0.0, 0), "not measured")],
)  # fmt: skip
def test_words_follow_from_the_interval(gain, words):
    assert words in verdict(Gain(*gain))


def test_a_table_that_is_not_there_or_of_another_world_says_how_to_build_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="pilot_losses.csv is not there: build it with `difftuning study pilot"):
        read_table("pilot_losses", tmp_path)
    (tmp_path / "transfer.csv").write_text("world,t\nanother,1\n")
    with pytest.raises(FileNotFoundError, match="no rows of world .*difftuning.lessons.ideal.transfer"):
        read_table("transfer", tmp_path)


def by_seed(curves):
    return pd.DataFrame([{"seed": seed, "t": t, "value": value} for seed, curve in enumerate(curves) for t, value in enumerate(curve)])


@pytest.mark.parametrize(("sign", "verdict"), [(1, "rises"), (-1, "falls")])
def test_a_trend_in_every_seed_is_found(sign, verdict):
    found = trend(by_seed([[0, sign * 1, sign * 5], [sign * 2, sign * 3, sign * 4], [sign * 1, sign * 2, sign * 9]]), "t", "value")
    assert found.mean == pytest.approx(sign) and found.half_width == pytest.approx(0, abs=1e-12) and found.verdict == verdict


def test_a_rank_correlation_by_hand():
    """Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6; against 1 2 4 3: 1 - 6 * 2 / 60 = 0.8; falling: -1.  Their standard deviation is 0.9866."""
    found = trend(by_seed([[20, 10, 40, 30], [1, 2, 4, 3], [4, 3, 2, 1]]), "t", "value")
    assert found.mean == pytest.approx(0.4 / 3) and found.half_width == pytest.approx(4.303 * 0.9866 / 3**0.5, rel=1e-3)
    assert found.verdict == "no trend" and found.seeds == 3


def test_one_seed_decides_nothing():
    assert trend(by_seed([[1, 2, 3]]), "t", "value").verdict == "one seed decides nothing"


def test_two_seeds_decide_nothing_and_show_no_interval():
    assert trend(by_seed([[1, 2, 3], [1, 2, 3]]), "t", "value").verdict == "two seeds decide nothing"
    assert estimate(np.array([0.1, 0.3])).percent == "20 %" and estimate(np.array([0.1, 0.3, 0.2])).percent == "20 ± 25 %"
