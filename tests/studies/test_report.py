"""The reports' tables by hand; the committed report is the tables' own."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from difftuning.lessons.chain import forgetting
from difftuning.studies.gains import (
    AIM,
    gain_at_own_best,
    gain_at_the_data_end,
    loss_gain,
    paired_gain,
    read_table,
    trend,
    verdict,
)
from difftuning.studies.report import (
    REPORTS,
    copied_table,
    gain_table,
    mean_gain_table,
    score_table,
    study_report,
    summary_table,
)
from difftuning.support.world import data_folder
from tests.studies.helpers import table


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


def test_a_method_that_has_not_come_as_far_leaves_its_cells_empty():
    rows = table()
    rows = rows[~((rows.method == "ours") & (rows.step == 200))]
    assert score_table(rows, "1")[3].endswith("| – |") and gain_table(rows)[2].endswith("| – |")


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
    assert [trend(rows, "t", "beyond").verdict for _, rows in beyond.groupby("set")] == ["rises"] * 8
    ratios = losses[(losses.data == "source") & (losses.step == 1600)].assign(ratio=lambda rows: rows.after / rows.before)
    assert [trend(rows, "tenth", "ratio").verdict for _, rows in ratios[ratios.method == "plain"].groupby("task")] == ["falls"] * 2


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
