"""A cell is scored at each mark, and goes on at the last one."""

from __future__ import annotations

import dataclasses

import pytest

from difftuning.studies.cell import is_done
from difftuning.studies.grid import grid, run_study
from difftuning.studies.tables import write_rows
from tests.studies.helpers import STEPS, read


@pytest.mark.slow  # trains and scores with the shipped model
def test_losses_are_kept_for_each_tenth_on_target_and_source(finished):
    _, folder, _ = finished
    rows = read(folder / "table_losses.csv")
    assert len(rows) == 2 * len(STEPS) * 2 * 10
    before = {(row["method"], row["data"], row["tenth"]): row["before"] for row in rows}
    for (method, data, tenth), value in before.items():
        assert value == before["plain", data, tenth], method


@pytest.mark.slow
def test_replacement_is_measured_after_the_last_step_and_begins_with_the_tuned_model_alone(finished):
    _, folder, table = finished
    rows = read(folder / "table_replacement.csv")
    found = [(row["by"], row["step"], float(row["fraction"]), row["switch_at"]) for row in rows]
    source = [("source", "2", 0.0, "0"), ("source", "2", 0.2, "200"), ("source", "2", 0.6, "600")]
    assert found == 2 * [*source, ("own null label", "2", 0.2, "200")]
    scores = {row["method"]: row["fid"] for row in read(table) if row["step"] == "2" and row["guidance"] == "1.5"}
    for row in rows[::4]:
        assert float(row["fid"]) == pytest.approx(float(scores[row["method"]]), rel=1e-5)


@pytest.mark.slow
def test_an_interrupted_cell_goes_on_at_its_last_mark_to_the_same_rows(finished, tmp_path):
    cells, folder, table = finished
    part = [dataclasses.replace(cell, steps=cell.steps[:1]) for cell in cells]
    run_study(part, folder=tmp_path / "cells", results=tmp_path / "table.csv")
    run_study(cells, folder=tmp_path / "cells", results=tmp_path / "table.csv")
    assert read(tmp_path / "table.csv") == read(table)
    assert read(tmp_path / "table_losses.csv") == read(folder / "table_losses.csv")


@pytest.mark.parametrize(
    ("changed", "done"),
    [({}, True), ({"world": "another"}, False), ({"samples": 7}, False), ({"guidance": "1.5"}, False), ({"step": 3}, False)],
)
def test_rows_of_another_world_or_other_settings_do_not_count_as_done(tmp_path, changed, done):
    (cell,) = grid(["digits"], ["plain"], [0], [3e-4], steps=(1, 2), guidances=("1",))
    rows = [cell.identity | {"step": 1, "guidance": "1"}, cell.identity | {"step": 2, "guidance": "1"} | changed]
    write_rows(tmp_path / "table.csv", rows)
    assert is_done(cell, tmp_path / "table.csv") == done


@pytest.mark.slow
def test_a_run_that_diverges_is_a_row_and_ends_nothing(tmp_path):
    """A million times the usual rate: step 1 is finite, the second mark is never reached."""
    (cell,) = grid(["digits"], ["plain"], [0], [1e9], steps=(30, 31), samples=4, sampling_steps=2, loss_pictures=4, guidances=("1",))
    table = run_study([cell], folder=tmp_path / "cells", results=tmp_path / "table.csv")
    assert [(row["step"], row["fid"]) for row in read(table)] == [("30", "inf"), ("31", "inf")]
    assert is_done(cell, tmp_path / "cells" / f"{cell.file_name}.csv")
