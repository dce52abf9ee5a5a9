"""The grid runner behind the result tables: methods x sets x seeds, resumable, one process per core.

A cell is one fine-tuning run, measured at several step counts under several ways of guidance (cell.py).
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
from .cell import is_done, run_cell, samples_file
from .methods import MAIN, METHODS, PILOT
from .tables import join, join_arrays, restore, restore_arrays, with_suffix

# To be chosen by the study `learning_rates`, on the development tasks' validation splits; until it has run in this world, as in world 2.
LEARNING_RATES = dict.fromkeys(METHODS, 1e-3)
# The development tasks, by number of training pictures; those of the criterion first.
SETS = (("footwear", 2000), ("digits", 2000), ("digits", 200), ("footwear", 200), ("footwear", 10_000))
FEW, SOME = ("digits", 200), ("footwear", 2000)  # the sets on which variants and rates are tried


def grid(sets: Sequence[tuple[str, int]], methods: Sequence[str], seeds: Sequence[int], learning_rates: Sequence[float] | None = None,
         **options: Any) -> list[StudyCell]:  # fmt: skip
    """Every combination, seed by seed, set by set and method by method, so that an unfinished study compares something.

    A set is a task and how many of its training pictures.  Each method has its own learning rate by default.
    """
    unknown = set(methods) - set(METHODS)
    if unknown:
        raise ValueError(f"unknown method {sorted(unknown)[0]!r}: choose among {', '.join(METHODS)}")
    return [
        StudyCell(task, method, seed, rate, training_pictures=pictures, **options)
        for seed, (task, pictures), method in itertools.product(seeds, sets, methods)
        for rate in learning_rates or [LEARNING_RATES[method]]
    ]


def studies() -> dict[str, list[StudyCell]]:
    """The studies by name, on the development tasks: settings are chosen on their validation splits."""
    rates = grid([FEW, SOME], MAIN, [0], [3e-4, 1e-3, 2e-3], steps=(400, 800), scored=(800,), guidances=("1", "1.5"))
    pilot = functools.partial(grid, SETS, steps=(120, 400, 800, 1600), scored=(400, 1600))
    pilot = pilot(MAIN, range(3)) + pilot(PILOT[len(MAIN) :], range(3)) + pilot(MAIN, range(3, 5))
    parts = grid([FEW, SOME], list(METHODS), range(3), steps=(800,), guidances=("1", "1.5"))
    return {"learning_rates": rates, "pilot": pilot, "parts": parts}


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
