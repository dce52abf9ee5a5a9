"""The grid runner behind the result tables: methods x tasks x seeds, resumable, one process per core.

A cell is one fine-tuning run, scored at several step counts under three ways of guidance (cell.py).
Its rows are kept as they come; a study that is run again does what is missing.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
from pathlib import Path
from typing import Any, Sequence

import torch

from ..config import StudyCell
from ..support.names import user_path
from ..support.progress import progress_bar
from .cell import METHODS, is_done, run_cell, samples_file
from .tables import join, join_arrays, restore, restore_arrays, with_suffix

# From the study `learning_rates`, on the development tasks' validation splits; a test holds those that it has tried to its table.
LEARNING_RATES = dict.fromkeys(METHODS, 1e-3)
DEVELOPMENT = ("footwear", "digits")
PILOT_PICTURES = 50  # training pictures of the pilot; with all of them there is more to gain on footwear (data/results/all_pictures.md)


def grid(tasks: Sequence[str], methods: Sequence[str], seeds: Sequence[int], learning_rates: Sequence[float] | None = None,
         **options: Any) -> list[StudyCell]:  # fmt: skip
    """Every combination, seed by seed and method by method, so that an unfinished study is balanced.

    Each method has its own learning rate by default.
    """
    unknown = set(methods) - set(METHODS)
    if unknown:
        raise ValueError(f"unknown method {sorted(unknown)[0]!r}: choose among {', '.join(METHODS)}")
    return [
        StudyCell(task, method, seed, rate, **options)
        for seed, method, task in itertools.product(seeds, methods, tasks)
        for rate in learning_rates or [LEARNING_RATES[method]]
    ]


def studies() -> dict[str, list[StudyCell]]:
    """The studies by name.  The development tasks are scored on their validation splits, and choose everything."""
    names = list(METHODS)
    main, parts = names[:2], names[2:]  # the comparison itself first, then what each term does
    tried = functools.partial(grid, DEVELOPMENT, seeds=[0], steps=(400, 1600), guidances=("1", "1.5"), training_pictures=PILOT_PICTURES)
    rates = tried(names, learning_rates=[3e-4, 1e-3]) + tried(main, learning_rates=[3e-3])
    replaced = (0, 0.04, 0.08, 0.12, 0.2, 0.4, 0.6, 0.8, 1)
    pilot = functools.partial(grid, DEVELOPMENT, seeds=range(5), steps=(400, 800, 1600), training_pictures=PILOT_PICTURES)
    whole = grid(DEVELOPMENT, main, range(5), steps=(400, 800, 1600, 3200), replaced=replaced)
    longer = grid(DEVELOPMENT, ["Diff-Tuning, weight 1"], [0], steps=(400, 800, 1600, 3200), training_pictures=PILOT_PICTURES)
    return {"learning_rates": rates, "pilot": [*pilot(main, replaced=replaced), *pilot(parts)], "all_pictures": whole, "longer": longer}


def run_study(cells: Sequence[StudyCell], *, folder: str | Path, results: str | Path, processes: int = 1) -> Path:
    """Do what is missing of the cells, in `folder` and in the table `results` (CSV), then write the table and its siblings.

    Those are *_losses.csv, *_replacement.csv and *_samples.npz (a few pictures of each run of the first seed).
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    folder, results = user_path(folder), user_path(results)
    tables = {folder / f"{cell.file_name}.csv": cell.identity for cell in cells}
    first = min((cell.seed for cell in cells), default=0)
    pictures = {cell.file_name: samples_file(cell, folder) for cell in cells if cell.seed == first}
    restore(tables, results)
    restore_arrays(pictures, with_suffix(results, "_samples", ".npz"))
    missing = [cell for cell, table in zip(cells, tables) if not is_done(cell, table)]
    work = functools.partial(run_cell, folder=folder)
    try:
        if processes == 1:
            for cell in progress_bar(missing, "study", shown=bool(missing)):
                work(cell)
        elif missing:
            with multiprocessing.get_context("spawn").Pool(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                for _ in progress_bar(pool.imap_unordered(work, missing), "study", total=len(missing)):
                    pass
    finally:  # an interrupted study leaves a table, too
        join(tables, results)
        join_arrays(pictures, with_suffix(results, "_samples", ".npz"))
    return results
