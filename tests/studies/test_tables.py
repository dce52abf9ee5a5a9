"""Result tables are joined and taken apart again, and say which code and world made a row."""

from __future__ import annotations

import re

import difftuning
from difftuning.studies.cell import HELD_OUT, SPLITS
from difftuning.studies.grid import grid, run_study
from difftuning.studies.tables import best_rates, code_version, write_rows
from difftuning.support.world import world_version
from tests.studies.helpers import read


def test_a_table_keeps_the_rows_of_runs_that_the_study_no_longer_has(tmp_path):
    old, new = grid([("digits", 200)], ["plain"], [0, 1], [3e-4], steps=(1,), guidances=("1",))
    scored = {"step": 1, "guidance": "1", "split": "test", "fid": 2.5}
    losses = [{"step": 1, "data": data, "tenth": tenth, "after": 1.0} for data in HELD_OUT for tenth in range(1, 11)]
    write_rows(tmp_path / "table.csv", [old.identity | scored, old.identity | scored | {"world": "another"}])
    write_rows(tmp_path / f"{new.file_name}.csv", [new.identity | scored | {"split": split} for split in SPLITS])
    write_rows(tmp_path / f"{new.file_name}_losses.csv", [new.identity | row for row in losses])
    for _ in range(2):  # and does not double them
        run_study([new], folder=tmp_path, results=tmp_path / "table.csv")
        assert [(row["seed"], row["world"]) for row in read(tmp_path / "table.csv")] == [
            ("0", world_version()), ("0", "another"), *2 * [("1", world_version())]
        ]  # fmt: skip


def test_a_row_says_which_code_made_it_and_another_code_still_knows_it():
    """The version and a digest of the sources; rows of older code are not made again."""
    (cell,) = grid([("digits", 200)], ["plain"], [0], [3e-4], steps=(1,))
    assert re.fullmatch(rf"{re.escape(difftuning.__version__)}\+[0-9a-f]{{8}}", code_version()) and "code" not in cell.identity


def test_a_methods_best_rate_has_the_lowest_mean_over_tasks_of_its_best_score():
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
