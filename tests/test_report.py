"""The reports' means, gains and intervals by hand; the committed report is the tables' own."""

import pandas as pd
import pytest

from difftuning.files import data_folder
from difftuning.report import best_setting, gain_at_own_best, gain_table, paired_gain, pilot_report, score_table


def table():
    """plain 10 and 20, then 8 and 8; ours 5 and 15, then 6 and 2, by seed; at guidance 1.5 everything is 1 worse."""
    scores = {("plain", 100): (10, 20), ("plain", 200): (8, 8), ("ours", 100): (5, 15), ("ours", 200): (6, 2)}
    rows = [
        {"task": "digits", "method": method, "seed": seed, "step": step, "guidance": guidance, "fid": fid + (guidance == "1.5"), "world": "1"}
        for (method, step), both in scores.items()
        for seed, fid in enumerate(both)
        for guidance in ("1", "1.5")
    ]
    return pd.DataFrame(rows)


def test_a_gain_is_paired_seed_by_seed():
    """(10 - 5) / 10 = 0.5 and (20 - 15) / 20 = 0.25: mean 0.375, half-width 12.706 * 0.125."""
    gain = paired_gain(table(), "ours", "1", 100)
    assert gain.mean == pytest.approx(0.375) and gain.half_width == pytest.approx(12.7062 * 0.125, rel=1e-4) and gain.seeds == 2


def test_each_methods_best_setting_is_by_its_mean_over_seeds():
    assert best_setting(table(), "plain") == ("1", 200) and best_setting(table(), "ours") == ("1", 200)
    gain = gain_at_own_best(table(), "ours")
    assert gain.mean == pytest.approx(((8 - 6) / 8 + (8 - 2) / 8) / 2)


def test_a_seed_that_only_one_method_has_does_not_count():
    rows = table()
    gain = paired_gain(rows[~((rows.method == "ours") & (rows.seed == 1))], "ours", "1", 100)
    assert gain.mean == pytest.approx(0.5) and gain.seeds == 1 and gain.text() == "0.50"


def test_tables_hold_every_method_step_and_guidance():
    scores, gains = score_table(table(), "1.5"), gain_table(table())
    assert scores[2].startswith("| plain | 16.00 ± ") and scores[3].startswith("| ours | 11.00 ± ")
    assert len(gains) == 2 + 2 and "38 ± 159 %" in gains[2] and "(guidance 1, 200 steps)" in gains[2]


def test_the_committed_report_says_what_the_committed_tables_say():
    results = data_folder() / "results"
    if not (results / "pilot.md").is_file():
        pytest.skip("data/results/pilot.md is not written yet: run `python -m difftuning.report`")
    assert (results / "pilot.md").read_text() == pilot_report(results)
