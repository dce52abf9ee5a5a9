"""One run of a study: trained from mark to mark, scored at each; an interrupted one goes on at its last mark."""

from __future__ import annotations

import functools
import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import torch

from ..config import GUIDANCES, DiffTuningConfig, StudyCell
from ..data.tasks import Task, load_source, load_task, spread_evenly
from ..evaluation.chain_of_forgetting import DATA_END, SCORES, chain_tenths, denoiser_replacement, loss_ratio
from ..evaluation.metrics import copied_share, evaluate
from ..models.loading import load_pretrained
from ..models.pretrained import Pretrained
from ..sampling import sample
from ..support.surroundings import undisturbed
from ..support.world import data_folder
from ..training.fine_tune import fine_tune
from ..training.fine_tuned import FineTuned
from ..training.memory_bank import MemoryBank
from .tables import SUFFIXES, code_version, kept_rows, save_array, with_suffix, write_rows

METHODS: dict[str, dict[str, Any]] = {
    "plain": {"bank": False, "reconsolidation_power": 0.0},
    "Diff-Tuning": {"bank": True},
    "Diff-Tuning, weight 1": {"bank": True, "bank_weight": 1.0},
    "reconsolidation only": {"bank": False},
    "retention only": {"bank": True, "reconsolidation_power": 0.0},
}
SHOWN = 20  # samples kept of each run


def is_done(cell: StudyCell, table: Path) -> bool:
    """Whether `table` and its siblings hold everything that the cell asks for, at every mark."""
    return _done_steps(cell, table) == {str(step) for step in cell.steps}


def _done_steps(cell: StudyCell, table: Path) -> set[str]:
    """The marks at which everything that the cell asks for has been measured, or the training had diverged."""
    rows = _own_rows(cell, table)
    scored, diverged = {(row["step"], row["guidance"]) for row in rows}, {row["step"] for row in rows if row.get("fid") == "inf"}
    replaced = {(row["step"], float(row["fraction"])) for row in _own_rows(cell, with_suffix(table, "_replacement"))}
    return {
        str(step)
        for step in cell.steps
        if all((str(step), name) in scored for name in cell.guidances)
        and (step < max(cell.steps) or str(step) in diverged or all((str(step), fraction) in replaced for fraction in cell.replaced))
    }


def _own_rows(cell: StudyCell, table: Path) -> list[dict[str, Any]]:
    """A cell's rows, without those of a file of the same name from other settings."""
    mine = {key: str(value) for key, value in cell.identity.items()}
    return [row for row in kept_rows(table) if mine.items() <= row.items()]


def samples_file(cell: StudyCell, folder: Path) -> Path:
    """Where a run keeps some of its pictures, beside its rows in `folder`."""
    return folder / f"{cell.file_name}_samples.npz"


@undisturbed
def run_cell(cell: StudyCell, folder: Path) -> None:
    """Train from mark to mark, score at each and keep its rows at once: an interrupted cell goes on at the last mark."""
    pretrained, bank = _world()
    task, reference = load_task(cell.task), load_task(cell.task, split=cell.split)
    if cell.training_pictures != "all":
        task = task.subset(spread_evenly(len(task), cell.training_pictures))
    options = dict(METHODS[cell.method])
    bank = bank if options.pop("bank") else None
    table, run = folder / f"{cell.file_name}.csv", folder / f"{cell.file_name}.run"
    done = _done_steps(cell, table)
    scores, losses, replacement = ([row for row in _own_rows(cell, with_suffix(table, kind)) if row["step"] in done] for kind in SUFFIXES)
    own = cell.identity | {"code": code_version()}
    for step in cell.steps:
        if str(step) in done:
            continue
        config = DiffTuningConfig(steps=step, learning_rate=cell.learning_rate, seed=cell.seed, keep_checkpoints=1, **options)
        try:
            tuned = fine_tune(pretrained, task, bank, config, folder=run, progress=False)
        except FloatingPointError:  # a finding about its learning rate: it has no score from here on
            none = dict.fromkeys(SCORES, math.inf) | {"copied": math.nan}
            left = itertools.product((later for later in cell.steps if later >= step and str(later) not in done), cell.guidances)
            write_rows(table, scores + [own | {"step": later, "guidance": name, **none} for later, name in left])
            break
        here = own | {"step": step}
        losses += [here | row for row in losses_along_chain(pretrained, tuned, reference, cell.loss_pictures)]
        if cell.replaced and step == max(cell.steps):
            replacement += [here | row for row in _replacement(cell, pretrained, tuned, reference)]
        scores += [here | row for row in _scores(cell, pretrained, tuned, task, reference)]
        _keep_samples(samples_file(cell, folder), cell, tuned)
        write_rows(with_suffix(table, "_losses"), losses)
        write_rows(with_suffix(table, "_replacement"), replacement)
        write_rows(table, scores)
    shutil.rmtree(run, ignore_errors=True)


def _scores(cell: StudyCell, pretrained: Pretrained, tuned: FineTuned, task: Task, reference: Task) -> list[dict[str, Any]]:
    """A row for each way of guidance; the same labels and noise for every method."""
    labels = tuned.rows[torch.arange(cell.samples) % len(tuned.rows)]
    rows = []
    for name in cell.guidances:
        guidance, by_source = GUIDANCES[name]
        images = sample(
            tuned.model, labels, steps=cell.sampling_steps, guidance=guidance, guide=pretrained if by_source else None, seed=cell.seed
        )
        scores = evaluate(images, reference)
        copied = copied_share(images, task.images)
        rows.append({"guidance": name, **{key: scores[key] for key in SCORES}, "copied": copied})
    return rows


def _replacement(cell: StudyCell, pretrained: Pretrained, tuned: FineTuned, reference: Task) -> list[dict[str, Any]]:
    """A row for each fraction of the last reverse steps that another denoiser takes over: the source model, or the tuned one itself.

    Whoever takes over knows neither class nor guidance.  What that alone does at the data end is seen when
    the tuned model's own null label takes over, and must not be put down to the source model.
    """
    data_end = [fraction for fraction in cell.replaced if 0 < fraction <= DATA_END]
    rows = []
    for name, model, fractions in (("source", pretrained, cell.replaced), ("own null label", tuned.model, data_end)):
        if not fractions:
            continue
        found = denoiser_replacement(tuned, model, fractions, reference, seed=cell.seed, samples=cell.samples, steps=cell.sampling_steps)
        columns = ("fractions", "switch_at", *SCORES)
        values = zip(*(found[column].tolist() for column in columns))
        rows += [{"by": name} | dict(zip(("fraction", *columns[1:]), row)) for row in values]
    return rows


def _keep_samples(path: Path, cell: StudyCell, tuned: FineTuned) -> None:
    """A few pictures of the latest mark at guidance 1.5, to look at: grey uint8 (SHOWN, H, W)."""
    labels = tuned.rows[torch.arange(SHOWN) % len(tuned.rows)]
    images = sample(tuned.model, labels, steps=cell.sampling_steps, guidance=1.5, seed=cell.seed)
    save_array(path, ((images.mean(1) + 1) * 127.5).round().to(torch.uint8).numpy())


def losses_along_chain(pretrained: Pretrained, tuned: FineTuned, reference: Task, pictures: int, *, each: int = 4) -> list[dict[str, Any]]:
    """A row for each tenth of the chain, on target and held-out source: the loss `before` and `after` tuning.

    It is the mean over `each` timesteps of a tenth, on `pictures` spread evenly over a set.
    """
    tenths = chain_tenths(pretrained.diffusion.num_timesteps, each)
    source = load_source("heldout")
    rows = []
    for name, task, labels in (("target", reference, tuned.rows[reference.labels]), ("source", source, source.labels)):
        chosen = spread_evenly(len(task), pictures)
        found = loss_ratio(pretrained, tuned.model, task.read(chosen), labels[chosen], tenths.flatten())
        before, after = (found[key].reshape(tenths.shape).mean(1).tolist() for key in ("before", "after"))
        rows += [{"data": name, "tenth": tenth + 1, "before": before[tenth], "after": after[tenth]} for tenth in range(len(tenths))]
    return rows


@functools.cache
def _world() -> tuple[Pretrained, MemoryBank]:
    return load_pretrained("tiny"), MemoryBank.load(data_folder() / "bank")
