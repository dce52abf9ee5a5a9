"""The pictures that a study has kept of its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

import numpy as np
from torch import Tensor

from ..config import StudyCell
from ..data.pictures import to_images
from ..studies.gains import read_table
from ..support.world import data_folder


def kept_samples(study: str, task: str, training_pictures: int, methods: Iterable[str], folder: Path | None = None) -> dict[str, Tensor]:
    """Samples (N, 3, H, W) of each method's first seed after its last scored step, at guidance 1.5, class by class.

    Methods of which the study has kept none are left out.
    """
    path = (folder or data_folder() / "results") / f"{study}_samples.npz"
    if not path.is_file():
        return {}
    table, found = read_table(study, folder), {}
    runs = table[(table.task == task) & (table.training_pictures == training_pictures)]
    with np.load(path, allow_pickle=False) as kept:
        for method in methods:
            mine = runs[runs.method == method]
            cells = (
                StudyCell(task, method, seed, rate, steps=(), training_pictures=training_pictures)
                for seed, rate in sorted(set(zip(mine.seed.tolist(), mine.learning_rate.tolist())))
            )
            name = next((cell.file_name for cell in cells if cell.file_name in kept), None)
            if name is not None:
                found[method] = to_images(kept[name])
    return found
