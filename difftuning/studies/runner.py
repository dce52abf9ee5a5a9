"""Runs the cells of a study, one process per core: rows are added to its tables as they come; what is missing is done when it is run again."""

from __future__ import annotations

import functools
import multiprocessing
import time
from pathlib import Path
from types import ModuleType
from typing import Iterable, Sequence

import torch

from ..config import StudyCell
from ..support.names import user_path
from ..support.progress import progress_bar
from . import cell, controlnet
from .control_cells import ControlCell
from .premise import require_premise
from .tables import drop_torn_line, join_arrays, samples_file, with_suffix

Cell = StudyCell | ControlCell
PICTURED = 0  # the seed of which pictures are kept


def run_study(cells: Sequence[Cell], *, folder: str | Path, results: str | Path, processes: int = 1) -> Path:
    """Do what is missing of the cells: their rows are added to the table `results` (CSV) and its siblings, mark by mark.

    Those are *_losses.csv and others of the kind of cell, and *_samples.npz (a few pictures of each run of seed 0).
    `folder` is for the checkpoints of the runs.  ValueError where a frozen task is asked for too early (premise.py).
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    require_premise(one.task for one in cells)
    folder, results = user_path(folder), user_path(results)
    kind = _kind(cells)
    for suffix in kind.SUFFIXES:
        drop_torn_line(with_suffix(results, suffix))
    missing = kind.missing(cells, results)
    work = functools.partial(_timed, folder=folder, results=results)
    try:
        if processes == 1:
            _watch(map(work, missing), len(cells), len(missing))
        elif missing:
            with multiprocessing.get_context("spawn").Pool(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                _watch(pool.imap_unordered(work, missing), len(cells), len(missing))
    finally:  # an interrupted study keeps its pictures, too
        pictures = {one.file_name: samples_file(one.file_name, folder) for one in cells if one.seed == PICTURED}
        join_arrays(pictures, with_suffix(results, "_samples", ".npz"))
    return results


def _kind(cells: Sequence[Cell]) -> ModuleType:
    """The module for such cells: it has `missing`, `run_cell`, and its tables' SUFFIXES."""
    return controlnet if cells and isinstance(cells[0], ControlCell) else cell


def _timed(one: Cell, folder: Path, results: Path) -> float:
    """Run a cell; seconds of one core."""
    began = time.process_time()
    _kind([one]).run_cell(one, folder, results)
    return time.process_time() - began


def _watch(seconds: Iterable[float], runs: int, missing: int) -> None:
    """Wait for the runs that are missing, and say how many are done and what the rest will take, going by those of this call."""
    spent = 0.0
    with progress_bar(None, "study", initial=runs - missing, total=runs, shown=missing > 0) as bar:
        for number, each in enumerate(seconds, 1):
            spent += each
            left = spent / number * (missing - number) / 3600
            bar.set_description(f"{runs - missing + number} of {runs} runs, about {left:.2f} core-hours left", refresh=False)
            bar.update()
