import csv
import dataclasses
import re

import pytest

import difftuning
from difftuning.files import data_folder
from difftuning.result_tables import best_rates, code_version, kept_rows, world_version, write_rows
from difftuning.study import LEARNING_RATES, PILOT_PICTURES, grid, run_study, studies
from difftuning.study_cell import GUIDANCES, METHODS, is_done

STEPS = (1, 2)
slow = pytest.mark.slow  # they train and score with the shipped model


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    cells = grid(
        ["digits"],
        ["plain", "Diff-Tuning"],
        [0],
        [3e-4],
        steps=STEPS,
        samples=12,
        sampling_steps=5,
        loss_pictures=6,
        replaced=(0, 0.2, 0.6),
    )
    return cells, folder, run_study(cells, folder=folder / "cells", results=folder / "table.csv")


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@slow
def test_a_table_has_a_row_for_every_run_step_and_guidance(finished):
    _, _, table = finished
    rows = read(table)
    found = {(row["method"], int(row["step"]), row["guidance"]) for row in rows}
    assert found == {(method, step, name) for method in ("plain", "Diff-Tuning") for step in STEPS for name in GUIDANCES}
    assert len(rows) == len(found)
    assert {row["world"] for row in rows} == {world_version()}


@slow
def test_losses_are_kept_for_each_tenth_on_target_and_source(finished):
    _, folder, _ = finished
    rows = read(folder / "table_losses.csv")
    assert len(rows) == 2 * len(STEPS) * 2 * 10
    before = {(row["method"], row["data"], row["tenth"]): row["before"] for row in rows}
    for (method, data, tenth), value in before.items():
        assert value == before["plain", data, tenth], method


@slow
def test_replacement_is_measured_after_the_last_step_and_begins_with_the_tuned_model_alone(finished):
    _, folder, table = finished
    rows = read(folder / "table_replacement.csv")
    found = [(row["by"], row["step"], float(row["fraction"]), row["switch_at"]) for row in rows]
    source = [("source", "2", 0.0, "0"), ("source", "2", 0.2, "200"), ("source", "2", 0.6, "600")]
    assert found == 2 * [*source, ("own null label", "2", 0.2, "200")]
    scores = {row["method"]: row["fid"] for row in read(table) if row["step"] == "2" and row["guidance"] == "1.5"}
    for row in rows[::4]:
        assert float(row["fid"]) == pytest.approx(float(scores[row["method"]]), rel=1e-5)


@slow
def test_a_study_takes_up_the_runs_that_its_table_holds_already(finished, tmp_path):
    """As on another machine: the committed table is there, the folder of the runs is not."""
    cells, folder, _ = finished
    kinds = ["table.csv", "table_losses.csv", "table_replacement.csv", "table_samples.npz"]
    for kind in kinds:
        (tmp_path / kind).write_bytes((folder / kind).read_bytes())
    run_study(cells, folder=tmp_path / "cells", results=tmp_path / "table.csv")
    assert not list((tmp_path / "cells").glob("*.run"))
    for kind in kinds[:3]:
        assert read(tmp_path / kind) == read(folder / kind)
    assert all(is_done(cell, tmp_path / "cells" / f"{cell.file_name}.csv") for cell in cells)
    other_seed = dataclasses.replace(cells[0], seed=7)
    assert not is_done(other_seed, tmp_path / "cells" / f"{other_seed.file_name}.csv")


@slow
def test_a_finished_study_runs_nothing_again(finished):
    cells, folder, table = finished
    times = {path: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    old = table.read_text()
    run_study(cells, folder=folder / "cells", results=table)
    assert {path: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()} == times
    assert table.read_text() == old


@slow
def test_an_interrupted_cell_goes_on_at_its_last_mark_to_the_same_rows(finished, tmp_path):
    cells, folder, table = finished
    part = [dataclasses.replace(cell, steps=cell.steps[:1]) for cell in cells]
    run_study(part, folder=tmp_path / "cells", results=tmp_path / "table.csv")
    run_study(cells, folder=tmp_path / "cells", results=tmp_path / "table.csv")
    assert read(tmp_path / "table.csv") == read(table)
    assert read(tmp_path / "table_losses.csv") == read(folder / "table_losses.csv")


def test_a_grid_goes_seed_by_seed_so_that_an_unfinished_one_is_balanced():
    cells = grid(["a", "b"], list(METHODS), [0, 1], [1e-4], steps=(1,))
    assert [cell.seed for cell in cells] == [0] * 2 * len(METHODS) + [1] * 2 * len(METHODS)
    assert len({cell.file_name for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("changed", "done"),
    [({}, True), ({"world": "another"}, False), ({"samples": 7}, False), ({"guidance": "1.5"}, False), ({"step": 3}, False)],
)
def test_rows_of_another_world_or_other_settings_do_not_count_as_done(tmp_path, changed, done):
    (cell,) = grid(["digits"], ["plain"], [0], [3e-4], steps=(1, 2), guidances=("1",))
    rows = [cell.identity | {"step": 1, "guidance": "1"}, cell.identity | {"step": 2, "guidance": "1"} | changed]
    write_rows(tmp_path / "table.csv", rows)
    assert is_done(cell, tmp_path / "table.csv") == done


@slow
def test_a_run_that_diverges_is_a_row_and_ends_nothing(tmp_path):
    """A million times the usual rate: step 1 is finite, the second mark is never reached."""
    (cell,) = grid(["digits"], ["plain"], [0], [1e9], steps=(30, 31), samples=4, sampling_steps=2, loss_pictures=4, guidances=("1",))
    table = run_study([cell], folder=tmp_path / "cells", results=tmp_path / "table.csv")
    assert [(row["step"], row["fid"]) for row in read(table)] == [("30", "inf"), ("31", "inf")]
    assert is_done(cell, tmp_path / "cells" / f"{cell.file_name}.csv")


def test_a_table_keeps_the_rows_of_runs_that_the_study_no_longer_has(tmp_path):
    old, new = grid(["digits"], ["plain"], [0, 1], [3e-4], steps=(1,), guidances=("1",))
    scored = {"step": 1, "guidance": "1", "fid": 2.5}
    write_rows(tmp_path / "table.csv", [old.identity | scored, old.identity | scored | {"world": "another"}])
    write_rows(tmp_path / f"{new.file_name}.csv", [new.identity | scored])
    for _ in range(2):  # and does not double them
        run_study([new], folder=tmp_path, results=tmp_path / "table.csv")
        assert [(row["seed"], row["world"]) for row in read(tmp_path / "table.csv")] == [
            ("0", world_version()), ("0", "another"), ("1", world_version())
        ]  # fmt: skip


def test_a_row_says_which_code_made_it_and_another_code_still_knows_it():
    """The version and a digest of the sources; rows of older code are not made again."""
    (cell,) = grid(["digits"], ["plain"], [0], [3e-4], steps=(1,))
    assert re.fullmatch(rf"{re.escape(difftuning.__version__)}\+[0-9a-f]{{8}}", code_version()) and "code" not in cell.identity


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        grid(["digits"], ["magic"], [0], [1e-4], steps=(1,))


def test_studies_touch_the_development_tasks_and_their_validation_splits_alone():
    for cells in studies().values():
        assert {cell.task for cell in cells} <= {"footwear", "digits"}
        assert {cell.split for cell in cells} == {"validation"}


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


def test_the_learning_rates_in_use_are_those_that_the_study_chose():
    """On the pilot's number of training pictures; with all of them some other rates were tried as well."""
    rows = kept_rows(data_folder() / "results" / "learning_rates.csv")
    rows = [row for row in rows if row["training_pictures"] == str(PILOT_PICTURES)]
    assert best_rates(rows).items() <= LEARNING_RATES.items()
    assert {"plain", "Diff-Tuning"} <= set(best_rates(rows))


def test_a_study_without_processes_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        run_study([], folder=tmp_path / "st", results=tmp_path / "st" / "x.csv", processes=0)
    assert not (tmp_path / "st").exists()
