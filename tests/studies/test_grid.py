"""A study does what is missing, and leaves a table."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from difftuning.config import GUIDANCES
from difftuning.data.tasks import load_source
from difftuning.studies.cell import SPLITS, is_done
from difftuning.studies.grid import LEARNING_RATES, grid, run_study, studies
from difftuning.studies.methods import METHODS, PILOT, bank_of_far_classes, bank_of_noise, shipped_bank, small_bank
from difftuning.studies.tables import best_rates, kept_rows
from difftuning.support.world import data_folder, world_version
from tests.studies.helpers import STEPS, read

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
    cells = grid([("a", 1), ("b", 1)], list(METHODS), [0, 1], [1e-4], steps=(1,))
    assert [cell.seed for cell in cells] == [0] * 2 * len(METHODS) + [1] * 2 * len(METHODS)
    assert len({cell.file_name for cell in cells}) == len(cells)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        grid([("digits", 200)], ["magic"], [0], [1e-4], steps=(1,))


def test_studies_touch_the_development_tasks_alone():
    for cells in studies().values():
        assert {cell.task for cell in cells} <= {"footwear", "digits"}


def test_a_studys_runs_are_named_apart_and_the_pilot_compares_five_methods_on_five_sets():
    for cells in studies().values():
        assert len({cell.file_name for cell in cells}) == len(cells)
    pilot = studies()["pilot"]
    assert {cell.method for cell in pilot} == set(PILOT) and len({(cell.task, cell.training_pictures) for cell in pilot}) == 5
    assert [cell.method for cell in pilot[:2]] == ["plain", "Diff-Tuning"]


def test_the_learning_rates_in_use_are_those_that_the_study_chose_on_the_validation_splits():
    rows = [row for row in kept_rows(data_folder() / "results" / "learning_rates.csv") if row["split"] == "validation"]
    if not rows:
        pytest.skip("not measured in this world yet")
    assert best_rates(rows).items() <= LEARNING_RATES.items()
    assert {"plain", "Diff-Tuning"} <= set(best_rates(rows))


def test_the_controls_banks_are_what_they_are_called():
    kinds = dict(zip(load_source().labels.tolist(), load_source().kinds))
    assert {kinds[label] for label in bank_of_far_classes("digits").labels.tolist()} == {"photograph"}
    assert {kinds[label] for label in bank_of_far_classes("footwear").labels.tolist()} == {"letter"}
    assert len(small_bank("digits")) == 100 and torch.equal(small_bank("digits").latents, shipped_bank().latents[:100])
    noise = bank_of_noise("digits")
    assert len(noise) == len(shipped_bank()) and noise.latents.std() == pytest.approx(1, abs=0.01)
    banks = [method.bank("digits").fingerprint for method in METHODS.values() if method.bank]
    assert len(set(banks)) == 4  # a run of one is never taken for a run of another


def test_a_study_without_processes_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        run_study([], folder=tmp_path / "st", results=tmp_path / "st" / "x.csv", processes=0)
    assert not (tmp_path / "st").exists()
