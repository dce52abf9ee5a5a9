"""Where a model that has just been tuned stands on the plane of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

import numpy as np
import torch
from torch import Tensor

from ...data.tasks import load_source, load_task, spread_evenly
from ...evaluation.chain_of_forgetting import losses_by_tenth
from ...studies.gains import estimate
from .plane import CHAIN, LOSS, Place, View

if TYPE_CHECKING:
    from ...models.pretrained import Pretrained
    from ...training.fine_tuned import FineTuned

EACH = 2  # timesteps of each tenth


def live_places(pretrained: Pretrained, tuned: Mapping[str, FineTuned], view: View, pictures: int = 50) -> dict[str, Place]:
    """Places of tuned models by name, from the losses on `pictures` of the source and of the view's task, all held out from training."""
    if view.measure != LOSS:
        raise ValueError(f"a short run is measured by its loss: take measure {LOSS!r}, not {view.measure!r}")
    images, labels = _some(load_source("heldout"), pictures)
    old = losses_by_tenth(pretrained, images, labels, each=EACH)
    new_images, classes = _some(load_task(view.task, split="test"), pictures)
    nulls = torch.full_like(classes, pretrained.null_label)  # the untouched model knows none of the task's classes
    new = losses_by_tenth(pretrained, new_images, nulls, each=EACH)
    tenths = np.array(CHAIN[view.part]) - 1

    def log_ratio(before: Tensor, after: Tensor) -> float:
        return float((after / before).log()[tenths].mean())

    found = {}
    for name, result in tuned.items():
        old_after = losses_by_tenth(result.model, images, labels, each=EACH)
        new_after = losses_by_tenth(result.model, new_images, result.rows[classes], each=EACH)
        found[name] = Place(*(estimate(np.array([log_ratio(*pair)])) for pair in ((old, old_after), (new, new_after))))
    return found


def _some(held_out, pictures: int) -> tuple[Tensor, Tensor]:
    chosen = spread_evenly(len(held_out), pictures)
    return held_out.read(chosen), held_out.labels[chosen]
