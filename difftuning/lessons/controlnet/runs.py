"""The runs of the ControlNet study as lesson 08 reads them: tables, and the pictures drawn on the way."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Mapping, NamedTuple

import numpy as np
from torch import Tensor

from ...data.captions import CaptionAs
from ...data.conditions import KINDS, Kind, annotate
from ...data.pictures import to_images
from ...data.tasks import load_task
from ...evaluation.agreement import condition_agreement
from ...studies.control_cells import ControlCell
from ...studies.controlnet import SHOWN, Asked, ask
from ...studies.gains import BUILT_BY, read_table
from ...support.world import data_folder

if TYPE_CHECKING:
    import pandas

STUDY = "controlnet"


class Runs(NamedTuple):
    """A row of `scores` for each run (kind, method, seed); of `agreement` for each check, with its run's `sudden_convergence`; of `losses` for
    each held-out set and tenth; of `floors` for the base and for real pictures.  `pictures`: drawn at each check, by file name."""

    scores: pandas.DataFrame
    agreement: pandas.DataFrame
    losses: pandas.DataFrame
    floors: pandas.DataFrame
    pictures: Path


def read_runs(folder: Path | None = None) -> Runs:
    """The study's tables from data/results, or from another folder; FileNotFoundError where one is not there."""
    folder = folder or data_folder() / "results"
    scores, agreement, losses, floors = (read_table(f"{STUDY}{suffix}", folder) for suffix in ("", "_agreement", "_losses", "_floors"))
    steps = scores[["kind", "method", "seed", "sudden_convergence"]]
    agreement = agreement.merge(steps, on=["kind", "method", "seed"], how="inner")  # an unfinished run has no scores yet
    return Runs(scores, agreement, losses, floors, folder / f"{STUDY}_samples.npz")


def kept_drawings(runs: Runs, method: str = "plain") -> dict[Kind, dict[int, Tensor]]:
    """What a method's first run drew at each check: by condition and step, images (n, 3, H, W) of what `shown_set` asks for."""
    if not runs.pictures.is_file():
        raise FileNotFoundError(f"{runs.pictures} is not there: build it with `{BUILT_BY[STUDY]}`")
    found = {}
    with np.load(runs.pictures, allow_pickle=False) as kept:
        for kind in KINDS:
            mine = runs.scores[(runs.scores.kind == kind) & (runs.scores.method == method)]
            cell = _cell(mine.loc[mine.seed.idxmin()])
            found[kind] = {int(cell.check_every) * (check + 1): to_images(images) for check, images in enumerate(kept[cell.file_name])}
    return found


def shown_set(kind: Kind) -> Asked:
    """Pictures, prompts and conditions of `kept_drawings`: the first of those that are checked."""
    cell = ControlCell(kind, "plain", 0)
    return Asked(*(each[:SHOWN] for each in ask(kind, load_task(cell.task, split=cell.split), cell.checked, CaptionAs(cell.called))))


def own_and_others(kind: Kind, drawings: Mapping[int, Tensor], wanted: Tensor) -> pandas.DataFrame:
    """By step, the drawings' mean agreement with their own condition of `wanted` (n, 3, H, W), and with those of the others: columns step, own, others.

    What a drawing shares with any picture of its kind counts in both; obeying is what its own has more.
    """
    import pandas

    rows = []
    for step, drawn in drawings.items():
        found = annotate(kind, drawn)
        own, *others = (float(condition_agreement(kind, wanted.roll(shift, 0), found).mean()) for shift in range(len(wanted)))
        rows.append({"step": step, "own": own, "others": sum(others) / len(others)})
    return pandas.DataFrame(rows)


def _cell(row: pandas.Series) -> ControlCell:
    """The cell whose row of scores this is."""
    return ControlCell(**{field.name: row[field.name] for field in fields(ControlCell)})
