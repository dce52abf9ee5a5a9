"""One run of a study: trained from mark to mark, measured at each; an interrupted one goes on at its last mark."""

from __future__ import annotations

import functools
import math
import shutil
from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from typing import Literal, Sequence

import torch

from ..config import GUIDANCES, MARKS, DiffTuningConfig, StudyCell
from ..data.tasks import Task, load_source, load_task, spread_evenly
from ..evaluation.chain_of_forgetting import DATA_END, SCORES, denoiser_replacement, losses_by_tenth
from ..evaluation.metrics import copied_share, evaluate
from ..models.loading import load_pretrained
from ..models.pretrained import Pretrained
from ..sampling import sample
from ..support.surroundings import undisturbed
from ..training.checkpoints import steps_done
from ..training.fine_tune import fine_tune
from ..training.fine_tuned import FineTuned
from .methods import METHODS
from .tables import SUFFIXES, Row, append_rows, code_version, grey, kept_rows, samples_file, save_array, with_suffix

SPLITS = ("validation", "test")  # settings are chosen on the first and reported on the second
HELD_OUT = ("target", "validation", "source")  # where losses are measured: the task's test split, its validation split, the source
SHOWN = 20  # samples kept of each run
# Columns that say which run a row is of; and, kind by kind, which say where in it, beside the step.
IDENTITY = [each.name for each in fields(StudyCell) if each.name not in MARKS] + ["world"]
WHERE = {"": ("guidance", "split"), "_losses": ("data", "tenth"), "_replacement": ("by", "fraction")}
Run, Place = tuple[str | None, ...], tuple[str, ...]  # their values as text, a place's after the kind of table


def missing(cells: Sequence[StudyCell], results: Path) -> list[StudyCell]:
    """Those of which the tables lack something that they ask for, at any mark."""
    known = known_places(results)
    return [cell for cell in cells if not all(known[run_of(cell)].issuperset(places(cell, step)) for step in cell.steps)]


def places(cell: StudyCell, step: int) -> list[Place]:
    """What is measured at a mark, as the tables name it."""
    found = [("_losses", step, data, tenth) for data in HELD_OUT for tenth in range(1, 11)]
    if _is_scored(cell, step):
        found += [("", step, name, split) for name in cell.guidances for split in SPLITS]
    found += [("_replacement", step, by, float(fraction)) for by, fractions in _replaced(cell) for fraction in fractions]
    return [tuple(map(str, place)) for place in found]


def known_places(results: Path) -> dict[Run, set[Place]]:
    """What the table `results` and its siblings hold of this world, by run."""
    found: dict[Run, set[Place]] = defaultdict(set)
    for suffix in SUFFIXES:
        for row in kept_rows(with_suffix(results, suffix)):
            found[tuple(row.get(column) for column in IDENTITY)].add(_place(suffix, row))
    return found


def run_of(cell: StudyCell) -> Run:
    """How `known_places` knows a cell's run."""
    return tuple(str(cell.identity[column]) for column in IDENTITY)


def _place(suffix: str, row: Row) -> Place:
    return suffix, *(str(row[column]) for column in ("step", *WHERE[suffix]))


def _is_scored(cell: StudyCell, step: int) -> bool:
    return cell.scored is None or step in cell.scored


@undisturbed
def run_cell(cell: StudyCell, folder: Path, results: Path) -> None:
    """Train from mark to mark in `folder`, measure at each and add its rows to `results` at once.

    An interrupted cell goes on at the last mark.  A table's rows of a mark that a kill has left in part
    are measured again, and the rest is added.
    """
    task = load_task(cell.task)
    if cell.training_pictures != "all":
        task = task.subset(range(cell.training_pictures))
    run = folder / f"{cell.file_name}.run"
    known = known_places(results)[run_of(cell)]
    for step in cell.steps:
        lacking = {place[0] for place in places(cell, step) if place not in known}  # which tables lack something of this mark
        if not lacking:
            continue
        if steps_done(run) > step:  # past a mark that is missing: one more was asked for, or its rows were lost
            shutil.rmtree(run)
        try:
            tuned = tune(cell, task, step, run)
        except FloatingPointError:  # a finding about its learning rate
            tuned = None
        found = {
            "": _scores(cell, tuned, task) if "" in lacking else [],
            "_losses": losses_along_chain(cell, tuned) if "_losses" in lacking else [],
            "_replacement": _replacement(cell, tuned) if "_replacement" in lacking else [],
        }
        if tuned and "" in lacking:
            _keep_samples(samples_file(cell.file_name, folder), cell, tuned)
        own = cell.identity | {"code": code_version(), "step": step}
        for suffix, rows in found.items():
            rows = [own | row for row in rows]
            append_rows(with_suffix(results, suffix), [row for row in rows if _place(suffix, row) not in known])
    shutil.rmtree(run, ignore_errors=True)


def tune(cell: StudyCell, task: Task, step: int, run: Path) -> FineTuned:
    """The cell's method trained up to a mark."""
    method, pretrained = METHODS[cell.method], _pretrained()
    config = DiffTuningConfig(steps=step, learning_rate=cell.learning_rate, seed=cell.seed, keep_checkpoints=1, **method.options)
    return fine_tune(
        pretrained, task, method.bank and method.bank(task), config, folder=run, adapter=method.adapter,
        regularizer=method.regularizer, progress=False,
        callbacks=[method.stopping(pretrained, _reference(cell.task, "validation"), config)] if method.stopping else [],
    )  # fmt: skip


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


def _replaced(cell: StudyCell) -> list[tuple[str, list[float]]]:
    """Who takes over, and which fractions of the last reverse steps."""
    return [("source", list(cell.replaced)), ("own null label", [fraction for fraction in cell.replaced if 0 < fraction <= DATA_END])]


def _replacement(cell: StudyCell, tuned: FineTuned | None) -> list[Row]:
    """A row for each fraction that another denoiser takes over: the source model, or the tuned one itself; infinite where it diverged.

    Whoever takes over knows neither class nor guidance.  What that alone does at the data end is seen when
    the tuned model's own null label takes over, and must not be put down to the source model.
    """
    rows = []
    for name, fractions in _replaced(cell):
        if not fractions:
            continue
        if tuned is None:
            none = {"switch_at": math.nan} | dict.fromkeys(SCORES, math.inf)
            rows += [{"by": name, "fraction": float(fraction), **none} for fraction in fractions]
            continue
        model = _pretrained() if name == "source" else tuned.model
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
    save_array(path, grey(images).numpy())


@functools.cache
def _pretrained() -> Pretrained:
    return load_pretrained("tiny")
