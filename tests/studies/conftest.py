"""A finished study."""

from __future__ import annotations

import pytest

from difftuning.studies.grid import grid
from difftuning.studies.runner import run_study
from tests.studies.helpers import STEPS


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    cells = grid(
        [("digits", 60)],
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
