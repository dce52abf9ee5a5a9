"""A cell is scored at each mark, and goes on at the last one."""

from __future__ import annotations

import dataclasses

import pytest

from difftuning.studies.cell import HELD_OUT, SPLITS, missing
from difftuning.studies.grid import grid
from difftuning.studies.runner import run_study
from difftuning.studies.tables import write_rows
from tests.studies.helpers import KINDS, STEPS, read


def done(cell, table):
    return not missing([cell], table)


def in_any_order(path):
    return sorted(read(path), key=lambda row: list(row.values()))


@pytest.mark.slow  # trains and scores with the shipped model
def test_losses_are_kept_for_each_tenth_on_target_and_source(finished):
    _, folder, _ = finished
    rows = read(folder / "table_losses.csv")
    assert len(rows) == 2 * len(STEPS) * 3 * 10
    before = {(row["method"], row["data"], row["tenth"]): row["before"] for row in rows}
    for (method, data, tenth), value in before.items():
        assert value == before["plain", data, tenth], method


@pytest.mark.slow
def test_replacement_is_measured_at_each_mark_and_begins_with_the_tuned_model_alone(finished):
    _, folder, table = finished
    rows = read(folder / "table_replacement.csv")
    found = [(row["by"], row["step"], float(row["fraction"]), row["switch_at"]) for row in rows]
    source = [("source", 0.0, "0"), ("source", 0.2, "200"), ("source", 0.6, "600"), ("own null label", 0.2, "200")]
    assert found == 2 * [(by, str(step), fraction, switch_at) for step in STEPS for by, fraction, switch_at in source]
    assert {row["method"] for row in rows} == {row["method"] for row in read(table)}


@pytest.mark.slow
def test_an_interrupted_cell_goes_on_at_its_last_mark_to_the_same_rows(finished, tmp_path):
    cells, folder, _ = finished
    part = [dataclasses.replace(cell, steps=cell.steps[:1], replaced=()) for cell in cells]
    run_study(part, folder=tmp_path / "cells", results=tmp_path / "table.csv")
    run_study(cells, folder=tmp_path / "cells", results=tmp_path / "table.csv")
    for kind in KINDS:
        assert in_any_order(tmp_path / kind) == in_any_order(folder / kind)


@pytest.mark.slow
def test_a_mark_whose_rows_a_kill_has_left_in_part_is_measured_again_and_the_rest_is_added(finished, tmp_path):
    """As if killed while the last rows were written: scores are there up to half a line, of the losses all but ten, the rest not."""
    cells, folder, _ = finished
    scores, losses = ((folder / kind).read_bytes() for kind in KINDS[:2])
    (tmp_path / KINDS[0]).write_bytes(scores[:-40])
    (tmp_path / KINDS[1]).write_bytes(b"".join(losses.splitlines(keepends=True)[:-10]))
    run_study(cells[1:], folder=tmp_path / "cells", results=tmp_path / "table.csv")
    assert (tmp_path / KINDS[0]).read_bytes() == scores and (tmp_path / KINDS[1]).read_bytes() == losses
    assert read(tmp_path / KINDS[2]) == [row for row in read(folder / KINDS[2]) if row["method"] == cells[1].method]


@pytest.mark.slow
def test_a_mark_before_those_that_a_run_has_passed_begins_it_anew(finished, tmp_path):
    """A run was killed after its second mark, and the rows of the first are lost: the checkpoint is too far."""
    cells, folder, _ = finished
    run = tmp_path / "cells" / f"{cells[0].file_name}.run"
    (run / "checkpoints" / "step-00000002").mkdir(parents=True)
    first = dataclasses.replace(cells[0], steps=cells[0].steps[:1], scored=(), replaced=())
    run_study([first], folder=tmp_path / "cells", results=tmp_path / "table.csv")
    assert read(tmp_path / KINDS[1]) == read(folder / KINDS[1])[:30] and not run.exists()


@pytest.mark.parametrize(
    ("changed", "is_known"),
    [
        ({}, True),
        *(
            ({key: other}, False)
            for key, other in {"world": "another", "samples": 7, "guidance": "1.5", "split": "train", "step": 3}.items()
        ),
    ],
)
def test_rows_of_another_world_or_other_settings_do_not_count_as_done(tmp_path, changed, is_known):
    (cell,) = grid([("digits", 200)], ["plain"], [0], [3e-4], steps=(1, 2), guidances=("1",))
    losses = [{"step": step, "data": data, "tenth": tenth} for step in (1, 2) for data in HELD_OUT for tenth in range(1, 11)]
    scores = [{"step": step, "guidance": "1", "split": split} for step in (1, 2) for split in SPLITS]
    write_rows(tmp_path / "table_losses.csv", [cell.identity | row | {"after": 1.0} for row in losses])
    write_rows(tmp_path / "table.csv", [cell.identity | row for row in scores[:-1]] + [cell.identity | scores[-1] | changed])
    assert done(cell, tmp_path / "table.csv") == is_known
    assert done(dataclasses.replace(cell, scored=(1,)), tmp_path / "table.csv")
    assert not done(dataclasses.replace(cell, scored=(1,), replaced=(0.1,)), tmp_path / "table.csv")
    write_rows(tmp_path / "table_losses.csv", [cell.identity | row | {"after": 1.0} for row in losses[:-1]])
    assert not done(dataclasses.replace(cell, scored=(1,)), tmp_path / "table.csv")


@pytest.mark.slow
def test_a_run_that_diverges_is_a_row_and_ends_nothing(tmp_path):
    """A million times the usual rate: step 1 is finite, the second mark is never reached."""
    options = {"samples": 4, "sampling_steps": 2, "loss_pictures": 4, "guidances": ("1",), "replaced": (0.1,)}
    (cell,) = grid([("digits", 60)], ["plain"], [0], [1e9], steps=(30, 31), **options)
    table = run_study([cell], folder=tmp_path / "cells", results=tmp_path / "table.csv")
    assert [(row["step"], row["split"], row["fid"]) for row in read(table)] == [
        (step, split, "inf") for step in ("30", "31") for split in SPLITS
    ]
    assert {row["after"] for row in read(tmp_path / "table_losses.csv")} == {"inf"}
    assert [(row["by"], row["fid"]) for row in read(tmp_path / "table_replacement.csv")] == 2 * [
        ("source", "inf"),
        ("own null label", "inf"),
    ]
    assert done(cell, table)
