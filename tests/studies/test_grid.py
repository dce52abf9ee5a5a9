"""A study does what is missing, and leaves a table."""

from __future__ import annotations

import dataclasses

import pytest

from difftuning.config import GUIDANCES
from difftuning.studies.cell import METHODS, is_done
from difftuning.studies.grid import LEARNING_RATES, PILOT_PICTURES, grid, run_study, studies
from difftuning.studies.tables import best_rates, kept_rows
from difftuning.support.world import data_folder, world_version
from tests.studies.helpers import STEPS, read

slow = pytest.mark.slow  # they train and score with the shipped model


@slow
def test_a_table_has_a_row_for_every_run_step_and_guidance(finished):
    _, _, table = finished
    rows = read(table)
    found = {(row["method"], int(row["step"]), row["guidance"]) for row in rows}
    assert found == {(method, step, name) for method in ("plain", "Diff-Tuning") for step in STEPS for name in GUIDANCES}
    assert len(rows) == len(found)
    assert {row["world"] for row in rows} == {world_version()}


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


def test_a_grid_goes_seed_by_seed_so_that_an_unfinished_one_is_balanced():
    cells = grid(["a", "b"], list(METHODS), [0, 1], [1e-4], steps=(1,))
    assert [cell.seed for cell in cells] == [0] * 2 * len(METHODS) + [1] * 2 * len(METHODS)
    assert len({cell.file_name for cell in cells}) == len(cells)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        grid(["digits"], ["magic"], [0], [1e-4], steps=(1,))


def test_studies_touch_the_development_tasks_and_their_validation_splits_alone():
    for cells in studies().values():
        assert {cell.task for cell in cells} <= {"footwear", "digits"}
        assert {cell.split for cell in cells} == {"validation"}


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
