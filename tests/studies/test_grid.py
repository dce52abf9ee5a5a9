"""A study does what is missing, and leaves a table."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from difftuning.config import GUIDANCES
from difftuning.data.tasks import list_tasks, load_task
from difftuning.studies.cell import SPLITS, missing
from difftuning.studies.gains import STUDIES
from difftuning.studies.grid import FEW, SOME, grid, select_cells, studies
from difftuning.studies.methods import ADAPTED, BASELINES, METHODS, PILOT
from difftuning.studies.premise import DEVELOPMENT
from difftuning.studies.runner import run_study
from difftuning.studies.tables import read_rows, write_rows
from difftuning.support.world import world_version
from tests.studies.helpers import KINDS, STEPS, read

slow = pytest.mark.slow  # they train and score with the shipped model


@slow
def test_a_table_has_a_row_for_every_run_step_and_guidance(finished):
    _, _, table = finished
    rows = read(table)
    found = {(row["method"], int(row["step"]), row["guidance"], row["split"]) for row in rows}
    assert found == set(itertools.product(("plain", "Diff-Tuning"), STEPS, GUIDANCES, SPLITS))
    assert len(rows) == len(found)
    assert {row["world"] for row in rows} == {world_version()}


@slow
def test_a_finished_study_runs_nothing_again_and_needs_its_tables_alone(finished, tmp_path):
    """As on another machine: the committed tables are there, the folder of the runs is not."""
    cells, folder, _ = finished
    kinds = [*KINDS, "table_samples.npz"]
    for kind in kinds:
        (tmp_path / kind).write_bytes((folder / kind).read_bytes())
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    run_study(cells, folder=tmp_path / "cells", results=tmp_path / "table.csv")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
    another = dataclasses.replace(cells[0], seed=7)
    assert missing([*cells, another], tmp_path / "table.csv") == [another]


@slow
def test_a_finished_study_leaves_nothing_but_its_tables(finished):
    _, folder, _ = finished
    assert {path.name for path in folder.iterdir()} == {*KINDS, "table_samples.npz", "cells"} and not list((folder / "cells").iterdir())


@slow
def test_what_is_left_is_said_in_runs_and_core_hours_and_processes_give_the_same_rows(finished, tmp_path, capsys):
    """Of two runs one is there."""
    cells, folder, _ = finished
    for kind in KINDS:
        write_rows(tmp_path / kind, [row for row in read_rows(folder / kind) if row["method"] == "plain"])
    run_study(cells, folder=tmp_path / "cells", results=tmp_path / "table.csv", processes=2)
    assert "2 of 2 runs, about 0.00 core-hours left" in capsys.readouterr().err
    for kind in KINDS:
        assert (tmp_path / kind).read_bytes() == (folder / kind).read_bytes()


def test_a_grid_goes_seed_by_seed_so_that_an_unfinished_one_is_balanced():
    cells = grid([("a", 1), ("b", 1)], list(METHODS), [0, 1], [1e-4], steps=(1,))
    assert [cell.seed for cell in cells] == [0] * 2 * len(METHODS) + [1] * 2 * len(METHODS)
    assert len({cell.file_name for cell in cells}) == len(cells)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        grid([("digits", 200)], ["magic"], [0], [1e-4], steps=(1,))


def test_all_studies_but_the_main_comparison_touch_the_development_tasks_alone():
    for name, cells in studies().items():
        assert {cell.task for cell in cells} == (set(list_tasks()) if name == "main" else set(DEVELOPMENT) & {cell.task for cell in cells})


def test_the_main_comparison_has_every_task_with_up_to_2000_pictures_that_it_has():
    sets = {(cell.task, cell.training_pictures) for cell in studies()["main"]}
    assert sets == {(task, min(2000, len(load_task(task)))) for task in list_tasks()}
    assert len(studies()["main"]) == 8 * 5 * 5


def test_the_frozen_tasks_are_refused_while_the_premise_does_not_hold(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    monkeypatch.setattr("difftuning.studies.premise.data_folder", lambda: tmp_path)  # no pilot there
    with pytest.raises(ValueError, match="kana.* stay frozen until the pilot meets the criterion in world"):
        run_study(studies()["main"], folder=tmp_path / "runs", results=tmp_path / "main.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_every_study_says_how_its_table_is_built():
    assert list(studies()) == list(STUDIES)


def test_adapters_and_baselines_stand_beside_plain_and_diff_tuning_on_both_sets_with_three_seeds():
    for name, methods in (("adapters", ADAPTED), ("baselines", BASELINES)):
        found = {((cell.task, cell.training_pictures), cell.method, cell.seed) for cell in studies()[name]}
        assert found == set(itertools.product((FEW, SOME), ("plain", "Diff-Tuning", *methods), range(3)))


def test_a_studys_runs_are_named_apart_and_the_pilot_compares_five_methods_on_five_sets():
    for cells in studies().values():
        assert len({cell.file_name for cell in cells}) == len(cells)
        assert len({type(cell) for cell in cells}) == 1
    pilot = studies()["pilot"]
    assert {cell.method for cell in pilot} == set(PILOT) and len({(cell.task, cell.training_pictures) for cell in pilot}) == 5
    assert [cell.method for cell in pilot[:2]] == ["plain", "Diff-Tuning"]


def test_runs_are_picked_by_the_columns_of_their_rows():
    """On the real lists, against a loop; several values of a column are alternatives."""
    for name, wanted in {
        "controlnet": ["method=plain", "seed=0", "kind=edge"],
        "controlnet_rates": ["learning_rate=3e-4", "batch_size=16", "training_pictures=2000"],
        "pilot": ["task=digits", "training_pictures=200", "method=plain", "seed=1", "seed=2"],
        "main": ["training_pictures=2000", "method=Diff-Tuning"],
    }.items():
        pairs = [text.split("=") for text in wanted]
        numbers = {"learning_rate": float, "batch_size": int, "training_pictures": int, "seed": int}
        asked = {column: [numbers.get(column, str)(value) for c, value in pairs if c == column] for column, _ in pairs}
        cells = studies()[name]
        chosen = select_cells(cells, wanted)
        assert chosen == [cell for cell in cells if all(getattr(cell, column) in values for column, values in asked.items())]
        assert 0 < len(chosen) < len(cells)
    assert len(select_cells(studies()["controlnet"], ["method=Diff-Tuning, null prompts", "seed=2"])) == 1
    assert select_cells(studies()["sweeps"], []) == studies()["sweeps"]


@pytest.mark.parametrize(("wanted", "message"), [
    (["sed=0"], "unknown column 'sed': choose one of kind, method, seed, .*; did you mean 'seed'"),
    (["world=3"], "unknown column 'world'"),
    (["kind=canny"], "unknown kind 'canny': choose one of edge, sketch, segmentation, depth, normal"),
    (["seed=9"], "unknown seed '9': choose one of 0, 1, 2, 3, 4"),
    (["plain"], "runs are picked by COLUMN=VALUE, such as seed=0, got 'plain'"),
    (["kind=depth", "method=Diff-Tuning, null prompts"], "no run of the study has all of kind=depth; method=Diff-Tuning, null prompts"),
])  # fmt: skip
def test_runs_that_are_not_there_are_one_clear_line(wanted, message):
    with pytest.raises(ValueError, match=message) as error:
        select_cells(studies()["controlnet"], wanted)
    assert "\n" not in str(error.value)


def test_a_study_without_processes_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        run_study([], folder=tmp_path / "st", results=tmp_path / "st" / "x.csv", processes=0)
    assert not (tmp_path / "st").exists()
