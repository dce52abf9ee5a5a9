"""The grid runner behind the result tables: methods x tasks x seeds, resumable, one process per core.

A cell is one fine-tuning run, scored at several step counts under three ways of guidance.
Its rows are kept as they come; a study that is run again does what is missing.
"""

from __future__ import annotations

import csv
import functools
import itertools
import multiprocessing
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor

from . import __version__
from .chain import chain_tenths, loss_ratio
from .data import Task, load_source, load_task
from .files import atomic_path, data_folder, world_file
from .finetuning import DiffTuningConfig, FineTuned, fine_tune
from .memory import MemoryBank
from .metrics import evaluate
from .pretrained import Pretrained, load_pretrained
from .progress import progress_bar
from .sampling import sample

METHODS: dict[str, dict[str, Any]] = {
    "plain": {"bank": False, "reconsolidation_power": 0.0},
    "reconsolidation only": {"bank": False},
    "retention only": {"bank": True, "reconsolidation_power": 0.0},
    "Diff-Tuning": {"bank": True},
    "Diff-Tuning, weight 1": {"bank": True, "bank_weight": 1.0},
}
DEVELOPMENT = ("footwear", "digits")
SHOWN = 20  # samples kept of each run
GUIDANCES = {"1": (1.0, False), "1.5": (1.5, False), "domain 1.5": (1.5, True)}  # guidance, by the source model


@dataclass(frozen=True)
class Cell:
    """One run of a study; everything in it ends up in its rows."""

    task: str
    method: str
    seed: int
    learning_rate: float
    steps: tuple[int, ...]  # where it is scored; the last is where it ends
    split: str = "validation"
    samples: int = 500
    sampling_steps: int = 25
    loss_pictures: int = 100  # of target and of source, for the loss along the chain
    guidances: tuple[str, ...] = tuple(GUIDANCES)

    @property
    def file_name(self) -> str:
        name = f"{self.task}-{self.method}-lr{self.learning_rate:g}-seed{self.seed}"
        return name.replace(" ", "_").replace(",", "")


def grid(tasks: Sequence[str], methods: Sequence[str], seeds: Sequence[int], learning_rates: Sequence[float], **options: Any) -> list[Cell]:
    """Every combination, seed by seed, so that an unfinished study is balanced."""
    unknown = set(methods) - set(METHODS)
    if unknown:
        raise ValueError(f"unknown method {sorted(unknown)[0]!r}: choose among {', '.join(METHODS)}")
    rows = itertools.product(seeds, tasks, methods, learning_rates)
    return [Cell(task, method, seed, rate, **options) for seed, task, method, rate in rows]


def studies() -> dict[str, list[Cell]]:
    """The studies by name.  The development tasks are scored on their validation splits, and choose everything."""
    rates = grid(
        DEVELOPMENT, ["plain", "Diff-Tuning", "Diff-Tuning, weight 1"], [0], [1e-4, 3e-4, 1e-3],
        steps=(400, 800, 1600), guidances=("1", "1.5"),
    )  # fmt: skip
    pilot = grid(DEVELOPMENT, list(METHODS), range(5), [3e-4], steps=(200, 400, 800, 1600, 3200))
    preview = grid(
        ["digits"], ["plain", "Diff-Tuning"], [0], [3e-4], steps=(200, 400, 800, 1600), samples=300, guidances=("1", "1.5")
    )  # one seed, in minutes: to see whether a new world works at all, never to compare methods
    return {"preview": preview, "learning_rates": rates, "pilot": pilot}


def run_study(cells: Sequence[Cell], *, folder: str | Path, results: str | Path, processes: int = 1) -> Path:
    """Do what is missing of the cells in `folder`, then write all rows to `results` (CSV), *_losses.csv and *_samples.npz."""
    folder, results = Path(folder), Path(results)
    missing = [cell for cell in cells if not _is_done(cell, folder)]
    work = functools.partial(_run_cell, folder=folder)
    if processes == 1:
        for cell in progress_bar(missing, "study", shown=bool(missing)):
            work(cell)
    elif missing:
        with multiprocessing.get_context("spawn").Pool(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in progress_bar(pool.imap_unordered(work, missing), "study", total=len(missing)):
                pass
    for name, suffix in ((results, ""), (results.with_name(f"{results.stem}_losses.csv"), "_losses")):
        _write_rows(name, [row for cell in cells for row in _kept_rows(cell, folder, suffix)])
    first = min((cell.seed for cell in cells), default=0)
    kept = {cell.file_name: _samples_file(cell, folder) for cell in cells if cell.seed == first}
    with atomic_path(results.with_name(f"{results.stem}_samples.npz")) as scratch:
        np.savez_compressed(scratch, **{name: np.load(path, allow_pickle=False)["images"] for name, path in kept.items()})
    return results


def _is_done(cell: Cell, folder: Path) -> bool:
    return {str(step) for step in cell.steps} <= {row["step"] for row in _kept_rows(cell, folder)}


def _run_cell(cell: Cell, folder: Path) -> None:
    """Train from mark to mark, score at each and keep its rows at once: an interrupted cell goes on at the last mark."""
    pretrained, bank = _world()
    task, reference = load_task(cell.task), load_task(cell.task, split=cell.split)
    options = dict(METHODS[cell.method])
    bank = bank if options.pop("bank") else None
    identity = {key: value for key, value in asdict(cell).items() if key not in ("steps", "guidances")}
    identity |= {"world": world_version(), "code": __version__}
    scores = _kept_rows(cell, folder)
    done = {row["step"] for row in scores}
    losses = [row for row in _kept_rows(cell, folder, "_losses") if row["step"] in done]  # a kill may fall between the two tables
    run = folder / f"{cell.file_name}.run"
    for step in cell.steps:
        if str(step) in done:
            continue
        config = DiffTuningConfig(steps=step, learning_rate=cell.learning_rate, seed=cell.seed, keep_checkpoints=1, **options)
        tuned = fine_tune(pretrained, task, bank, config, folder=run, progress=False)
        target = (reference, tuned.rows)
        source = (load_source("heldout"), torch.arange(pretrained.first_free_label))
        for name, (pictures, rows) in {"target": target, "source": source}.items():
            found = _losses_along_chain(cell, pretrained, tuned.model, pictures, rows)
            losses += [identity | {"step": step, "data": name} | row for row in found]
        scores += [identity | {"step": step} | row for row in _scores(cell, pretrained, tuned, reference)]
        _keep_samples(_samples_file(cell, folder), cell, tuned)
        _write_rows(_table(cell, folder, "_losses"), losses)
        _write_rows(_table(cell, folder), scores)
    shutil.rmtree(run, ignore_errors=True)


def _scores(cell: Cell, pretrained: Pretrained, tuned: FineTuned, reference: Task) -> list[dict[str, Any]]:
    """A row for each way of guidance; the same labels and noise for every method."""
    labels = tuned.rows[torch.arange(cell.samples) % len(tuned.rows)]
    rows = []
    for name in cell.guidances:
        guidance, by_source = GUIDANCES[name]
        images = sample(
            tuned.model, labels, steps=cell.sampling_steps, guidance=guidance, guide=pretrained if by_source else None, seed=cell.seed
        )
        scores = evaluate(images, reference)
        rows.append({"guidance": name, **{key: scores[key] for key in ("fid", "kid", "precision", "recall")}})
    return rows


def _keep_samples(path: Path, cell: Cell, tuned: FineTuned) -> None:
    """A few pictures of the latest mark at guidance 1.5, to look at: grey uint8 (SHOWN, H, W)."""
    labels = tuned.rows[torch.arange(SHOWN) % len(tuned.rows)]
    images = sample(tuned.model, labels, steps=cell.sampling_steps, guidance=1.5, seed=cell.seed)
    with atomic_path(path) as scratch:
        np.savez_compressed(scratch, images=((images.mean(1) + 1) * 127.5).round().to(torch.uint8).numpy())


def _losses_along_chain(cell: Cell, pretrained: Pretrained, tuned: Pretrained, pictures: Task, rows: Tensor) -> list[dict[str, Any]]:
    """A row for each tenth of the chain: the loss before and after tuning, on pictures spread evenly over a set."""
    chosen = torch.linspace(0, len(pictures) - 1, cell.loss_pictures).long()
    tenths = chain_tenths(pretrained.diffusion.num_timesteps)
    found = loss_ratio(pretrained, tuned, pictures.read(chosen), rows[pictures.labels[chosen]], tenths.flatten())
    before, after = (found[key].reshape(tenths.shape).mean(1).tolist() for key in ("before", "after"))
    return [{"tenth": tenth + 1, "before": before[tenth], "after": after[tenth]} for tenth in range(len(tenths))]


@functools.cache
def _world() -> tuple[Pretrained, MemoryBank]:
    return load_pretrained("tiny"), MemoryBank.load(data_folder() / "bank")


def world_version() -> str:
    """The tiny world's version, data/VERSION; results of different versions are never mixed."""
    return world_file("VERSION").read_text().strip()


def _samples_file(cell: Cell, folder: Path) -> Path:
    return folder / f"{cell.file_name}_samples.npz"


def _table(cell: Cell, folder: Path, suffix: str = "") -> Path:
    return folder / f"{cell.file_name}{suffix}.csv"


def _kept_rows(cell: Cell, folder: Path, suffix: str = "") -> list[dict[str, Any]]:
    """The rows a cell has already; those of another world do not count."""
    path = _table(cell, folder, suffix)
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if row["world"] == world_version()]


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_path(path) as scratch, open(scratch, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
