import csv
import dataclasses

import pytest

from difftuning.study import GUIDANCES, METHODS, _is_done, grid, run_study, studies, world_version

STEPS = (1, 2)
slow = pytest.mark.slow  # they train and score with the shipped model


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    cells = grid(["digits"], ["plain", "Diff-Tuning"], [0], [3e-4], steps=STEPS, samples=12, sampling_steps=2, loss_pictures=6)
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


@pytest.mark.parametrize(("world", "done"), [(world_version(), True), ("another", False)])
def test_rows_of_another_world_do_not_count_as_done(tmp_path, world, done):
    (cell,) = grid(["digits"], ["plain"], [0], [3e-4], steps=(1, 2))
    (tmp_path / f"{cell.file_name}.csv").write_text(f"step,world\n1,{world}\n2,{world}\n")
    assert _is_done(cell, tmp_path) == done


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        grid(["digits"], ["magic"], [0], [1e-4], steps=(1,))


def test_studies_touch_the_development_tasks_and_their_validation_splits_alone():
    for cells in studies().values():
        assert {cell.task for cell in cells} <= {"footwear", "digits"}
        assert {cell.split for cell in cells} == {"validation"}
