"""A cell is scored at each mark, and goes on at the last one."""

from __future__ import annotations

import dataclasses

import pytest

from difftuning.studies.cell import HELD_OUT, SPLITS, is_done
from difftuning.studies.grid import grid, run_study
from difftuning.studies.tables import write_rows
from tests.studies.helpers import STEPS, read


@pytest.mark.slow  # trains and scores with the shipped model
def test_losses_are_kept_for_each_tenth_on_target_and_source(finished):
    _, folder, _ = finished
    rows = read(folder / "table_losses.csv")
    assert len(rows) == 2 * len(STEPS) * 3 * 10
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
    assert {row["method"] for row in rows} == {row["method"] for row in read(table)}


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
    [
        ({}, True),
        *(
            ({key: other}, False)
            for key, other in {"world": "another", "samples": 7, "guidance": "1.5", "split": "train", "step": 3}.items()
        ),
    ],
)
def test_rows_of_another_world_or_other_settings_do_not_count_as_done(tmp_path, changed, done):
    (cell,) = grid([("digits", 200)], ["plain"], [0], [3e-4], steps=(1, 2), guidances=("1",))
    losses = [{"step": step, "data": data, "tenth": tenth} for step in (1, 2) for data in HELD_OUT for tenth in range(1, 11)]
    scores = [{"step": step, "guidance": "1", "split": split} for step in (1, 2) for split in SPLITS]
    write_rows(tmp_path / "table_losses.csv", [cell.identity | row | {"after": 1.0} for row in losses])
    write_rows(tmp_path / "table.csv", [cell.identity | row for row in scores[:-1]] + [cell.identity | scores[-1] | changed])
    assert is_done(cell, tmp_path / "table.csv") == done
    assert is_done(dataclasses.replace(cell, scored=(1,)), tmp_path / "table.csv")
    write_rows(tmp_path / "table_losses.csv", [cell.identity | row | {"after": 1.0} for row in losses[:-1]])
    assert not is_done(dataclasses.replace(cell, scored=(1,)), tmp_path / "table.csv")


@pytest.mark.slow
def test_a_run_that_diverges_is_a_row_and_ends_nothing(tmp_path):
    """A million times the usual rate: step 1 is finite, the second mark is never reached."""
    (cell,) = grid([("digits", 60)], ["plain"], [0], [1e9], steps=(30, 31), samples=4, sampling_steps=2, loss_pictures=4, guidances=("1",))
    table = run_study([cell], folder=tmp_path / "cells", results=tmp_path / "table.csv")
    assert [(row["step"], row["split"], row["fid"]) for row in read(table)] == [
        (step, split, "inf") for step in ("30", "31") for split in SPLITS
    ]
    assert {row["after"] for row in read(tmp_path / "table_losses.csv")} == {"inf"}
    assert is_done(cell, tmp_path / "cells" / f"{cell.file_name}.csv")
