"""The reports' tables by hand; the committed report is the tables' own."""

from __future__ import annotations

import pandas as pd
import pytest

from difftuning.studies.gains import gain_at_own_best, loss_gain, paired_gain, read_table
from difftuning.studies.report import (
    REPORTS,
    copied_table,
    gain_table,
    markdown,
    mean_gain_table,
    readme_table,
    renew_table,
    score_table,
    study_report,
)
from difftuning.support.world import data_folder
from tests.studies.helpers import table


def test_copies_are_counted_at_the_end():
    rows = table().assign(copied=lambda rows: 0.1 * (rows.step == 200) * (rows.method == "plain") + 0.5 * (rows.step == 100))
    assert copied_table(rows)[2:] == ["| plain | 10.0% | 10.0% |", "| ours | 0.0% | 0.0% |"]


def test_the_mean_of_gains_is_not_the_gain_of_means():
    """A second task with scores a hundred times as large and no gain."""
    first, second = table(), table().assign(set="other", method=lambda rows: rows.method, fid=1000)
    (row,) = mean_gain_table(pd.concat([first, second]), "1", 100)[2:]
    _, _, of_gains, of_means, _ = (cell.strip() for cell in row.split("|"))
    assert of_gains == "22 %"  # 1/2, 3/4, 1 and 1 of plain's: the geometric mean is 0.78
    assert of_means == "0 %"  # 5 of 1010 and 5 of 1020


def test_a_task_that_a_method_lacks_is_left_out_of_its_means():
    only_plain = table().assign(set="other")[lambda rows: rows.method == "plain"]
    assert mean_gain_table(pd.concat([table(), only_plain]), "1", 100) == mean_gain_table(table(), "1", 100)


def test_a_method_that_has_not_come_as_far_leaves_its_cells_empty():
    rows = table()
    rows = rows[~((rows.method == "ours") & (rows.step == 200))]
    assert score_table(rows, "1")[3].endswith("| – |") and gain_table(rows)[2].endswith("| – |")


def test_a_seed_that_only_one_method_has_does_not_count():
    rows = table()
    gain = paired_gain(rows[~((rows.method == "ours") & (rows.seed == 1))], "ours", "1", 100)
    assert gain.lower == pytest.approx(0.5) and gain.seeds == 1 and gain.percent == "50 %"


def test_tables_hold_every_method_step_and_guidance():
    scores, gains = score_table(table(), "1.5"), gain_table(table())
    assert scores[2].startswith("| plain | 16.00 | ") and scores[3].startswith("| ours | 11.00 | ")
    assert len(gains) == 2 + 3 and "| 39 % |" in gains[2] and gains[4].startswith("| ours | each at its own best | -8 % | ")


@pytest.mark.parametrize("name", REPORTS)
def test_the_committed_reports_say_what_the_committed_tables_say(name):
    results = data_folder() / "results"
    assert (results / f"{name}.md").read_text(encoding="utf-8") == study_report(name, results)


def test_a_table_takes_the_place_of_the_one_with_its_head(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n| c |\n|---|\n| 5 |\n")
    renew_table(page, markdown(["a", "b"], [["6", "7"]]))
    assert page.read_text() == "before\n\n| a | b |\n|---|---|\n| 6 | 7 |\n\n| c |\n|---|\n| 5 |\n"
    renew_table(page, markdown(["c"], [["8"], ["9"]]))
    assert page.read_text().endswith("\n\n| c |\n|---|\n| 8 |\n| 9 |\n")
    with pytest.raises(ValueError, match=r"has no table that begins with \| d \|"):
        renew_table(page, markdown(["d"], []))


def test_the_readme_shows_the_pilots_last_step_and_what_it_says_of_losses_is_so():
    table, losses = read_table("pilot"), read_table("pilot_losses")
    page = (data_folder().parent / "README.md").read_text(encoding="utf-8")
    assert "\n".join(readme_table(table, losses)) in page
    readme = " ".join(page.split())
    assert "More of the old is kept, on all five sets" in readme and "With 2,000 or more there is no such harm" in readme
    assert "With 200 pictures it also protects the new" in readme and table.set.nunique() == 5
    for name, mine in losses.groupby("set"):
        assert loss_gain(mine, "Diff-Tuning", "source", 1600).mean > 0.05, name
        new = loss_gain(mine, "Diff-Tuning", "target", 1600).mean
        assert new > 0.05 if name.endswith(" 200 pictures") else abs(new) < 0.01, name
    best = {name: gain_at_own_best(rows, "Diff-Tuning") for name, rows in table.groupby("set")}
    assert "ahead on all five in the mean of three runs, but beyond chance on 200 shoes alone" in readme and all(
        gain.mean > 0 and gain.seeds == 3 for gain in best.values()
    )
    assert [name for name, gain in best.items() if gain.mean > gain.half_width] == ["footwear, 200 pictures"]
    clear = {
        step: sum(
            gain.mean > gain.half_width for gain in (paired_gain(rows, "Diff-Tuning", "1.5", step) for _, rows in table.groupby("set"))
        )
        for step in (400, 1600)
    }
    assert "clearly better after 400 steps on four of the five sets, after 1,600 on none" in readme and clear == {400: 4, 1600: 0}


def test_the_readmes_table_holds_both_ways_of_guidance_and_both_losses():
    scores = table()
    losses = pd.DataFrame(
        [
            {
                "set": "digits, 200 pictures",
                "method": method,
                "seed": seed,
                "step": 200,
                "data": data,
                "tenth": tenth,
                "before": 1,
                "after": after,
            }
            for method, of_data in {"plain": {"target": 2.0, "source": 4.0}, "Diff-Tuning": {"target": 1.0, "source": 1.0}}.items()
            for data, after in of_data.items()
            for seed in (0, 1)
            for tenth in range(1, 11)
        ]
    )
    (row,) = readme_table(scores.replace({"method": {"ours": "Diff-Tuning"}}), losses)[2:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["digits, 200 pictures", "2"]
    assert cells[2:4] == [paired_gain(table(), "ours", "1.5", 200).percent, gain_at_own_best(table(), "ours").percent]
    assert [float(cell.partition(" ")[0]) for cell in cells[4:]] == [50, 75]


def test_what_the_readme_says_of_the_chain_is_what_the_table_says():
    """200 digits, 1,600 steps: the highest ratio of the first three tenths."""
    losses = read_table("pilot_losses").query("set == 'digits, 200 pictures' and data == 'target' and step == 1600")
    ratio = losses.assign(ratio=losses.after / losses.before).pivot_table(index="tenth", columns="method", values="ratio")
    peak = ratio.loc[:3].max()
    readme = " ".join((data_folder().parent / "README.md").read_text(encoding="utf-8").split())
    assert (
        f"raises the held-out loss near the data to {peak['plain']:.1f} times the untouched model's, Diff-Tuning to {peak['Diff-Tuning']:.1f} times"
        in readme
    )


def test_own_labels_keep_more_of_the_old_as_the_readme_says():
    losses, own = read_table("pilot_losses"), "Diff-Tuning, own labels"
    tried = losses[losses.set.isin(losses[losses.method == own].set)]
    kept = {name: [loss_gain(rows, method, "source", 1600).mean for method in (own, "Diff-Tuning")] for name, rows in tried.groupby("set")}
    readme = " ".join((data_folder().parent / "README.md").read_text(encoding="utf-8").split())
    assert len(kept) == 5 and "shown with their own labels they protect even more" in readme
    assert all(more > null + 0.1 for more, null in kept.values())


def test_random_numbers_protect_much_less_than_the_bank_as_the_readme_says():
    losses = read_table("parts_losses")
    for name, rows in losses.groupby("set"):
        noise, bank = (loss_gain(rows, method, "source", 800).mean for method in ("bank of noise", "Diff-Tuning"))
        assert noise < bank / 2, name
    assert "random numbers in their place protect much less" in (data_folder().parent / "README.md").read_text(encoding="utf-8")
