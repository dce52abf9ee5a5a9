"""The grid runner behind the result tables: methods x tasks x seeds, resumable, one process per core.

A cell is one fine-tuning run, scored at several step counts under three ways of guidance.
Its rows are written when it is done; a study that is run again does what is missing.
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

import torch
from torch import Tensor

from . import __version__
from .chain import chain_tenths, timestep_losses
from .data import Task, load_source, load_task
from .files import atomic_path, data_folder, world_file
from .finetuning import DiffTuningConfig, choose_rows, fine_tune
from .memory import MemoryBank
from .metrics import evaluate
from .pretrained import Pretrained, load_pretrained
from .progress import progress_bar
from .sampling import sample
from .training import TrainingState

METHODS: dict[str, dict[str, Any]] = {
    "plain": {"bank": False, "reconsolidation_power": 0.0},
    "reconsolidation only": {"bank": False},
    "retention only": {"bank": True, "reconsolidation_power": 0.0},
    "Diff-Tuning": {"bank": True},
    "Diff-Tuning, weight 1": {"bank": True, "bank_weight": 1.0},
}
DEVELOPMENT = ("footwear", "digits")
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
    return {"learning_rates": rates, "pilot": pilot}


def run_study(cells: Sequence[Cell], *, folder: str | Path, results: str | Path, processes: int = 1) -> Path:
    """Run the cells that have no rows yet in `folder`, then write all rows to `results` (CSV) and *_losses.csv."""
    folder, results = Path(folder), Path(results)
    missing = [cell for cell in cells if not (folder / f"{cell.file_name}.csv").is_file()]
    work = functools.partial(_run_cell, folder=folder)
    if processes == 1:
        for cell in progress_bar(missing, "study"):
            work(cell)
    elif missing:
        with multiprocessing.get_context("spawn").Pool(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in progress_bar(pool.imap_unordered(work, missing), "study", total=len(missing)):
                pass
    for suffix in ("", "_losses"):
        parts = [folder / f"{cell.file_name}{suffix}.csv" for cell in cells]
        rows = [row for part in parts for row in csv.DictReader(part.read_text().splitlines())]
        _write_rows(results.with_name(f"{results.stem}{suffix}.csv"), rows)
    return results


def _run_cell(cell: Cell, folder: Path) -> None:
    pretrained, bank = _world()
    task, reference = load_task(cell.task), load_task(cell.task, split=cell.split)
    options = dict(METHODS[cell.method])
    uses_bank = options.pop("bank")
    config = DiffTuningConfig(
        steps=cell.steps[-1], learning_rate=cell.learning_rate, seed=cell.seed, checkpoint_every=400, keep_checkpoints=1, **options
    )
    identity = {key: value for key, value in asdict(cell).items() if key not in ("steps", "guidances")}
    identity |= {"bank_weight": config.bank_weight if uses_bank else 0.0, "world": world_version(), "code": __version__}
    scores, losses = _Scores(cell, pretrained, task, reference), []

    def score(state: TrainingState) -> None:
        if state.step in cell.steps:
            tuned = pretrained.with_denoiser(state.ema_model())
            scores.rows += [identity | row for row in scores.of(tuned, state.step)]
            losses.extend(identity | row for row in scores.losses_of(tuned, state.step))

    run = folder / f"{cell.file_name}.run"
    shutil.rmtree(run, ignore_errors=True)  # scores of the steps already done are not kept: a cell is the unit of resuming
    fine_tune(pretrained, task, bank if uses_bank else None, config, folder=run, callbacks=[score], progress=False)
    _write_rows(folder / f"{cell.file_name}_losses.csv", losses)
    _write_rows(folder / f"{cell.file_name}.csv", scores.rows)
    shutil.rmtree(run)


class _Scores:
    """Scores and losses of a model in mid-run, on fixed labels, noise and reference pictures."""

    def __init__(self, cell: Cell, pretrained: Pretrained, task: Task, reference: Task):
        self.cell, self.pretrained, self.reference = cell, pretrained, reference
        self.table_rows = choose_rows(pretrained, len(task.class_names))
        self.rows: list[dict[str, Any]] = []
        self.tenths = chain_tenths(pretrained.diffusion.num_timesteps)

    def of(self, model: Pretrained, step: int) -> list[dict[str, Any]]:
        counts = torch.arange(self.cell.samples) % len(self.table_rows)
        rows = []
        for name in self.cell.guidances:
            guidance, by_source = GUIDANCES[name]
            images = sample(
                model, self.table_rows[counts], steps=self.cell.sampling_steps, guidance=guidance,
                guide=self.pretrained if by_source else None, seed=self.cell.seed,
            )  # fmt: skip
            scores = evaluate(images, self.reference)
            rows.append({"step": step, "guidance": name, **{key: scores[key] for key in ("fid", "kid", "precision", "recall")}})
        return rows

    def losses_of(self, model: Pretrained, step: int) -> list[dict[str, Any]]:
        source = load_source("heldout")
        sets = {
            "target": (self.reference.images[:200], self.table_rows[self.reference.labels[:200]]),
            "source": _spread(source, 200),
        }
        rows = []
        for name, (images, labels) in sets.items():
            before = _losses_before(self.pretrained, name, self.cell, images, labels, self.tenths)
            after = timestep_losses(model, images, labels, self.tenths.flatten()).reshape(self.tenths.shape).mean(1)
            rows += [
                {"step": step, "data": name, "tenth": tenth + 1, "before": float(before[tenth]), "after": float(after[tenth])}
                for tenth in range(len(after))
            ]
        return rows


_before: dict[tuple[str, str], Tensor] = {}


def _losses_before(pretrained: Pretrained, name: str, cell: Cell, images: Tensor, labels: Tensor, tenths: Tensor) -> Tensor:
    """The untouched model's losses, once per process and task: every cell compares with the same ones."""
    key = (name, cell.task if name == "target" else "")
    if key not in _before:
        _before[key] = timestep_losses(pretrained, images, labels, tenths.flatten()).reshape(tenths.shape).mean(1)
    return _before[key]


def _spread(task: Task, count: int) -> tuple[Tensor, Tensor]:
    """`count` pictures spread evenly over a set, with their labels."""
    chosen = torch.linspace(0, len(task) - 1, count).long()
    return task.read(chosen), task.labels[chosen]


@functools.cache
def _world() -> tuple[Pretrained, MemoryBank]:
    return load_pretrained("tiny"), MemoryBank.load(data_folder() / "bank")


def world_version() -> str:
    """The tiny world's version, data/VERSION; results of different versions are never mixed."""
    return world_file("VERSION").read_text().strip()


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_path(path) as scratch, open(scratch, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
