"""One run of a study: trained from mark to mark, measured at each; an interrupted one goes on at its last mark."""

from __future__ import annotations

import functools
import math
import shutil
from pathlib import Path
from typing import Literal

import torch

from ..config import GUIDANCES, DiffTuningConfig, StudyCell
from ..data.tasks import Task, load_source, load_task, spread_evenly
from ..evaluation.chain_of_forgetting import DATA_END, SCORES, denoiser_replacement, losses_by_tenth
from ..evaluation.metrics import copied_share, evaluate
from ..models.loading import load_pretrained
from ..models.pretrained import Pretrained
from ..sampling import sample
from ..support.surroundings import undisturbed
from ..training.fine_tune import fine_tune
from ..training.fine_tuned import FineTuned
from .methods import METHODS
from .tables import SUFFIXES, Row, code_version, kept_rows, save_array, with_suffix, write_rows

SPLITS = ("validation", "test")  # settings are chosen on the first and reported on the second
HELD_OUT = ("target", "validation", "source")  # where losses are measured: the task's test split, its validation split, the source
SHOWN = 20  # samples kept of each run


def is_done(cell: StudyCell, table: Path) -> bool:
    """Whether the tables beside `table` hold everything that the cell asks for, at every mark."""
    return _done_steps(cell, table) == set(cell.steps)


def _done_steps(cell: StudyCell, table: Path) -> set[int]:
    """The marks at which everything that the cell asks for has been measured."""
    scores, losses, replacement = (_own_rows(cell, with_suffix(table, kind)) for kind in SUFFIXES)
    scored = {(row["step"], row["guidance"], row["split"]) for row in scores}
    followed = {(row["step"], row["data"], row["tenth"]) for row in losses}
    diverged = {row["step"] for row in losses if row["after"] == "inf"}
    replaced = {(row["step"], float(row["fraction"])) for row in replacement}
    return {
        step
        for step in cell.steps
        if all((str(step), data, str(tenth)) in followed for data in HELD_OUT for tenth in range(1, 11))
        and (not _is_scored(cell, step) or all((str(step), name, split) in scored for name in cell.guidances for split in SPLITS))
        and (step < max(cell.steps) or str(step) in diverged or all((str(step), fraction) in replaced for fraction in cell.replaced))
    }


def _is_scored(cell: StudyCell, step: int) -> bool:
    return cell.scored is None or step in cell.scored


def _own_rows(cell: StudyCell, table: Path) -> list[Row]:
    """A cell's rows, without those of a file of the same name from other settings."""
    mine = {key: str(value) for key, value in cell.identity.items()}
    return [row for row in kept_rows(table) if mine.items() <= row.items()]


def samples_file(cell: StudyCell, folder: Path) -> Path:
    """Where a run keeps some of its pictures, beside its rows in `folder`."""
    return folder / f"{cell.file_name}_samples.npz"


@undisturbed
def run_cell(cell: StudyCell, folder: Path) -> None:
    """Train from mark to mark, measure at each and keep its rows at once: an interrupted cell goes on at the last mark."""
    method, task = METHODS[cell.method], load_task(cell.task)
    if cell.training_pictures != "all":
        task = task.subset(range(cell.training_pictures))
    bank = method.bank and method.bank(cell.task)
    table, run = folder / f"{cell.file_name}.csv", folder / f"{cell.file_name}.run"
    done = _done_steps(cell, table)
    kept = [[row for row in _own_rows(cell, with_suffix(table, kind)) if int(row["step"]) in done] for kind in SUFFIXES]
    own = cell.identity | {"code": code_version()}
    for step in cell.steps:
        if step in done:
            continue
        config = DiffTuningConfig(steps=step, learning_rate=cell.learning_rate, seed=cell.seed, keep_checkpoints=1, **method.options)
        try:
            tuned = fine_tune(_pretrained(), task, bank, config, folder=run, progress=False)
        except FloatingPointError:  # a finding about its learning rate
            tuned = None
        found = [_scores(cell, tuned, task) if _is_scored(cell, step) else [], losses_along_chain(cell, tuned)]
        found.append(_replacement(cell, tuned) if tuned and cell.replaced and step == max(cell.steps) else [])
        for suffix, rows, new in reversed(list(zip(SUFFIXES, kept, found))):  # scores last
            rows += [own | {"step": step} | row for row in new]
            write_rows(with_suffix(table, suffix), rows)
        if tuned and _is_scored(cell, step):
            _keep_samples(samples_file(cell, folder), cell, tuned)
    shutil.rmtree(run, ignore_errors=True)


def losses_along_chain(cell: StudyCell, tuned: FineTuned | None) -> list[Row]:
    """A row for each held-out set and tenth of the chain: the loss `before` and `after` tuning (infinite where it diverged)."""
    rows = []
    for data in HELD_OUT:
        before, after = _untouched_losses(cell.task, data, cell.loss_pictures), [math.inf] * 10
        if tuned is not None:
            images, labels = _held_out(cell.task, data, cell.loss_pictures)
            labels = labels if data == "source" else tuned.rows[labels]
            after = losses_by_tenth(tuned.model, images, labels).tolist()
        rows += [{"data": data, "tenth": tenth + 1, "before": before[tenth], "after": after[tenth]} for tenth in range(10)]
    return rows


@functools.cache
def _untouched_losses(task: str, data: str, pictures: int) -> list[float]:
    """Of the pre-trained model: it knows the source's labels, and none of the task's."""
    images, labels = _held_out(task, data, pictures)
    labels = labels if data == "source" else torch.full_like(labels, _pretrained().null_label)
    return losses_by_tenth(_pretrained(), images, labels).tolist()


@functools.cache
def _held_out(task: str, data: Literal["target", "validation", "source"], pictures: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures spread evenly over a held-out set, and their labels."""
    held_out = load_source("heldout") if data == "source" else load_task(task, split="test" if data == "target" else data)
    chosen = spread_evenly(len(held_out), min(pictures, len(held_out)))
    return held_out.read(chosen), held_out.labels[chosen]


def _scores(cell: StudyCell, tuned: FineTuned | None, task: Task) -> list[Row]:
    """A row for each way of guidance and split; the same labels and noise for every method, infinite where it diverged."""
    if tuned is None:
        none = dict.fromkeys(SCORES, math.inf) | {"copied": math.nan}
        return [{"guidance": name, "split": split, **none} for name in cell.guidances for split in SPLITS]
    labels = tuned.rows[torch.arange(cell.samples) % len(tuned.rows)]
    rows = []
    for name in cell.guidances:
        guidance, by_source = GUIDANCES[name]
        guide = _pretrained() if by_source else None
        images = sample(
            tuned.model, labels, steps=cell.sampling_steps, sampler=cell.sampler, guidance=guidance, guide=guide, seed=cell.seed
        )
        copied = copied_share(images, task.images)
        for split in SPLITS:
            scores = evaluate(images, _reference(cell.task, split))
            rows.append({"guidance": name, "split": split, **{key: scores[key] for key in SCORES}, "copied": copied})
    return rows


@functools.cache
def _reference(task: str, split: Literal["validation", "test"]) -> Task:
    return load_task(task, split=split)


def _replacement(cell: StudyCell, tuned: FineTuned) -> list[Row]:
    """A row for each fraction of the last reverse steps that another denoiser takes over: the source model, or the tuned one itself.

    Whoever takes over knows neither class nor guidance.  What that alone does at the data end is seen when
    the tuned model's own null label takes over, and must not be put down to the source model.
    """
    data_end = [fraction for fraction in cell.replaced if 0 < fraction <= DATA_END]
    rows = []
    for name, model, fractions in (("source", _pretrained(), cell.replaced), ("own null label", tuned.model, data_end)):
        if not fractions:
            continue
        found = denoiser_replacement(
            tuned, model, fractions, _reference(cell.task, "test"), seed=cell.seed, samples=cell.samples, steps=cell.sampling_steps
        )
        columns = ("fractions", "switch_at", *SCORES)
        values = zip(*(found[column].tolist() for column in columns))
        rows += [{"by": name} | dict(zip(("fraction", *columns[1:]), row)) for row in values]
    return rows


def _keep_samples(path: Path, cell: StudyCell, tuned: FineTuned) -> None:
    """A few pictures of the latest scored mark at guidance 1.5, to look at: grey uint8 (SHOWN, H, W)."""
    labels = tuned.rows[torch.arange(SHOWN) % len(tuned.rows)]
    images = sample(tuned.model, labels, steps=cell.sampling_steps, sampler=cell.sampler, guidance=1.5, seed=cell.seed)
    save_array(path, ((images.mean(1) + 1) * 127.5).round().to(torch.uint8).numpy())


@functools.cache
def _pretrained() -> Pretrained:
    return load_pretrained("tiny")
