"""Which pictures lesson 10 measures on: held out of the reader's folder, and known to the model before."""

from __future__ import annotations

import torch
from torch import Tensor

from ...data.tasks import Task, spread_evenly
from ...evaluation.transferability import held_out_source
from ...models.pretrained import Pretrained
from ...sampling import sample

EVERY, MOST = 5, 100  # of a class's pictures one in so many is held out, and no more than so many in all


def split(task: Task) -> tuple[Task, Task]:
    """The pictures to learn from, and some that are held out: of each class the fifth, the tenth, ..., spread evenly where that is too many."""
    held = [
        place for label in range(len(task.class_names)) for place in (task.labels == label).nonzero().flatten()[EVERY - 1 :: EVERY].tolist()
    ]
    if not held:
        raise ValueError(f"no class of {task.name} has {EVERY} pictures: as many are needed to hold one out")
    held = [held[place] for place in spread_evenly(len(held), min(len(held), MOST)).tolist()]
    return task.subset(sorted({*range(len(task))} - {*held})), task.subset(sorted(held))


def old_pictures(pretrained: Pretrained, count: int = 40, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures (count, 3, H, W) of what the model knows, and their labels: held-out pictures of the tiny world's source for the tiny model.

    Any other model draws them itself, of labels spread over its table: what it was trained on is not here.  They are measured without a
    label, since tuning may give the labels' rows to other classes.
    """
    if (source := held_out_source(pretrained)) is not None:
        some = spread_evenly(len(source), count)
        return source.read(some), source.labels[some]
    drawn = sample(pretrained, spread_evenly(len(pretrained.label_names), count), guidance=1.5, seed=seed)
    return drawn, torch.full((count,), pretrained.null_label)
