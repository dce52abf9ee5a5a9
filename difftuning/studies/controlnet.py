"""One run of the ControlNet study (control_cells.py): when does it begin to obey, and how good are its pictures then?

Agreement with the condition asked for is checked every few steps on one fixed held-out set of (prompt, condition, noise), and scaled: 0 is the
base without condition, 1 the real pictures (evaluation/agreement.py).  Sudden convergence was fixed before any run: above half of the way for three checks in a row.

What a run finds on the way is part of its checkpoints, so that an interrupted one goes on at its last check to the same rows.
"""

from __future__ import annotations

import functools
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Sequence

import torch
from torch import Tensor

from ..config import ControlNetConfig, DiffTuningConfig
from ..data.captions import CaptionAs, caption_agreement, caption_pictures
from ..data.conditions import Kind, annotate
from ..data.tasks import Task, load_source, load_task, spread_evenly
from ..evaluation.agreement import condition_agreement, scale_agreement, sudden_convergence_step
from ..evaluation.chain_of_forgetting import SCORES, losses_by_tenth
from ..evaluation.metrics import evaluate
from ..models.loading import load_pretrained
from ..models.pretrained import Pretrained
from ..sampling import sample
from ..support.surroundings import undisturbed
from ..support.world import data_folder
from ..training.checkpoints import load_checkpoint
from ..training.controlnet import Captioner, fine_tune_controlnet
from ..training.fine_tuned import FineTuned
from ..training.loop import Callback, TrainingState
from ..training.memory_bank import MemoryBank
from .control_cells import CONTROL_METHODS, IDENTITY, MAIN, ControlCell
from .tables import Row, append_rows, code_version, grey, kept_rows, samples_file, save_array, with_suffix

THRESHOLD, HELD = 0.5, 3  # of the way from the base to real pictures, for so many checks in a row
NOISE_SEED = 0  # of all samples that are compared
SHOWN = 6  # pictures kept of every check, to look at
SUFFIXES = ("_agreement", "_losses", "_floors", "")  # a row of scores, written last, says that a run is done
TIMESTEPS = 2  # of each tenth of the chain, where losses are measured


@dataclass(frozen=True, eq=False)
class World:
    """What the cells of a task share: the base and its bank, pictures to train on, and held-out ones of the task and of the base's source."""

    base: Pretrained
    bank: MemoryBank
    training: Task
    held_out: dict[str, Task]  # "validation", "test"
    source: Task


@functools.cache
def shipped_world(task: str) -> World:
    """A task of the tiny world, and its text-to-image base with the bank in data/."""
    base, bank = load_pretrained("tiny-text-to-image"), MemoryBank.load(data_folder() / "bank_text_to_image")
    held_out = {split: load_task(task, split=split) for split in ("validation", "test")}
    return World(base, bank, load_task(task), held_out, load_source("heldout"))


class Found(NamedTuple):
    """What a cell measures, by table: agreement at each check, scores after the last step, losses along the chain; and some pictures of each check."""

    agreement: list[Row]
    scores: list[Row]
    losses: list[Row]
    pictures: Tensor  # uint8 (checks, SHOWN, H, W), grey


class Asked(NamedTuple):
    """A fixed set of held-out pictures, with what is asked of a model: to draw something like them."""

    images: Tensor  # (N, 3, H, W) in [-1, 1]
    prompts: list[str]
    conditions: Tensor  # (N, 3, H, W) in [0, 1]


def missing(cells: Sequence[ControlCell], results: Path) -> list[ControlCell]:
    """Those whose scores the table lacks."""
    done = _runs(results)
    return [cell for cell in cells if _run_of(cell.identity) not in done]


def _runs(table: Path) -> set[tuple[str, ...]]:
    return {_run_of(row) for row in kept_rows(table)}


def _run_of(row: Row) -> tuple[str, ...]:
    return tuple(str(row[column]) for column in IDENTITY)


def run_cell(cell: ControlCell, folder: Path, results: Path) -> None:
    """Run a cell in `folder` and add its rows to `results` and its siblings; what stands there of it already is not added again."""
    run = folder / f"{cell.file_name}.run"
    found = run_control_cell(cell, run)
    save_array(samples_file(cell.file_name, folder), found.pictures.numpy())
    floors = floor_rows(cell) if (cell.method, cell.seed) == (MAIN[0], 0) else []
    for suffix, rows in zip(SUFFIXES, (found.agreement, found.losses, floors, found.scores)):
        table = with_suffix(results, suffix)
        there = _runs(table)
        append_rows(table, [row | {"code": code_version()} for row in rows if _run_of(row) not in there])
    shutil.rmtree(run, ignore_errors=True)  # not there where it diverged before its first checkpoint


@undisturbed
def run_control_cell(cell: ControlCell, folder: str | Path, world: World | None = None) -> Found:
    """Train in `folder`, check the agreement on the way and measure at the end; a run that diverges has an agreement until then, and infinite scores."""
    world = world or shipped_world(cell.task)
    asked = _asked(cell, cell.split, cell.checked, world)

    def check(state: TrainingState) -> None:
        if state.step % cell.check_every == 0:
            images = _draw(world.base.with_denoiser(state.ema_model()), asked, cell.check_sampling_steps)
            new = {"agreement": _agreement(cell.kind, asked, images).mean()[None], "pictures": grey(images[:SHOWN])[None]}
            state.notes = {name: torch.cat([state.notes[name], value]) if state.notes else value for name, value in new.items()}

    try:
        tuned = tune_cell(cell, folder, world, callbacks=[check], progress=False).model
    except FloatingPointError:  # a finding about its learning rate
        tuned = None
    _, kept, _ = load_checkpoint(Path(folder)) or (0, {}, "")
    notes = kept.get("notes", {"agreement": torch.empty(0), "pictures": torch.empty(0, SHOWN, *asked.images.shape[2:], dtype=torch.uint8)})
    curve = _curve(cell, world, asked, notes["agreement"].tolist())
    scores = {"step": cell.steps, "sudden_convergence": convergence_step(curve)} | _scores(cell, world, tuned)
    tables = [[cell.identity | row for row in rows] for rows in (curve, [scores], _losses(cell, world, tuned))]
    return Found(*tables, notes["pictures"])


def tune_cell(
    cell: ControlCell, folder: str | Path, world: World, *, callbacks: Sequence[Callback] = (), progress: bool = True
) -> FineTuned:
    """The training of a cell, without its measurements."""
    method = CONTROL_METHODS[cell.method]
    config = DiffTuningConfig(
        steps=cell.steps, batch_size=cell.batch_size, learning_rate=cell.learning_rate, label_drop=ControlNetConfig.label_drop, seed=cell.seed,
        checkpoint_every=cell.check_every, keep_checkpoints=1, **method.options,
    )  # fmt: skip
    return fine_tune_controlnet(
        world.base, world.training.subset(range(cell.training_pictures)), world.bank if method.replays else None, config, kind=cell.kind,
        folder=folder, captions=CaptionAs(cell.called), bank_control=method.bank_control, callbacks=callbacks, progress=progress,
    )  # fmt: skip


def convergence_step(curve: Sequence[Row]) -> int | None:
    """The step of sudden convergence of one run's rows of `agreement`; None where it has not come."""
    steps, scaled = ([number(row[name]) for row in curve] for name, number in (("step", int), ("scaled", float)))
    return sudden_convergence_step(steps, scaled, threshold=THRESHOLD, k=HELD)


def floor_rows(cell: ControlCell, world: World | None = None) -> list[Row]:
    """What the base without condition and real pictures score by a cell's measures: rows like its scores, with the mean `agreement` on the checked set."""
    world, rows = world or shipped_world(cell.task), []
    checked, scored = _asked(cell, cell.split, cell.checked, world), _scored_set(cell, world)
    for pictures, of_checked, of_scored in (
        ("base without condition", _draw(world.base, checked, cell.check_sampling_steps), _draw_guided(cell, world.base, scored)),
        ("real, through the autoencoder", _decoded(world.base, checked), _decoded(world.base, scored)),
    ):
        own = {"pictures": pictures, "agreement": float(_agreement(cell.kind, checked, of_checked).mean())}
        rows.append(cell.identity | {"method": "none"} | own | _measures(cell, world, scored, of_scored))
    return rows


def ask(kind: Kind, task: Task, count: int, captions: Captioner = caption_pictures) -> Asked:
    """Prompts and conditions of `count` pictures spread evenly over a task."""
    chosen = spread_evenly(len(task), min(count, len(task)))
    images = task.read(chosen)
    prompts = captions(images, [task.class_names[label] for label in task.labels[chosen].tolist()])
    return Asked(images, prompts, annotate(kind, images))


def _curve(cell: ControlCell, world: World, asked: Asked, agreement: Sequence[float]) -> list[Row]:
    """A row for each check; step 0 is the base's, which a new ControlNet leaves as it is."""
    base = _agreement(cell.kind, asked, _draw(world.base, asked, cell.check_sampling_steps))
    real = _agreement(cell.kind, asked, _decoded(world.base, asked))
    found = [float(base.mean()), *agreement]
    scaled = scale_agreement(torch.tensor(found), base=base, real=real).tolist()
    return [
        {"step": check * cell.check_every, "agreement": value, "scaled": share} for check, (value, share) in enumerate(zip(found, scaled))
    ]


def _scores(cell: ControlCell, world: World, tuned: Pretrained | None) -> Row:
    if tuned is None:
        return dict.fromkeys((*SCORES, "caption_agreement"), math.inf)
    scored = _scored_set(cell, world)
    return _measures(cell, world, scored, _draw_guided(cell, tuned, scored))


def _scored_set(cell: ControlCell, world: World) -> Asked:
    """Of the other held-out split than the reference, whose own pictures must not be asked for."""
    other = {"validation": "test", "test": "validation"}[cell.split]
    return _asked(cell, other, cell.samples, world)


def _asked(cell: ControlCell, split: str, count: int, world: World) -> Asked:
    return ask(cell.kind, world.held_out[split], count, CaptionAs(cell.called))


def _measures(cell: ControlCell, world: World, scored: Asked, images: Tensor) -> Row:
    """Distances to the reference, and how far the pictures follow their prompts."""
    found, follows = evaluate(images, world.held_out[cell.split]), caption_agreement(scored.prompts, images)
    return {name: found[name] for name in SCORES} | {"caption_agreement": float(follows.nanmean())}


def _losses(cell: ControlCell, world: World, tuned: Pretrained | None) -> list[Row]:
    """For each held-out set and tenth of the chain the base's loss `before`, told the prompt, and `after`, told the condition, too."""
    rows = []
    target, source = _asked(cell, cell.split, cell.loss_pictures, world), ask(cell.kind, world.source, cell.loss_pictures)
    for data, asked in {"target": target, "source": source}.items():
        before, after = _loss(world.base, asked), [math.inf] * 10 if tuned is None else _loss(tuned, asked)
        rows += [{"data": data, "tenth": tenth + 1, "before": before[tenth], "after": after[tenth]} for tenth in range(10)]
    return rows


def _loss(model: Pretrained, asked: Asked) -> list[float]:
    told = {"text": model.denoiser.tokens(asked.prompts)} | _control(model, asked)
    labels = torch.full((len(asked.images),), model.null_label)
    return losses_by_tenth(model, asked.images, labels, each=TIMESTEPS, seed=NOISE_SEED, conditions=told).tolist()


def _agreement(kind: Kind, asked: Asked, images: Tensor) -> Tensor:
    """Of each picture's condition with the one asked for, (N,)."""
    return condition_agreement(kind, asked.conditions, annotate(kind, images))


def _draw(model: Pretrained, asked: Asked, steps: int, guidance: float = 1.0) -> Tensor:
    """A picture for each prompt, under the conditions where the model has a ControlNet; all models from the same noise."""
    return sample(
        model, asked.prompts, steps=steps, guidance=guidance, seed=NOISE_SEED, conditions=_control(model, asked), progress=False
    )  # fmt: skip


def _draw_guided(cell: ControlCell, model: Pretrained, asked: Asked) -> Tensor:
    return _draw(model, asked, cell.sampling_steps, cell.guidance)


def _control(model: Pretrained, asked: Asked) -> dict[str, Tensor]:
    return {} if model.denoiser.controlnet is None else {"control": asked.conditions}


def _decoded(base: Pretrained, asked: Asked) -> Tensor:
    """The pictures once through the autoencoder: no latent model draws better ones."""
    return base.decode(base.encode(asked.images)).cpu()
