"""The reports' means, gains and intervals by hand; the committed report is the tables' own."""

import itertools

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
    assert loss_gain(pd.DataFrame(rows), "ours", "target", 10).mean == pytest.approx(1 - (1 / 3) ** 0.5)
    assert loss_gain_table(pd.DataFrame(rows))[2:] == ["| ours | target | 42 % |", "| ours | source | 42 % |"]


def test_a_mean_that_rounds_to_nothing_has_no_sign():
    assert Estimate(-0.001, 0.02, 3).percent == "0 ± 2 %" and Estimate(-0.02, 0.01, 3).percent == "-2 ± 1 %"


def test_a_narrow_interval_is_not_rounded_to_none():
    assert Estimate(0.163, 0.004, 5).percent == "16.3 ± 0.4 %" and Estimate(0.163, 0.006, 5).percent == "16 ± 1 %"
    assert Estimate(0.163, 0.0004, 5).percent == "16.30 ± 0.04 %"


def test_copies_are_counted_at_the_end():
    rows = table().assign(copied=lambda rows: 0.1 * (rows.step == 200) * (rows.method == "plain") + 0.5 * (rows.step == 100))
    assert copied_table(rows)[2:] == ["| plain | 10.0% | 10.0% |", "| ours | 0.0% | 0.0% |"]


def test_the_mean_of_gains_is_not_the_gain_of_means():
    """A second task with scores a hundred times as large and no gain."""
    first, second = table(), table().assign(task="other", method=lambda rows: rows.method, fid=1000)
    (row,) = mean_gain_table(pd.concat([first, second]), "1", 100)[2:]
    _, _, of_gains, of_means, _ = (cell.strip() for cell in row.split("|"))
    assert of_gains.startswith("19 ±")  # (0.5 + 0) / 2 and (0.25 + 0) / 2
    assert of_means.startswith("0.49 ±")  # 5 of 1010 and 5 of 1020


def test_a_task_that_a_method_lacks_is_left_out_of_its_means():
    only_plain = table().assign(task="other")[lambda rows: rows.method == "plain"]
    assert mean_gain_table(pd.concat([table(), only_plain]), "1", 100) == mean_gain_table(table(), "1", 100)


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
    of = dict(list(table.groupby("task")))
    copied = table[(table.step == 1600) & (table.guidance == "1.5")].pivot_table(index="task", columns="method", values="copied")
    for task in of:
        mine, handed_back = losses[losses.task == task], replacement[replacement.task == task]
        for data, step in itertools.product(("target", "source"), (400, 800, 1600)):
            gain = loss_gain(mine, "Diff-Tuning", data, step)
            assert gain.mean - gain.half_width > 0
        assert copied.loc[task, "Diff-Tuning"] < 0.75 * copied.loc[task, "plain"] and not copied.loc[task, ours[1]] > 0.02
        back = gain_at_the_data_end(handed_back, "plain")
        assert back.mean - back.half_width > 0
        by_source = handed_back[(handed_back.method == "plain") & (handed_back.by == "source")].groupby("fraction").fid.mean()
        assert by_source[0.12] < by_source[0] and by_source[0.8] > 5 * by_source[0]
    marks = list(itertools.product(of, ours, ("1", "1.5"), (400, 800, 1600)))
    gain = {(task, method, guidance, step): paired_gain(of[task], method, guidance, step) for task, method, guidance, step in marks}
    unguided = {method: [gain["footwear", method, "1", step] for step in (400, 800, 1600)] for method in ours}
    first, second = ("{}, {} and {}".format(*(found.percent for found in unguided[method])) for method in ours)
    quoted = f"footwear gains {first} after 400, 800 and 1,600 steps with the published code's weight (0.1), and {second} with the paper's formula"
    assert quoted in " ".join(readme.split())
    assert all(found.mean - found.half_width > 0 for found in [*unguided[ours[0]][:2], *unguided[ours[1]]])
    assert all("undecided" in verdict(gain["footwear", ours[0], "1.5", step]) for step in (400, 800))
    assert (
        all("worse" in verdict(gain["footwear", method, "1.5", 1600]) for method in ours) and 0.15 < copied.loc["footwear", "plain"] < 0.25
    )
    own_best = {task: {verdict(gain_at_own_best(rows, method)).split(":")[0] for method in ours} for task, rows in of.items()}
    assert own_best == {"footwear": {"worse than plain"}, "digits": {"undecided"}}
    guided = of["footwear"][lambda rows: rows.method == "plain"].pivot_table(index="step", columns="guidance", values="fid")
    assert (guided["domain 1.5"] > 0.99 * guided["1.5"]).all()
    assert floor("footwear", 50) < of["footwear"].fid.min()
    assert gain["digits", ours[0], "1.5", 400].mean < 0.02 and "by less than 20%" in verdict(gain["digits", ours[0], "1.5", 1600])
    beyond = forgetting.beyond_source(read_table("zero_shot"))
    assert [forgetting.trend(rows, "t", "beyond").verdict for _, rows in beyond.groupby("set")] == ["rises"] * 8
    ratios = losses[(losses.data == "source") & (losses.step == 1600)].assign(ratio=lambda rows: rows.after / rows.before)
    assert [forgetting.trend(rows, "tenth", "ratio").verdict for _, rows in ratios[ratios.method == "plain"].groupby("task")] == [
        "falls"
    ] * 2


def test_what_the_readme_says_of_all_training_pictures():
    of = dict(list(read_table("all_pictures").groupby("task")))
    readme = " ".join((data_folder().parent / "README.md").read_text(encoding="utf-8").split())
    marks = (400, 800, 1600, 3200)
    gain = {
        (task, guidance): [paired_gain(of[task], "Diff-Tuning", guidance, step) for step in marks]
        for task in of
        for guidance in ("1", "1.5")
    }
    unguided = gain["footwear", "1"]
    assert (
        "Diff-Tuning gains {}, {}, {} and {} after 400, 800, 1,600 and 3,200 steps".format(*(found.percent for found in unguided)) in readme
    )
    assert all(found.mean - found.half_width > 0 for found in unguided[1:]) and unguided[-1].mean - unguided[-1].half_width > AIM
    plain = of["footwear"][lambda rows: (rows.method == "plain") & (rows.guidance == "1")].groupby("step").fid.mean()
    assert plain.is_monotonic_increasing and f"({plain[400]:.1f} after 400 steps, {plain[3200]:.1f} after 3,200)" in readme
    guided = gain["footwear", "1.5"]
    assert f"At guidance 1.5 it begins behind ({guided[0].percent}) and ends undecided ({guided[-1].percent})" in readme
    assert "worse" in verdict(guided[0]) and "undecided" in verdict(guided[-1])
    last = [gain["digits", guidance][-1] for guidance in ("1", "1.5")]
    assert "*Digits* show no gain ({} unguided, {} at guidance 1.5)".format(*(found.percent for found in last)) in readme
    assert all("undecided" in verdict(found) for found in last) and floor("digits", "all") < of["digits"].fid.min()
    own_best = {task: verdict(gain_at_own_best(rows, "Diff-Tuning")).split(":")[0] for task, rows in of.items()}
    assert own_best == {"footwear": "worse than plain", "digits": "undecided"}
    assert of["footwear"].seed.nunique() == 5 and of["digits"].seed.nunique() == 3
    assert of["footwear"][of["footwear"].guidance != "domain 1.5"].copied.max() < 0.01


def test_what_the_results_readme_says_of_the_size_of_the_target_set():
    table = read_table("sizes")[lambda rows: rows.task == "footwear"]
    fid = table.set_index(["training_pictures", "guidance", "method", "step"]).fid.sort_index()
    assert all(1.5 < fid[6000, "1.5", method, 1600] / floor("footwear", "all") < 2.1 for method in ("plain", "Diff-Tuning"))


def floor(task: str, training_pictures: int | str) -> float:
    """What the training pictures themselves score."""
    floors = read_table("floors")
    found = floors[(floors.task == task) & (floors.training_pictures.astype(str) == str(training_pictures))]
    return found[found.pictures == "training pictures"].fid.item()
