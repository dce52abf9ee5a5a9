"""The reports' means, gains and intervals by hand; the committed report is the tables' own."""

import pandas as pd
import pytest

from difftuning.files import data_folder
from difftuning.gains import (
    AIM,
    Estimate,
    best_setting,
    gain_at_own_best,
    gain_at_the_data_end,
    loss_gain,
    paired_gain,
    read_table,
    verdict,
)
from difftuning.lessons import forgetting
from difftuning.report import REPORTS, copied_table, gain_table, loss_gain_table, mean_gain_table, score_table, study_report, summary_table


def table():
    """plain 10 and 20, then 8 and 8; ours 5 and 15, then 6 and 2, by seed; at guidance 1.5 everything is 1 worse."""
    scores = {("plain", 100): (10, 20), ("plain", 200): (8, 8), ("ours", 100): (5, 15), ("ours", 200): (6, 2)}
    rows = [
        {
            "task": "digits",
            "method": method,
            "seed": seed,
            "step": step,
            "guidance": guidance,
            "fid": fid + (guidance == "1.5"),
            "world": "1",
        }
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


def test_a_gain_at_its_own_best_is_of_a_setting_that_the_other_seeds_chose():
    """ours on seed 0: seed 1 is best at 200 steps (2), so 6; on seed 1: seed 0 is best at 100 steps (5), so 15.  plain: 8 and 8."""
    gain = gain_at_own_best(table(), "ours")
    assert gain.mean == pytest.approx(((8 - 6) / 8 + (8 - 15) / 8) / 2) and gain.seeds == 2
    assert gain_at_own_best(table()[lambda rows: rows.seed == 0], "ours").text() == "–"


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


def test_a_gain_in_loss_is_a_geometric_mean_over_the_chain():
    """ours has a half and two thirds of plain's loss: 1 - sqrt(1/3)."""
    rows = [
        {"method": method, "seed": 0, "step": 10, "data": data, "tenth": tenth, "after": after}
        for method, losses in {"plain": (4.0, 0.3), "ours": (2.0, 0.2)}.items()
        for tenth, after in enumerate(losses, 1)
        for data in ("target", "source")
    ]
    assert loss_gain(pd.DataFrame(rows), "ours", "target", 10).mean == pytest.approx(1 - (1 / 3) ** 0.5)
    assert loss_gain_table(pd.DataFrame(rows))[2:] == ["| ours | target | 42 % |", "| ours | source | 42 % |"]


def test_a_mean_that_rounds_to_nothing_has_no_sign():
    assert Estimate(-0.001, 0.002, 3).percent == "0 ± 0 %" and Estimate(-0.02, 0.01, 3).percent == "-2 ± 1 %"


def test_copies_are_counted_at_the_end():
    rows = table().assign(copied=lambda rows: 0.1 * (rows.step == 200) * (rows.method == "plain") + 0.5 * (rows.step == 100))
    assert copied_table(rows)[2:] == ["| plain | 10.0% | 10.0% |", "| ours | 0.0% | 0.0% |"]


def test_the_mean_of_gains_is_not_the_gain_of_means():
    """A second task with scores a hundred times as large and no gain."""
    first, second = table(), table().assign(task="other", method=lambda rows: rows.method, fid=1000)
    (row,) = mean_gain_table(pd.concat([first, second]), "1", 100)[2:]
    _, _, of_gains, of_means, _ = (cell.strip() for cell in row.split("|"))
    assert of_gains.startswith("19 ±")  # (0.5 + 0) / 2 and (0.25 + 0) / 2
    assert of_means.startswith("0 ±")  # 5 of 1010 and 5 of 1020


@pytest.mark.parametrize(
    ("gain", "words"),
    [((0.3, 0.1, 5), "by 20% or more"), ((0.1, 0.05, 5), "by less than 20%"), ((0.1, 0.2, 5), "undecided"), ((-0.3, 0.1, 5), "worse"), ((0.3, 0, 1), "one seed")],
)  # fmt: skip
def test_words_follow_from_the_interval(gain, words):
    assert words in verdict(Estimate(*gain))


def test_a_method_that_has_not_come_as_far_leaves_its_cells_empty():
    rows = table()
    rows = rows[~((rows.method == "ours") & (rows.step == 200))]
    assert score_table(rows, "1")[3].endswith("| – |") and gain_table(rows)[2].endswith("| – |")


def test_a_table_that_is_not_there_or_of_another_world_says_how_to_build_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="pilot_losses.csv is not there: build it with `difftuning study pilot"):
        read_table("pilot_losses", tmp_path)
    (tmp_path / "zero_shot.csv").write_text("world,t\nanother,1\n")
    with pytest.raises(FileNotFoundError, match="no rows of world .*difftuning.lessons.forgetting"):
        read_table("zero_shot", tmp_path)


def test_a_seed_that_only_one_method_has_does_not_count():
    rows = table()
    gain = paired_gain(rows[~((rows.method == "ours") & (rows.seed == 1))], "ours", "1", 100)
    assert gain.mean == pytest.approx(0.5) and gain.seeds == 1 and gain.text() == "0.50"


def test_tables_hold_every_method_step_and_guidance():
    scores, gains = score_table(table(), "1.5"), gain_table(table())
    assert scores[2].startswith("| plain | 16.00 ± ") and scores[3].startswith("| ours | 11.00 ± ")
    assert len(gains) == 2 + 3 and "| 38 ± 159 % |" in gains[2] and gains[4].startswith("| ours | each at its own best | -31 ± ")


@pytest.mark.parametrize("name", REPORTS)
def test_the_committed_reports_say_what_the_committed_tables_say(name):
    results = data_folder() / "results"
    assert (results / f"{name}.md").read_text(encoding="utf-8") == study_report(name, results)


def test_what_the_readme_says_of_the_pilot_is_what_the_tables_say():
    table, losses, replacement = (read_table(f"pilot{kind}") for kind in ("", "_losses", "_replacement"))
    readme = (data_folder().parent / "README.md").read_text(encoding="utf-8")
    ours = ("Diff-Tuning", "Diff-Tuning, weight 1")
    head, rule, *rows = summary_table(table, losses)
    assert "\n".join([head, rule, *(row for row in rows if row.split(" | ")[1] in ours)]) in readme
    assert table.groupby("method").seed.nunique().eq(5).all() and table.step.max() == 1600 and table.training_pictures.eq(50).all()
    for task, rows in table.groupby("task"):
        mine, end = losses[losses.task == task], {name: found.fid.mean() for name, found in rows[rows.step == 1600].groupby("method")}
        for data in ("target", "source"):
            gains = {name: loss_gain(mine, name, data, 1600) for name in rows.method.unique() if name != "plain"}
            assert all(gains[name].mean - gains[name].half_width > 0 for name in ours)
            assert gains["Diff-Tuning"].mean > max(gains["reconsolidation only"].mean, gains["retention only"].mean)
            assert all(loss_gain(mine, "Diff-Tuning", data, step).mean > 0 for step in (400, 800))
        assert loss_gain(mine, ours[1], "source", 1600).mean > loss_gain(mine, ours[0], "source", 1600).mean
        assert loss_gain(mine, ours[1], "target", 400).mean < loss_gain(mine, ours[0], "target", 400).mean
        copied = rows[rows.step == 1600].groupby("method").copied.mean()
        assert copied[ours[1]] <= copied[ours[0]] < copied["plain"] and copied[ours[1]] < 0.01
        early, late = (paired_gain(rows, "Diff-Tuning", "1.5", step) for step in (400, 1600))
        assert early.mean < 0.02 and early.mean < late.mean and 0 < late.mean < AIM
        assert (late.mean - late.half_width > 0) == (task == "digits")
        assert all(paired_gain(rows, "Diff-Tuning", guidance, 1600).mean < AIM for guidance in rows.guidance.unique())
        handed_back = gain_at_the_data_end(replacement[replacement.task == task], "plain")
        assert abs(handed_back.mean) < 0.005 if task == "footwear" else handed_back.mean - handed_back.half_width > 0
        assert floor(task, 50) < end["plain"]
    zero_shot = read_table("zero_shot")
    beyond = forgetting.beyond_source(zero_shot)
    assert [forgetting.trend(rows, "t", "beyond").verdict for _, rows in beyond.groupby("set")] == ["rises"] * 8
    ratios = losses[(losses.data == "source") & (losses.step == 1600)].assign(ratio=lambda rows: rows.after / rows.before)
    for (_, method), rows in ratios[ratios.method.isin(("plain", "Diff-Tuning"))].groupby(["task", "method"]):
        assert (forgetting.trend(rows, "tenth", "ratio").verdict == "rises") == (method == "Diff-Tuning")


def test_with_all_training_pictures_there_is_no_gain_in_distance():
    """One seed, at the end, at every guidance; and training pictures score below every run."""
    table = read_table("all_pictures")
    for task, rows in table.groupby("task"):
        assert rows.seed.nunique() == 1 and floor(task, "all") < rows.fid.min()
        assert all(paired_gain(rows, "Diff-Tuning", guidance, rows.step.max()).mean < 0 for guidance in rows.guidance.unique())


def floor(task: str, training_pictures: int | str) -> float:
    """What the training pictures themselves score."""
    floors = read_table("floors")
    found = floors[(floors.task == task) & (floors.training_pictures.astype(str) == str(training_pictures))]
    return found[found.pictures == "training pictures"].fid.item()
